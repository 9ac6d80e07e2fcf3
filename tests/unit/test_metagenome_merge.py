"""Joining profiles: every sample and taxon is in the store or in the ledger, and the numbers add up."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from count_cases import tree
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.config.taxa import Taxa
from latentomics.io.store import CountsStore
from latentomics.metagenome import lineage
from latentomics.metagenome.merge import LEDGER, merge_profiles, taxon_matrix
from latentomics.metagenome.tables import PROFILE
from latentomics.problems import InputError

ALL = Taxa(min_prevalence=0, min_abundance=0, min_reads=0)
SUBTILIS = "d__Bacteria;p__Bacillota;g__Bacillus;s__Bacillus subtilis"
CEREUS = "d__Bacteria;p__Bacillota;g__Bacillus;s__Bacillus cereus"
BACILLUS = "d__Bacteria;p__Bacillota;g__Bacillus"
COLI = "d__Bacteria;p__Pseudomonadota;g__Escherichia;s__Escherichia coli"
K12 = COLI + ";t__K-12"
CUTIS = "d__Bacteria;p__Actinomycetota;g__Cutibacterium;s__Cutibacterium acnes"


def profile(sample: str, reads: dict[str, float], failed: dict[str, float] | None = None, relative: bool = False):
    """A profile as every profiler writes it."""
    total = sum(reads.values())
    rows = []
    for text, value in {**reads, **(failed or {})}.items():
        kept = text in reads
        rows.append(
            {
                "sample": sample,
                "taxon": lineage.name_of(text),
                "rank": lineage.rank_of(text),
                "lineage": text,
                "reads": np.nan if relative else float(value),
                "evidence": 3.0,
                "expected_evidence": 9.0,
                "abundance": value / total if total else 0.0,
                "abundance_plain": value / total if total else 0.0,
                "kept": kept,
                "reason": "" if kept else "too few distinct k-mers",
            }
        )
    return pd.DataFrame(rows, columns=list(PROFILE)).astype({"kept": bool})


def study(path, reads: dict[str, dict[str, float]], params: Taxa = ALL, relative: bool = False, **covariates):
    """Merge one profile per sample; covariates are lists in the order of the samples."""
    profiles = [profile(name, taxa, relative=relative) for name, taxa in reads.items()]
    return merge_all(path, profiles, list(reads), params, relative, **covariates)


def merge_all(path, profiles, names, params=ALL, relative=False, **covariates):
    summaries = [summary(name, table, relative) for name, table in zip(names, profiles, strict=True)]
    observations = [
        pd.DataFrame({k: [v[i]] for k, v in covariates.items()}, index=pd.Index([name], name="sample_id"), dtype=object)
        for i, name in enumerate(names)
    ]
    merged = merge_profiles(profiles, summaries, observations, params, path / "counts.zarr", "samples.tsv")
    return merged, CountsStore(path / "counts.zarr")


def summary(name: str, table: pd.DataFrame, relative: bool = False, **changes):
    total = None if relative else float(table["reads"].sum())
    return {
        "sample": name,
        "source": "reads",
        "profiler": "sourmash",
        "version": "4",
        "database": "db",
        "values": "relative" if relative else "counts",
        "observations": [{"sample": name, "total_reads": total, "classified_reads": total, "unclassified_share": 0.25}],
        "notes": [],
    } | changes


def dense(store: CountsStore) -> pd.DataFrame:
    return pd.DataFrame(store.select().toarray(), index=store.obs.index, columns=store.var.index)


def test_counts_reach_the_store(tmp_path):
    reads = {"A": {SUBTILIS: 10, COLI: 30}, "B": {COLI: 7.6, BACILLUS: 2.5}}
    merged, store = study(tmp_path, reads, condition=["x", "y"], batch=["1", "1"])
    expected = pd.DataFrame(
        {
            "Bacillus (unclassified species)": [0, 2],  # 2.5 is rounded half to even
            "Bacillus subtilis": [10, 0],
            "Escherichia coli": [30, 8],
        },
        index=["A", "B"],
    )
    pd.testing.assert_frame_equal(dense(store), expected, check_names=False, check_dtype=False)
    assert store.values == "counts" and store.select().dtype == np.int32
    assert list(store.obs["condition"]) == ["x", "y"] and store.obs["condition"].dtype == "category"
    assert list(store.obs["total_counts"]) == [40, 10] and list(store.obs["n_taxa"]) == [2, 2]
    assert list(store.obs["unclassified_share"]) == [0.25, 0.25] and "control" not in store.obs
    var = store.var.loc["Bacillus (unclassified species)"]
    assert (var["lineage"], var["rank"], var["taxon"]) == (BACILLUS, "genus", "Bacillus")
    assert (var["domain"], var["genus"], var["species"]) == ("Bacteria", "Bacillus", "")
    assert store.var.loc["Escherichia coli", "symbol"] == "E. coli"
    assert store.var["n_samples"].to_list() == [1, 1, 2]
    assert store.var.loc["Escherichia coli", "mean_abundance"] == pytest.approx((0.75 + 0.8) / 2)
    assert merged.ledger.empty and list(merged.ledger.columns) == list(LEDGER)
    assert merged.warnings.empty and list(merged.warnings.columns) == ["severity", "where", "message", "hint"]
    assert merged.samples["kept"].all() and merged.samples["total_counts"].to_list() == [40, 10]
    assert ad.io.read_zarr(tmp_path / "counts.zarr").shape == (2, 3)


@pytest.mark.parametrize(
    ("rank", "taxa"),
    [
        ("strain", {"Escherichia coli (unclassified strain)": 1, "K-12": 2, "Bacillus (unclassified strain)": 4}),
        ("species", {"Escherichia coli": 3, "Bacillus (unclassified species)": 4}),
        ("genus", {"Escherichia": 3, "Bacillus": 4}),
        ("family", {"Pseudomonadota (unclassified family)": 3, "Bacillota (unclassified family)": 4}),
        ("domain", {"Bacteria": 7}),
    ],
)
def test_ranks(tmp_path, rank, taxa):
    params = ALL.model_copy(update={"rank": rank})
    _, store = study(tmp_path, {"A": {COLI: 1, K12: 2, BACILLUS: 4, "": 8}}, params)
    assert dense(store).iloc[0].to_dict() == taxa | {f"root (unclassified {rank})": 8}


LINEAGES = st.sampled_from([SUBTILIS, CEREUS, BACILLUS, COLI, K12, CUTIS, "", "s__Bacillus subtilis"])


@given(
    st.lists(st.dictionaries(LINEAGES, st.integers(0, 50), max_size=6), min_size=1, max_size=6),
    st.sampled_from(list(lineage.RANKS)),
)
@settings(max_examples=60, deadline=None)
def test_summing_at_a_rank_loses_no_read(samples, rank):
    names = pd.Index([f"S{i}" for i in range(len(samples))])
    table = pd.concat([profile(name, taxa) for name, taxa in zip(names, samples, strict=True)], ignore_index=True)
    var, X = taxon_matrix(table, names, rank, relative=False)
    np.testing.assert_array_equal(np.asarray(X.sum(axis=1)).ravel(), [sum(taxa.values()) for taxa in samples])
    assert var.index.is_unique and X.shape == (len(names), len(var))
    depth = list(lineage.RANKS).index(rank)
    assert all(r == "root" or list(lineage.RANKS).index(r) <= depth for r in var["rank"])


def test_homonyms_stay_apart_and_bare_names_find_their_lineage(tmp_path):
    fungus = "d__Eukaryota;p__Ascomycota;g__Lactaria;s__uncultured bacterium"
    other = "d__Bacteria;p__Bacillota;g__Lactaria;s__uncultured bacterium"
    third = "d__Bacteria;p__Bacillota;g__Sarcina;s__uncultured bacterium"
    _, store = study(tmp_path, {"A": {fungus: 1, third: 2, SUBTILIS: 3}, "B": {"s__Bacillus subtilis": 4, other: 5}})
    counts = dense(store)
    assert counts["Bacillus subtilis"].to_list() == [3, 4]
    assert counts["uncultured bacterium [Sarcina]"].to_list() == [2, 0]
    assert counts[fungus].to_list() == [1, 0] and counts[other].to_list() == [0, 5]
    assert store.var.loc["Bacillus subtilis", "lineage"] == SUBTILIS


def test_evidence_filter_is_accounted_for(tmp_path):
    table = profile("A", {COLI: 20}, failed={CUTIS: 5})
    merged, store = merge_all(tmp_path, [table], ["A"])
    assert list(store.var.index) == ["Escherichia coli"]
    row = merged.ledger.iloc[0].to_dict()
    assert np.isnan(row.pop("limit")), "the reason names it"
    assert row == {
        "observation": "Cutibacterium acnes",
        "kind": "taxon",
        "sample": "A",
        "rule": "evidence",
        "reason": "too few distinct k-mers",
        "value": 3.0,
    }


def with_controls(n_control: int = 6, n_sample: int = 20):
    """Cutibacterium in every control and one sample, E. coli in every sample and, by cross-talk, one control."""
    reads = {f"S{i:02}": {COLI: 100, SUBTILIS: 50} | ({CUTIS: 3} if i == 0 else {}) for i in range(n_sample)}
    reads |= {f"N{i}": {CUTIS: 40} | ({COLI: 1} if i == 0 else {}) for i in range(n_control)}
    return reads, {"control": [""] * n_sample + ["yes"] * n_control}


def test_contaminants_and_controls_leave(tmp_path):
    reads, control = with_controls()
    merged, store = study(tmp_path, reads, **control)
    assert list(store.var.index) == ["Bacillus subtilis", "Escherichia coli"]
    assert list(store.obs.index) == [name for name in reads if name[0] == "S"]
    assert dense(store).to_numpy().tolist() == [[50, 100]] * 20
    ledger = merged.ledger.set_index("observation")
    assert ledger.loc["Cutibacterium acnes", ["kind", "rule"]].to_list() == ["taxon", "contaminants"]
    assert ledger.loc["Cutibacterium acnes", "value"] < ledger.loc["Cutibacterium acnes", "limit"] == 0.1
    assert (ledger.drop("Cutibacterium acnes")["rule"] == "control").all() and len(ledger) == 7
    samples = merged.samples.set_index("sample")
    assert samples.loc["N0", ["control", "kept", "reason"]].to_list() == ["yes", False, "control"]
    assert merged.warnings.empty


def test_contaminant_test_off_leaves_only_the_controls_out(tmp_path):
    reads, control = with_controls()
    merged, store = study(tmp_path, reads, ALL.model_copy(update={"contaminant_threshold": None}), **control)
    assert "Cutibacterium acnes" in store.var.index and store.shape[0] == 20
    assert set(merged.ledger["rule"]) == {"control"}


def test_contaminants_by_batch(tmp_path):
    """Each batch has its own contaminant; together, the other batch's samples hide them."""
    reads, control, batch = {}, [], []
    for b, mine in (("b1", CUTIS), ("b2", SUBTILIS)):
        for i in range(12):
            reads[f"{b}_S{i:02}"] = (
                {COLI: 100} if b == "b1" and i % 3 else {COLI: 100, SUBTILIS if b == "b1" else CUTIS: 9}
            )
            control.append("no")
        for i in range(4):
            reads[f"{b}_N{i}"] = {mine: 40}
            control.append("1")
        batch += [b] * 16
    together, _ = study(tmp_path, reads, control=control, batch=batch)
    params = ALL.model_copy(update={"contaminants_by_batch": True})
    alone, _ = study(tmp_path, reads, params, control=control, batch=batch)
    caught = [set(m.ledger.query("rule == 'contaminants'")["observation"]) for m in (together, alone)]
    assert caught[1] == {"Cutibacterium acnes", "Bacillus subtilis"} and caught[0] < caught[1]


