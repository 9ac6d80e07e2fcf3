"""The join of samples that were raw: corrected counts, the last call of doublets, and what is told of reads and droplets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from count_cases import tree
from hypothesis import given, settings
from hypothesis import strategies as st
from merge_cases import frame, merge, put
from scipy.sparse import csr_matrix

from latentomics.config.doublets import Doublets
from latentomics.problems import InputError
from latentomics.scrna import merge as module
from latentomics.scrna.accounts import AMBIENT, DROPLETS, LEDGER, QUANTIFICATION
from latentomics.scrna.doublets.decide import calls_table
from latentomics.scrna.doublets.registry import DoubletCalls
from latentomics.scrna.doublets.run import write_calls
from latentomics.scrna.merge import SampleFiles, gather

GENES = ["g0", "g1", "g2", "g3", "g4", "g5"]


def correct(files: SampleFiles, corrected, shares=None, **facts) -> SampleFiles:
    """What the removal of ambient RNA would leave beside a sample."""
    raw = ad.read_h5ad(files.counts)
    made = replace(
        files,
        **{
            k: files.counts.parent / n
            for k, n in (("corrected", "corrected.h5ad"), ("ambient", "ambient.json"), ("shares", "ambient.parquet"))
        },
    )
    ad.AnnData(csr_matrix(np.asarray(corrected, dtype=np.int32)), obs=raw.obs, var=raw.var).write_h5ad(made.corrected)
    shares = np.full(raw.n_obs, 0.1) if shares is None else shares
    pd.DataFrame({"ambient_share": shares}, index=raw.obs_names).to_parquet(made.shares)
    made.ambient.write_text(
        json.dumps({"method": "decontx", "share": 0.12, "median": 0.1, "removed": 0.08, "notes": [], **facts})
    )
    return made


# Corrected counts


SAMPLES = st.lists(
    st.tuples(st.permutations(GENES).flatmap(lambda g: st.integers(1, 6).map(lambda n: g[:n])), st.integers(1, 6)),
    min_size=1,
    max_size=3,
)


@given(SAMPLES, st.sampled_from(["outer", "inner"]), st.integers(0, 10**6), st.sampled_from([1, 4, 1 << 24]))
@settings(max_examples=10, deadline=None)
def test_equals_a_dense_join_of_both(tmp_path_factory, samples, join, seed, block):
    """Whatever the genes of each sample and their order, both matrices have the same cells and genes."""
    folder = tmp_path_factory.mktemp("merge")
    rng = np.random.default_rng(seed)
    files, raw, less = [], [], []
    for i, (genes, n) in enumerate(samples):
        counts = rng.poisson(1.2, (n, len(genes)))
        corrected = rng.binomial(counts, 0.7)
        files.append(correct(put(folder, f"s{i}", counts, genes), corrected))
        names = [f"s{i}_c{c}" for c in range(n)]
        raw.append(pd.DataFrame(counts, index=names, columns=genes))
        less.append(pd.DataFrame(corrected, index=names, columns=genes))
    raw, less = (pd.concat(parts, join=join).fillna(0).astype(int) for parts in (raw, less))
    order = list(dict.fromkeys(g for genes, _ in samples for g in genes if g in raw))
    left = less[order].sum(axis=1) > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        if not left.any():
            with pytest.raises(InputError):
                merge(folder, files, join)
            return
        merged, store = merge(folder, files, join)
    assert (store.layer, store.raw.layer) == ("corrected", "counts")
    pd.testing.assert_frame_equal(frame(store), less.loc[left, order], check_dtype=False, check_names=False)
    pd.testing.assert_frame_equal(frame(store.raw), raw.loc[left, order], check_dtype=False, check_names=False)
    assert set(merged.ledger.loc[merged.ledger["kind"] == "cell", "observation"]) == set(left.index[~left])


def test_annotations_of_both(tmp_path):
    counts = [[5, 3, 0], [4, 0, 2], [9, 9, 9]]
    files = correct(put(tmp_path, "a", counts, GENES[:3], drop=[2]), [[4, 3, 0], [4, 0, 0], [0, 0, 0]], [0.1, 0.3, 1.0])
    merged, store = merge(tmp_path, [files])
    assert list(store.obs["total_counts"]) == [8, 6], "the raw ones, which quality control judged"
    assert list(store.obs["corrected_counts"]) == list(store.totals) == [7, 4]
    assert list(store.raw.totals) == [8, 6]
    assert list(store.obs["ambient_share"]) == [0.1, 0.3]
    assert list(merged.cells["ambient_share"]) == [0.1, 0.3, 1.0]
    assert list(merged.ledger["reason"]) == ["low counts"], "a cell that was dropped before keeps its reason"


def test_cells_that_lose_all_their_counts_are_dropped(tmp_path):
    one = correct(put(tmp_path, "a", [[5, 0], [0, 2], [1, 1]], ["g0", "g1"]), [[4, 0], [0, 0], [0, 1]])
    two = correct(put(tmp_path, "b", [[3, 1], [2, 2]], ["g0", "g2"]), [[2, 0], [0, 2]])
    merged, store = merge(tmp_path, [one, two])
    assert list(store.obs.index) == ["a_c0", "a_c2", "b_c0", "b_c1"]
    assert tuple(merged.ledger.columns) == LEDGER
    assert merged.ledger.to_numpy().tolist() == [
        ["a_c1", "cell", "a", "ambient", "no counts after ambient removal", 0.0, 1.0]
    ]
    assert list(merged.samples["notes"]) == ["1 cells have no counts after the removal of ambient RNA", ""]
    assert list(merged.samples["n_kept"]) == [2, 2]
    inner, store = merge(tmp_path, [one, two], "inner")
    assert list(store.obs.index) == ["a_c0", "b_c0"]
    reasons = inner.cells["reason"]
    assert reasons["a_c1"] == "no counts in shared genes", "it had none before, either"
    assert reasons[["a_c2", "b_c1"]].tolist() == ["no counts in shared genes"] * 2, "corrected counts, in other genes"


def test_nobody_is_left(tmp_path):
    files = correct(put(tmp_path, "a", [[5, 0], [0, 2]], ["g0", "g1"], drop=[0]), [[0, 0], [0, 0]])
    what = r"no cell of any sample is left \(1 low counts, 1 no counts after ambient removal\)(.|\n)*Hint:"
    with pytest.raises(InputError, match=what):
        merge(tmp_path, [files])
    assert not (tmp_path / "counts.zarr").exists()


def test_what_cannot_be_a_correction_is_refused(tmp_path):
    plain, files = (put(tmp_path, s, [[5, 1], [2, 2]], ["g0", "g1"]) for s in "ab")
    with pytest.raises(ValueError, match="some samples have corrected counts and others have none"):
        merge(tmp_path, [plain, correct(files, [[1, 1], [1, 1]])])
    with pytest.raises(ValueError, match="larger than the raw one"):
        merge(tmp_path, [correct(files, [[1, 1], [3, 1]])])
    made = correct(files, [[1, 1], [1, 1]])
    for part, of in (("obs", "obs_names"), ("var", "var_names")):
        other = ad.read_h5ad(files.counts)
        setattr(other, of, list(reversed(getattr(other, of))))
        other.write_h5ad(made.corrected)
        with pytest.raises(ValueError, match=rf"corrected.h5ad and .*counts.h5ad differ in their {part}"):
            merge(tmp_path, [made])


def test_same_bytes_twice(tmp_path):
    files = correct(put(tmp_path, "a", [[5, 1], [2, 2]], ["g0", "g1"]), [[4, 0], [2, 1]])
    tables = [merge(tmp_path / run, [files])[0] for run in ("one", "two")]
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    for name in ("cells", "samples", "ledger", "warnings", "droplets", "quantification", "ambient"):
        assert getattr(tables[0], name).to_csv() == getattr(tables[1], name).to_csv()


# Doublets


def call(files: SampleFiles, name: str, scores, threshold, note="") -> SampleFiles:
    """What a caller with a rule of its own would leave beside a sample."""
    scores = np.asarray(scores, dtype=float)
    calls = DoubletCalls(scores, scores > (np.inf if threshold is None else threshold), threshold, note)
    folder = files.counts.parent / "doublets"
    folder.mkdir(exist_ok=True)
    index = pd.read_parquet(files.cells).index
    to = {"calls": folder / f"{name}.parquet", "facts": folder / f"{name}.json"}
    write_calls(name, calls_table(calls, index), calls, to)
    return replace(files, doublets={**files.doublets, name: to["calls"]})


def scored(folder: Path, scores, **columns) -> SampleFiles:
    """A sample that Scrublet scored where it was read."""
    scores = np.asarray(scores, dtype=float)
    files = put(folder, "a", np.eye(len(scores), dtype=int) + 1, GENES[: len(scores)], **columns)
    cells = pd.read_parquet(files.cells)
    cells["scrublet_score"], cells["scrublet_doublet"] = scores, pd.array(scores > 0.25, dtype="boolean")
    cells["doublet_score"] = scores
    cells.to_parquet(files.cells)
    told = json.loads(files.summary.read_text()) | {"doublet_threshold": 0.25, "notes": ["before"]}
    files.summary.write_text(json.dumps(told))
    return files


def test_the_last_call_is_made_where_all_have_run(tmp_path):
    files = scored(tmp_path, [0.1, 0.9, 0.9, 0.1], label_doublet=["singlet", "doublet", "singlet", "singlet"])
    files = call(files, "solo", [0.99, 0.98, 0.2, np.nan], 0.95, "its note")
    merged, store = merge(tmp_path, [files], doublets=Doublets(methods=["scrublet", "solo"], call="vote"))
    assert list(store.obs.index) == ["a_c0", "a_c2", "a_c3"]
    assert list(merged.cells["doublet"]) == [False, True, False, False]
    assert merged.ledger.to_numpy().tolist() == [["a_c1", "cell", "a", "doublets", "doublet", 1.0, 0.5]]
    row = merged.samples.iloc[0]
    assert (row["n_doublet"], row["n_kept"], row["doublet_threshold"]) == (1, 3, 0.5)
    assert (row["scrublet_threshold"], row["solo_threshold"]) == (0.25, 0.95)
    assert row["doublet_average_precision"] == 1
    assert row["notes"] == "before; its note"
    assert {"scrublet_score", "scrublet_doublet", "solo_score", "solo_doublet"} <= set(store.obs)
    alone, store = merge(tmp_path, [files], doublets=Doublets(methods=["scrublet", "solo"], call="solo"))
    assert list(store.obs.index) == ["a_c2", "a_c3"]
    assert alone.samples["doublet_threshold"][0] == 0.95
    first, _ = merge(tmp_path, [files], doublets=Doublets(methods=["scrublet", "solo"]))
    assert list(first.cells.index[first.cells["doublet"]]) == ["a_c1", "a_c2"]
    assert first.samples["doublet_threshold"][0] == 0.25


def test_calls_given_with_the_data_go_before(tmp_path):
    files = call(scored(tmp_path, [0.1] * 4, hto=["doublet", "singlet", "", ""]), "solo", [0.1, 0.99, 0.99, 0.1], 0.95)
    params = Doublets(methods=["scrublet", "solo"], call="solo", given="hto")
    merged, store = merge(tmp_path, [files], doublets=params)
    assert list(merged.cells["doublet"]) == [True, False, True, False]
    assert list(store.obs.index) == ["a_c1", "a_c3"]


def test_annotated_doublets_reach_a_store_that_anndata_opens(tmp_path):
    files = call(scored(tmp_path, [0.1] * 4), "solo", [0.1, 0.99, 0.99, np.nan], 0.95)
    merge(tmp_path, [files], doublets=Doublets(methods=["scrublet", "solo"], call="solo", drop=False))
    obs = ad.io.read_zarr(tmp_path / "counts.zarr").obs
    assert list(obs["doublet"]) == [False, True, True, False]
    assert list(obs["solo_doublet"].astype("boolean").fillna(False)) == [False, True, True, False]


# Reads and droplets


def test_nothing_is_known_of_filtered_matrices(tmp_path):
    merged, store = merge(tmp_path, [replace(put(tmp_path, "a", np.eye(2), GENES[:2]), droplets=None)])
    for table, columns in (
        (merged.quantification, QUANTIFICATION),
        (merged.ambient, AMBIENT),
        (merged.droplets, DROPLETS),
    ):
        assert (tuple(table.columns), len(table)) == (columns, 0)
    merged.droplets.to_parquet(tmp_path / "droplets.parquet")
    assert not {"n_barcodes", "n_called", "mapping_rate"} & set(merged.samples)
    assert store.layer == "counts"


def test_tables_of_raw_samples(tmp_path):
    warning = {"what": "sample 'a': only 1 % of its reads map", "hint": "is it the reference of another species?"}
    reads = {"technology": "10xv2", "n_reads": 1000, "mapping_rate": 0.01, "warnings": [warning]}
    calling = {"state": "raw", "why": "w", "n_barcodes": 10_000_000, "n_called": 2}
    one = put(
        tmp_path,
        "a",
        np.eye(2),
        ["ENS1", "ENS2"],
        ["MALAT1", ""],
        ambient=[0.9, 0.1],
        facts={"quantification": reads, "calling": calling},
    )
    two = put(tmp_path, "b", np.eye(2), ["ENS1", "ENS2"], ["MALAT1", ""])
    merged, store = merge(tmp_path, [one, two])
    assert merged.quantification.loc[0, ["sample", "technology", "mapping_rate"]].tolist() == ["a", "10xv2", 0.01]
    assert list(merged.quantification["warnings"]) == [warning["what"]]
    found = merged.warnings.to_numpy().tolist()
    assert found == [["warning", "/data/a.h5ad", warning["what"], warning["hint"]]]
    assert merged.ambient.to_numpy().tolist()[0][:2] == ["a", "none"]
    assert list(merged.ambient["top_genes"]) == ["MALAT1 90%; ENS2 10%"]
    assert list(merged.droplets["sample"]) == ["a", "a", "b", "b"]
    assert tuple(merged.droplets.columns) == DROPLETS
    text = merged.samples.to_csv(sep="\t", index=False, float_format="%.8g").splitlines()
    row = dict(zip(text[0].split("\t"), text[1].split("\t"), strict=True))
    assert (row["n_barcodes"], row["n_called"], row["mapping_rate"]) == ("10000000", "2", "0.01")
    assert dict(zip(text[0].split("\t"), text[2].split("\t"), strict=True))["n_barcodes"] == ""
    assert list(store.var.columns) == ["ensembl", "symbol", "n_samples"], "the profile is the samples' own"
    assert not (merged.ledger["kind"] == "droplet").any()


def test_ambient_removal_is_told_by_sample(tmp_path):
    files = [
        correct(put(tmp_path, s, [[2, 1]], ["g0", "g1"], ambient=[0.0, 1.0]), [[1, 1]], share=share, notes=["n", "m"])
        for s, share in (("a", 0.2), ("b", 0.3))
    ]
    merged, _ = merge(tmp_path, files)
    assert merged.ambient.to_numpy().tolist() == [
        ["a", "decontx", 0.2, 0.1, 0.08, "g1 100%", "n; m"],
        ["b", "decontx", 0.3, 0.1, 0.08, "g1 100%", "n; m"],
    ]


def test_files_are_given_to_their_samples():
    """What a study has not is empty; the callers' files are by method, then by sample."""
    inputs = {name: [f"{s}/{name}" for s in "ab"] for name in ("counts", "cells", "summary", "droplets")}
    inputs |= {name: [] for name in ("corrected", "ambient", "shares")}
    inputs["calls"] = [f"{s}/doublets/{name}.parquet" for name in ("solo", "other") for s in "ab"]
    found = gather(inputs)
    assert found == [
        SampleFiles(
            *(Path(f"{s}/{name}") for name in ("counts", "cells", "summary", "droplets")),
            doublets={name: Path(f"{s}/doublets/{name}.parquet") for name in ("solo", "other")},
        )
        for s in "ab"
    ]
    inputs |= {name: [f"{s}/{name}" for s in "ab"] for name in ("corrected", "ambient", "shares")} | {"calls": []}
    assert [f.shares for f in gather(inputs)] == [Path("a/shares"), Path("b/shares")]
    assert gather(inputs)[1].matrices == (Path("b/counts"), Path("b/corrected"))
    assert gather(inputs)[0].doublets == {}
