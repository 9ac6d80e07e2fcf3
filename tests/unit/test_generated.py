"""Generated files: each is what the model or the lock says, and says it right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from latentomics.config.generate import _scalar, config_readme, config_yaml, environment_yml, generated_files
from latentomics.config.inputs import FORMATS
from latentomics.config.load import load_config, read_yaml
from latentomics.config.model import Config
from latentomics.config.row import ASSAYS, SAMPLE_NAME
from latentomics.config.sheet import OPTIONAL, REQUIRED

ROOT = Path(__file__).resolve().parents[2]
HOW = "run `python -m latentomics.config.generate` (or `make generate`)"


def test_the_files_are_what_the_generator_makes():
    files = generated_files()
    assert {str(path.relative_to(ROOT)) for path in files} == {
        "workflow/schemas/config.schema.json",
        "config/config.yaml",
        "config/README.md",
        "environment.yml",
    }
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    assert not stale, f"{', '.join(str(p.relative_to(ROOT)) for p in stale)}: {HOW}"


def test_the_generator_mends_them(tmp_path):
    """In a copy: one file edited, one missing, one right."""
    for name in ("workflow/latentomics", "requirements.lock", *(str(p.relative_to(ROOT)) for p in generated_files())):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            target.symlink_to(source)  # replaced below: the generator finds its root by its own place
        else:
            target.write_bytes(source.read_bytes())
    (tmp_path / "workflow/latentomics").unlink()
    for source in (ROOT / "workflow/latentomics").rglob("*.py"):
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    (tmp_path / "config/config.yaml").write_text("seed: 1\n")
    (tmp_path / "environment.yml").unlink()

    def generate() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "latentomics.config.generate"],
            env={"PYTHONPATH": str(tmp_path / "workflow")},
            cwd=tmp_path,
            text=True,
            capture_output=True,
            check=True,
        )
        return done.stdout.split("\n")[:-1]

    assert sorted(generate()) == ["written: config/config.yaml", "written: environment.yml"]
    assert generate() == []
    for path, text in generated_files().items():
        assert (tmp_path / path.relative_to(ROOT)).read_text("utf-8") == text


def plain(section: BaseModel) -> dict:
    return json.loads(json.dumps(section.model_dump(mode="json")))


def test_the_config_file_is_the_defaults():
    raw, problems = read_yaml(ROOT / "config/config.yaml")
    assert problems == []
    config, problems = load_config(raw, ROOT / "config/config.yaml")
    assert (config, problems) == (Config(), [])
    # every key stands in it, with the type that it has: `1e-05` would be text
    assert raw == plain(Config())
    assert repr(raw) == repr(plain(Config()))


def test_the_config_file_says_what_each_key_means():
    lines = config_yaml().splitlines()
    text = " ".join(line.strip().removeprefix("# ") for line in lines)

    def check(section: BaseModel) -> None:
        for name, field in type(section).model_fields.items():
            assert field.description in text, name
            if isinstance(getattr(section, name), BaseModel):
                check(getattr(section, name))

    check(Config())
    assert max(map(len, lines)) <= 120
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(.*)", lines[0]).group(1)
    assert (ROOT / "config" / schema).resolve() == ROOT / "workflow/schemas/config.schema.json"


_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(_VALUES | st.lists(_VALUES, max_size=3))
def test_any_default_can_be_written(value):
    text = f"key: {_scalar(value)}\nnext: 1\n"
    assert yaml.safe_load(text) == {"key": value, "next": 1}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("none", "none"),
        ("null", "'null'"),
        ("on", "'on'"),
        ("yes", "'yes'"),
        (1e-5, "1.0e-05"),
        (None, "null"),
        (True, "true"),
        ([], "[]"),
    ],
)
def test_values_as_a_person_writes_them(value, text):
    assert _scalar(value) == text


def test_a_long_default_stays_on_its_line():
    assert _scalar("word " * 40 + "end") == "word " * 40 + "end"


def test_the_schema_agrees_with_the_model():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    for good in ({}, yaml.safe_load(config_yaml()), {"seed": 3, "embeddings": {"methods": ["pca"]}}):
        validator(schema).validate(good)
        Config.model_validate(good)
    for bad in ({"sed": 1}, {"seed": -1}, {"qc": {"n_mad": 1}}, {"embeddings": {"methods": ["umap"]}}, {"qc": 5}):
        assert list(validator(schema).iter_errors(bad)), bad
        with pytest.raises(ValueError, match="validation error"):
            Config.model_validate(bad)


def test_the_manual_names_every_key_and_column():
    text = config_readme()

    def check(section: BaseModel, prefix: str) -> None:
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, BaseModel):
                check(value, f"{prefix}{name}.")
            else:
                (row,) = [line for line in text.splitlines() if line.startswith(f"| `{prefix}{name}` |")]
                assert f"| `{json.dumps(value)}` |" in row
                assert row.count("|") == 5, row

    check(Config(), "")
    # planned for inputs that this version does not read
    for column in {*REQUIRED, *OPTIONAL} - {"none"}:
        assert f"| `{column}` |" in text, column
    for word in (*(form for forms in FORMATS.values() for form in forms), *ASSAYS, SAMPLE_NAME.pattern):
        assert f"`{word}`" in text


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    found = [re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    names = [canonical(match.group(1)) for match in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, (match.group(2) for match in found), strict=True))


def lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    return pins([line for line in lines if line and not line.startswith("#")])


def test_environment_and_lock_pin_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert set(environment) == {"name", "channels", "dependencies"}
    python, pip, packages = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert pins(packages["pip"]) == lock()


def test_environment_of_a_small_lock():
    made = yaml.safe_load(environment_yml("# a note\n\nnumpy==2.4.6\n  \nzarr==3.1.6 # why\r\n"))
    assert made["dependencies"][-1] == {"pip": ["numpy==2.4.6", "zarr==3.1.6"]}


def direct() -> dict[str, str]:
    """Direct dependencies of the package and of its tests, with what they ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    parts = [re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(.*)", line) for line in wanted]
    return {canonical(match.group(1)): match.group(2) for match in parts}


def test_every_direct_dependency_is_locked_within_its_bounds():
    packaging = pytest.importorskip("packaging.specifiers")
    locked = lock()
    assert set(direct()) <= set(locked)
    for name, bounds in direct().items():
        assert packaging.SpecifierSet(bounds).contains(locked[name]), f"{name}{bounds}: locked at {locked[name]}"


def test_everything_imported_is_a_direct_dependency():
    modules: set[str] = set()
    for path in (ROOT / "workflow").rglob("*.py"):
        modules |= set(re.findall(r"^\s*(?:import|from) ([A-Za-z0-9_]+)", path.read_text("utf-8"), flags=re.MULTILINE))
    owners = metadata.packages_distributions()
    imported = {canonical(owners[m][0]) for m in modules if m in owners and m not in sys.stdlib_module_names}
    assert imported - {"latentomics"} <= set(direct())