@pytest.mark.parametrize(
    ("n_control", "n_sample", "says"), [(1, 3, "cannot show"), (2, 20, "only 2 negative controls")]
)
def test_weak_controls_are_pointed_out(tmp_path, n_control, n_sample, says):
    reads, control = with_controls(n_control, n_sample)
    merged, _ = study(tmp_path, reads, **control)
    assert len(merged.warnings) == 1 and says in merged.warnings["message"][0]


def test_samples_with_few_reads_leave(tmp_path):
    reads = {"A": {COLI: 100}, "B": {COLI: 99.4}, "C": {}, "D": {COLI: 60, SUBTILIS: 40}}
    merged, store = study(tmp_path, reads, ALL.model_copy(update={"min_reads": 100}))
    assert list(store.obs.index) == ["A", "D"]
    assert merged.ledger[["observation", "rule", "value", "limit"]].to_numpy().tolist() == [
        ["B", "min_reads", 99.0, 100],
        ["C", "min_reads", 0.0, 100],
    ]
    assert "2 of 4 samples" in merged.warnings["message"][0]
    assert merged.samples.set_index("sample").loc["C", ["kept", "n_taxa"]].to_list() == [False, 0]


def test_rare_taxa_leave(tmp_path):
    reads = {f"S{i}": {COLI: 1000} | ({SUBTILIS: 100} if i < 3 else {}) | ({CUTIS: 1}) for i in range(10)}
    reads["S9"] = {COLI: 1000, CEREUS: 500}
    params = Taxa(min_prevalence=0.3, min_abundance=0.01)
    merged, store = study(tmp_path, reads, params)
    assert set(store.var.index) == {"Escherichia coli", "Bacillus subtilis"}, "3 of 10 is a share of 0.3"
    rare = merged.ledger.set_index("observation")
    assert rare.loc["Cutibacterium acnes", ["rule", "value", "limit"]].to_list() == ["prevalence", 0.0, 0.3]
    assert rare.loc["Bacillus cereus", "value"] == pytest.approx(0.1)
    assert "1 samples lose more than 25%" in merged.warnings["message"][0] and "'S9'" in merged.warnings["message"][0]


