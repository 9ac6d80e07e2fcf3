"""Config: what is accepted, and every fault named once with its place, its value and what to do."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from latentomics.config.load import load_config, read_yaml
from latentomics.config.model import Config
from latentomics.embed import registry
from latentomics.problems import Problem, listing


@pytest.fixture
def check(tmp_path):
    """Problems of a config file, and what remains of it; ``given`` stands for file and command line merged."""

    def run(text: str | bytes, given: dict[str, Any] | None = None) -> tuple[Config, list[Problem]]:
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        raw, problems = read_yaml(path)
        config, found = load_config(raw if given is None else given, path)
        for problem in (*problems, *found):
            assert problem.file == str(path)
            assert problem.hint
            assert problem.severity == "error"
        return config, problems + found

    return run


def places(problems: list[Problem]) -> set[tuple[str | None, int | None]]:
    found = [(p.key, p.row) for p in problems]
    assert len(set(found)) == len(found), "a fault is listed twice"
    return set(found)


def fields(section: type[BaseModel] = Config, prefix: str = "") -> dict[str, type[BaseModel]]:
    """Dotted path of every section, by an independent walk of the model."""
    found = {prefix: section}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= fields(kind, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "samples: config/samples.tsv\n", "qc:\n", "qc:\n  # n_mads: 3\n", "{}"]
)
def test_what_is_left_out_is_the_default(check, text):
    assert check(text) == (Config(), [])


def test_values_arrive(check):
    config, problems = check(
        "\ufeffseed: 7\r\nqc:\r\n  n_mads: null\r\nfeatures: {target_sum: 1e4}\r\n"
        "clusters:\r\n  resolutions: [2, 0.5]\r\nembeddings: {methods: [scvi]}\r\n"
    )
    assert problems == []
    assert (config.seed, config.qc.n_mads, config.features.target_sum) == (7, None, 1e4)
    assert config.clusters.resolutions == [0.5, 2.0]
    assert (
        config.model_copy(
            update={name: getattr(Config(), name) for name in ("seed", "qc", "features", "clusters", "embeddings")}
        )
        == Config()
    )


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().qc.n_mads = 1


def test_every_key_survives_params_and_json():
    # Rules hand a section to their script as plain values.
    for section in (Config().qc, Config().embeddings, Config().clusters):
        assert type(section)(**json.loads(json.dumps(section.model_dump(mode="json")))) == section


def test_all_faults_at_once_each_with_its_line(check):
    config, problems = check(
        "seeed: 1\n"  # 1
        "seed: -1\n"
        "qc:\n"  # 3
        "  n_mads: 0\n"
        "  n_mad: 3\n"
        "clusters:\n"  # 6
        "  resolutions:\n"
        "    - 0.5\n"
        "    - -2\n"  # 9
        "    - much\n"
        "embeddings:\n"  # 11
        "  methods: [pca, scivi]\n"
        "  scvi:\n"  # 13
        "    n_latent: 3.5\n"
        "    n_layer: 2\n"
        "graph: 15\n"  # 16
        "layouts: [1, 2]\n"
        "report: yes\n"  # 18
        "ingest:\n"
        "  organism: humn\n"
        "features: {target_sum: .inf}\n"  # 21
    )
    assert places(problems) == {
        ("seeed", 1),
        ("seed", 2),
        ("qc.n_mads", 4),
        ("qc.n_mad", 5),
        ("clusters.resolutions.1", 9),
        ("clusters.resolutions.2", 10),
        ("embeddings.methods.1", 12),
        ("embeddings.scvi.n_latent", 14),
        ("embeddings.scvi.n_layer", 15),
        ("graph", 16),
        ("layouts", 17),
        ("report", 18),
        ("ingest.organism", 20),
        ("features.target_sum", 21),
    }
    hints = {p.key: p.hint for p in problems}
    for key, near in (
        ("seeed", "seed"),
        ("qc.n_mad", "n_mads"),
        ("embeddings.methods.1", "scvi"),
        ("embeddings.scvi.n_layer", "n_layers"),
        ("ingest.organism", "human"),
    ):
        assert f"did you mean {near!r}?" in hints[key]
    assert hints["ingest.organism"].endswith("Allowed: auto, human, mouse.")
    values = {p.key: p.value for p in problems}
    assert (values["qc.n_mads"], values["graph"], values["clusters.resolutions.2"]) == (0, 15, "much")
    assert "n_neighbors" in hints["graph"]
    assert config == Config()  # every faulty key fell back


def test_faulty_keys_leave_their_neighbours(check):
    config, problems = check("samples: other.tsv\nqc: {n_mads: -1, min_counts: 300}\ngraph: {n_neighbors: 10, k: 3}\n")
    assert places(problems) == {("qc.n_mads", 2), ("graph.k", 3)}
    assert (config.samples, config.qc.n_mads, config.qc.min_counts, config.graph.n_neighbors) == (
        "other.tsv",
        5,
        300,
        10,
    )


def test_faults_between_keys_are_found_beside_faults_of_keys(check):
    _, problems = check(
        "seed: x\n"
        "qc: {min_counts: 9, max_counts: 8, min_genes: 7, max_genes: 6, n_mads: -1}\n"
        "clusters:\n  resolutions: [1, 1.0]\n"
        "embeddings:\n  methods: [pca, pca]\n  primary: scvi\n"
    )
    assert places(problems) == {
        ("seed", 1),
        ("qc", 2),
        ("qc.n_mads", 2),
        ("clusters.resolutions", 4),
        ("embeddings", 5),
    }
    said = {p.key: p.what for p in problems}
    # one sentence names every crossed pair, for a section is dropped as a whole
    assert "min_counts (9) is above max_counts (8)" in said["qc"]
    assert "min_genes (7) is above max_genes (6)" in said["qc"]
    assert "a method is listed twice" in said["embeddings"]
    assert "primary is 'scvi'" in said["embeddings"]


@pytest.mark.parametrize("text", ["qc: {min_counts: 8, max_counts: 8}", "qc: {min_genes: 0, max_genes: 1}"])
def test_limits_may_touch(check, text):
    assert check(text)[1] == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("qc: {max_mito_percent: no}", "qc.max_mito_percent"),  # as a number: no cell with any such read passes
        ("qc:\n  min_counts: yes", "qc.min_counts"),
        ("seed: true", "seed"),
        ("embeddings: {scvi: {n_layers: on}}", "embeddings.scvi.n_layers"),
        ("clusters: {resolution: off}", "clusters.resolution"),
    ],
)
def test_a_switch_is_no_number(check, text, key):
    config, problems = check(text)
    assert [p.key for p in problems] == [key]
    assert "switch" in problems[0].what
    assert config == Config()


def test_switches_and_choices_keep_their_meaning(check):
    assert check("doublets: {drop: off}")[0].doublets.drop is False
    (problem,) = check("doublets: {call: no}")[1]
    assert "Allowed: auto, vote, none, scrublet, solo." in problem.hint


@pytest.mark.parametrize("text", ["on: 1", "1: 1", "null: 1", "3.5: 1", "2024-01-05: 1", "qc: {}\n? yes\n: 1"])
def test_keys_that_yaml_would_not_call_text(check, text):
    config, problems = check(text)
    (key, _row), *others = places(problems)
    assert not others
    assert key == text.split("? ")[-1].split(":")[0].strip()
    assert problems[0].what == "unknown key"
    assert config == Config()


def test_a_number_as_key_does_not_cost_its_section(check):
    config, problems = check("qc:\n  3: 4\n  n_mads: 2\n")
    assert places(problems) == {("qc.3", 2)}
    assert config.qc.n_mads == 2


def test_keys_that_appear_twice(check):
    _, problems = check(
        "qc:\n  n_mads: 2\n  n_mads: 3\nseed: 1\nqc:\n  n_mads: 4\ngraph: {n_neighbors: 5, n_neighbors: 6}\n"
    )
    assert places(problems) == {("qc.n_mads", 3), ("qc", 5), ("graph.n_neighbors", 7)}
    assert "first in row 1" in next(p.what for p in problems if p.key == "qc")


def test_values_of_the_command_line_have_no_line(check):
    text = "seed: 3\nqc:\n  n_mads: 4\nclusters:\n  resolutions: [1]\n"
    raw = yaml.safe_load(text) | {
        "seed": -3,  # another value than in the file
        "qc": {"n_mads": 4, "min_counts": -1, "more": {"a": 1}},  # not in the file
        "clusters": {"resolutions": [1, -1]},
        "grph": {},
    }
    _, problems = check(text, raw)
    keys = ("seed", "qc.min_counts", "qc.more", "clusters.resolutions.1", "grph")
    assert places(problems) == {(key, None) for key in keys}


def test_keys_of_the_command_line_that_are_no_text(check):
    config, problems = check("", {1: 2, "qc": {3: 4, "n_mads": 2}, None: 5})
    assert places(problems) == {("1", None), ("qc.3", None), ("None", None)}
    assert config.qc.n_mads == 2


def test_values_of_file_and_command_line_together(check):
    _, problems = check(
        "seed: -3\nqc:\n  n_mads: -4\n", {"seed": -3, "qc": {"n_mads": -4}, "graph": {"n_neighbors": 1}}
    )
    assert places(problems) == {("seed", 1), ("qc.n_mads", 3), ("graph.n_neighbors", None)}


def test_faults_reached_through_an_anchor(check):
    _, problems = check("qc: &q {n_mads: -1}\nembeddings:\n  pca:\n    <<: *q\n")
    assert {p.key for p in problems} == {"qc.n_mads", "embeddings.pca.n_mads"}
    assert {p.row for p in problems} == {1, 3}


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("seed: 1\nqc: [1\n", 3),
        ("qc:\n\tn_mads: 3\n", 2),
        ("seed: 1\n--- \nseed: 2\n", 2),
        ("? [a, b]\n: c\n", 1),
        ("report:\n  title: 2024-13-45\n", None),
        ("seed: 0b_\n", None),
        ("seed: \x07", None),
        ("a: &x {b: *x}\n", None),
        ("a: " + "[" * 5000, None),
        ("- 1\n- 2\n", None),
        ("just words", None),
        (b"seed: 1\nreport:\n  title: caf\xe9\n", 3),
        ("x: !!python/object/apply:os.getcwd []\n", 1),
    ],
)
def test_no_yaml(check, text, row):
    config, problems = check(text)
    assert len(problems) == 1
    assert problems[0].row == row
    assert config == Config()


def test_no_file(tmp_path):
    for path in (tmp_path / "config.yaml", tmp_path):
        raw, (problem,) = read_yaml(path)
        assert raw == {}
        assert problem.what.startswith("cannot read the config")
        assert load_config(raw, path) == (Config(), [])


@given(st.sampled_from(sorted(fields())), st.text("abcdefgqu_ -<é中", min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_unknown_keys_anywhere(tmp_path_factory, prefix, word):
    section = fields()[prefix]
    if word in section.model_fields:
        return
    raw: dict[str, Any] = {word: 1}
    for part in reversed(prefix.split(".")[:-1]):
        raw = {part: raw}
    path = tmp_path_factory.getbasetemp() / "unknown.yaml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), "utf-8")
    config, (problem,) = load_config(read_yaml(path)[0], path)
    assert (problem.key, problem.row) == (prefix + word, prefix.count(".") + 1)
    assert problem.what == "unknown key"
    assert problem.hint.endswith(f"Keys known here: {', '.join(section.model_fields)}.")
    near = difflib.get_close_matches(word, section.model_fields, n=1, cutoff=0.6)
    assert problem.hint.startswith("did you mean") == bool(near)
    assert config == Config()


_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Config.model_fields, "other"]), _ODD, max_size=4))
@settings(max_examples=150, deadline=None)
def test_anything_at_all_is_answered(raw):
    config, problems = load_config(raw, Path("no/such/file.yaml"))
    assert isinstance(config, Config)
    keys = [p.key for p in problems]
    assert len(set(keys)) == len(keys)
    assert str(listing(problems))
    if not problems:
        assert Config.model_validate(raw) == config


def test_sections_state_every_key_with_its_meaning():
    for section in fields().values():
        for name, field in section.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name
            assert not field.is_required(), name


def test_embeddings_are_those_of_the_registry(check):
    assert Config().embeddings.methods == list(registry.METHODS)
    for name in registry.METHODS:
        assert type(getattr(Config().embeddings, name)) is registry.method(name).Params
        assert registry.on_gpu(name) is registry.method(name).GPU