def test_a_sample_of_rare_taxa_alone_leaves_too(tmp_path):
    reads = {f"S{i}": {COLI: 500} for i in range(9)} | {"odd": {CUTIS: 500}}
    merged, store = study(tmp_path, reads, Taxa(min_prevalence=0.2))
    assert store.shape == (9, 1)
    assert merged.ledger[["observation", "kind", "rule"]].to_numpy().tolist() == [
        ["Cutibacterium acnes", "taxon", "prevalence"],
        ["odd", "sample", "prevalence"],
    ]


def test_relative_tables(tmp_path):
    reads = {"A": {SUBTILIS: 0.25, COLI: 0.75}, "B": {COLI: 1.0}, "C": {}}
    merged, store = study(tmp_path, reads, ALL, relative=True)
    assert store.values == "relative" and store.select().dtype == np.float32
    np.testing.assert_allclose(dense(store).to_numpy(), [[0.25, 0.75], [0, 1]])
    assert (
        merged.ledger["observation"].to_list() == ["C"] and merged.ledger["reason"][0] == "nothing classified is left"
    )
    assert merged.samples["total_reads"].isna().all()


def test_bad_studies(tmp_path):
    table = profile("A", {COLI: 5})
    empty = pd.DataFrame(index=pd.Index(["A"], name="sample_id"))

    def merge(profiles, summaries, params=ALL, obs=empty):
        return merge_profiles(profiles, summaries, [obs] * len(profiles), params, tmp_path / "s", "samples.tsv")

    with pytest.raises(InputError, match=r"1 observations occur twice, the first in A and other of the sheet") as error:
        merge([table, table], [summary("A", table), summary("A", table, sample="other")])
    assert error.value.problems[0].value == "A"
    shares = profile("B", {COLI: 1.0}, relative=True)
    with pytest.raises(
        InputError, match=r"counts and relative abundances cannot share a study \(counts: A; relative: B"
    ):
        merge([table, shares], [summary("A", table), summary("B", shares, relative=True)])
    with pytest.raises(InputError, match="no sample is left: 0 controls, 1 with too few classified reads"):
        merge([table], [summary("A", table)], Taxa())
    with pytest.raises(InputError, match="no sample is left: 1 controls"):
        merge([table], [summary("A", table)], obs=pd.DataFrame({"control": ["yes"]}, index=empty.index))
    thin = profile("A", {COLI: 5, SUBTILIS: 5})
    with pytest.raises(InputError, match="no taxon is present in 1 of the samples"):
        merge([thin], [summary("A", thin)], Taxa(min_reads=0, min_abundance=0.9))
    assert not (tmp_path / "s").exists(), "nothing half-written is left behind"


def test_warnings_of_tables_tools_and_design(tmp_path):
    tables = [profile(name, {COLI: 500}) for name in "AB"]
    hint = {"file": "t.tsv", "what": "no lineage", "hint": "add it."}
    summaries = [
        summary("A", tables[0], warnings=[hint]),
        summary(
            "B",
            tables[1],
            profiler="Kraken2",
            observations=[
                {"sample": "B", "total_reads": 9000.0, "classified_reads": 500.0, "unclassified_share": 0.94}
            ],
        ),
    ]
    obs = [
        pd.DataFrame({"batch": [b], "condition": [c], "source": ["soil"]}, index=[name])
        for name, b, c in (("A", "1", "x"), ("B", "2", "y"))
    ]
    merged = merge_profiles(tables, summaries, obs, ALL, tmp_path / "s", "samples.tsv")
    text = " | ".join(merged.warnings["message"])
    assert merged.warnings.iloc[0].to_list() == ["warning", "t.tsv", "no lineage", "add it."]
    for part in (
        "profiled in 2 ways (Kraken2 4 db; sourmash 4 db)",
        "more than 80% unclassified",
        "batch is confounded",
    ):
        assert part in text
    assert list(CountsStore(tmp_path / "s").obs["source"]) == ["soil", "soil"], "a covariate may be called source"
    assert merged.samples["source"].to_list() == ["reads", "reads"]


@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_everything_is_kept_or_in_the_ledger(tmp_path_factory, seed):
    """Random studies: samples and taxa are partitioned, stored counts are the summed reads of what was kept."""
    rng = np.random.default_rng(seed)
    pool = [f"d__Bacteria;g__G{i};s__G{i} s{j}" for i in range(6) for j in range(3)]
    reads = {
        f"S{i}": {t: float(rng.integers(1, 80)) for t in rng.choice(pool, rng.integers(1, 9), replace=False)}
        for i in range(12)
    }
    control = [["", "yes"][i % 4 == 0] for i in range(12)]
    params = Taxa(min_reads=60, min_prevalence=0.25, min_abundance=0.02, contaminant_threshold=0.4)
    merged, store = study(tmp_path_factory.mktemp("m"), reads, params, control=control)
    ledger = merged.ledger
    seen = set().union(*reads.values())
    gone = set(ledger.query("kind == 'taxon'")["observation"])
    names = {lineage.name_of(t) for t in seen}
    assert set(store.var.index) | gone == names and not set(store.var.index) & gone
    out = ledger.query("kind == 'sample'")["observation"]
    assert out.is_unique and set(store.obs.index) | set(out) == set(reads) and not set(store.obs.index) & set(out)
    assert set(merged.samples.loc[merged.samples["kept"], "sample"]) == set(store.obs.index)
    counts = dense(store)
    for sample in counts.index:
        for taxon in counts.columns:
            assert counts.loc[sample, taxon] == reads[sample].get(store.var.loc[taxon, "lineage"], 0)
    assert (counts.to_numpy().sum(axis=1) == store.obs["total_counts"]).all() and (counts.sum(axis=0) > 0).all()


def test_two_runs_give_the_same_bytes(tmp_path):
    reads, control = with_controls()
    results = []
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        merged, _ = study(tmp_path / run, reads, **control)
        tables = [getattr(merged, t).to_csv() for t in ("samples", "ledger", "warnings")]
        results.append((tree(tmp_path / run), tables))
    assert results[0] == results[1]
