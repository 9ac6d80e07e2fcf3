"""The join of samples against a dense pandas reference, and the account of what was left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from count_cases import GENE_SETS, tree
from hypothesis import given, settings
from hypothesis import strategies as st
from merge_cases import frame, merge, put, write
from sample_cases import cells as simulated
from sample_cases import one_sample, sheet_row, write_format

from latentomics.config.doublets import Doublets
from latentomics.io.store import CountsWriter
from latentomics.problems import InputError
from latentomics.scrna import merge as module
from latentomics.scrna.accounts import LEDGER
from latentomics.scrna.merge import SampleFiles, join_genes
from latentomics.scrna.qc import REASONS
from latentomics.scrna.sample import Judging, process_sample

CONTRACT = [
    *("sample", "batch", "condition", "format", "orientation", "id_type", "organism", "n_read", "n_kept"),
    *("n_low_counts", "n_low_genes", "n_mito", "n_high_counts", "n_high_genes", "n_doublet"),
    *("median_counts", "median_genes", "median_mito_percent"),
    *("min_counts", "max_counts", "min_genes", "max_genes", "max_mito_percent"),
    *("doublet_threshold", "doublet_average_precision", "notes"),
]


GENES = ["g0", "g1", "g2", "g3", "g4", "g5"]
SAMPLES = st.lists(
    st.tuples(
        st.permutations(GENES).flatmap(lambda g: st.integers(1, 6).map(lambda n: g[:n])),
        st.integers(1, 6),
        st.sets(st.integers(1, 5)),
    ),
    min_size=1,
    max_size=3,
)


@given(SAMPLES, st.sampled_from(["outer", "inner"]), st.integers(0, 10**6), st.sampled_from([1, 4, 1 << 24]))
@settings(max_examples=25, deadline=None)
def test_equals_a_dense_join(tmp_path_factory, samples, join, seed, block):
    """Whatever the genes of each sample, their order, and which cells are dropped."""
    folder = tmp_path_factory.mktemp("merge")
    rng = np.random.default_rng(seed)
    files, parts = [], []
    for i, (genes, n, drop) in enumerate(samples):
        counts = rng.poisson(0.8, (n, len(genes)))
        files.append(put(folder, f"s{i}", counts, genes, drop=sorted(drop)))
        kept = [c for c in range(n) if c not in drop]
        parts.append(pd.DataFrame(counts[kept], index=[f"s{i}_c{c}" for c in kept], columns=genes))
    expected = pd.concat(parts, join=join).fillna(0).astype(int)
    order = list(dict.fromkeys(g for genes, _, _ in samples for g in genes if g in expected))
    # An inner join may take a cell its last count; with none at all, the study is wrong.
    empty = expected.index[expected[order].sum(axis=1) == 0] if join == "inner" else expected.index[:0]
    expected = expected.drop(empty)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        if not order or expected.empty:
            what = "no cell has a count" if order else "no gene is shared"
            with pytest.raises(InputError, match=rf"samples.tsv, ingest.join: {what}(.|\n)*Hint:"):
                merge(folder, files, join)
            return
        merged, store = merge(folder, files, join)
    found = frame(store)
    assert list(found.columns) == order, "in order of first appearance"
    pd.testing.assert_frame_equal(found, expected[order], check_dtype=False, check_names=False)
    assert found.index.is_unique
    assert list(store.var["n_samples"]) == [sum(g in genes for genes, _, _ in samples) for g in order]
    out = {f"s{i}_c{c}" for i, (_, n, drop) in enumerate(samples) for c in drop if c < n} | set(empty)
    lost = set(GENES) & {g for genes, _, _ in samples for g in genes} - set(order)
    assert set(merged.ledger["observation"]) == out | lost
    assert len(merged.ledger) == len(out) + len(lost)


# What the store says


def test_annotations(tmp_path):
    one = put(tmp_path, "a", np.eye(3), ["tgt", "ENSG01", "ENSG02"], ["tgt", "", "BETA"], batch="b1", label_type="x")
    two = put(tmp_path, "b", np.eye(2), ["ENSG02", "ENSG01"], ["OTHER", "ALPHA"], batch="b2", label_type=["y", "z"])
    merged, store = merge(tmp_path, [one, two])
    assert list(store.var.index) == ["tgt", "ENSG01", "ENSG02"], "in order of first appearance"
    assert list(store.var["ensembl"]) == ["", "ENSG01", "ENSG02"]
    assert list(store.var["symbol"]) == ["tgt", "ALPHA", "BETA"], "the first that is known"
    described = ["sample", "barcode", "batch", "label_type"]
    assert list(store.obs.columns) == [*described, "total_counts", "n_genes", "mito_percent", "doublet_score"]
    assert list(store.obs["label_type"]) == ["x", "x", "x", "y", "z"]
    assert list(store.obs.index) == ["a_c0", "a_c1", "a_c2", "b_c0", "b_c1"]
    assert list(merged.cells.index) == list(store.obs.index)
    assert {"keep", "reason", "value", "limit", "doublet"} <= set(merged.cells)


def test_called_doublets_that_stay_are_marked(tmp_path):
    """`doublets.drop: false` only annotates them: so the annotation must reach the store."""
    files = [put(tmp_path, "a", np.eye(3), GENES[:3], called=[1]), put(tmp_path, "b", np.eye(3), GENES[:3])]
    _, store = merge(tmp_path, files)
    assert list(store.obs["doublet"]) == [False, True, False, False, False, False]


def test_same_barcode_in_two_samples(tmp_path):
    files = [put(tmp_path, s, np.eye(2), GENES[:2], barcodes=["AAA-1", "CCC-1"]) for s in ("a", "b")]
    _, store = merge(tmp_path, files)
    assert list(store.obs.index) == ["a_AAA-1", "a_CCC-1", "b_AAA-1", "b_CCC-1"]
    assert list(store.obs["barcode"]) == ["AAA-1", "CCC-1"] * 2


def test_ledger(tmp_path):
    one = put(tmp_path, "a", [[9, 1], [0, 3], [0, 4]], ["g0", "g1"], drop=[1])
    two = put(tmp_path, "b", [[1, 2]], ["g1", "g2"])
    three = put(tmp_path, "c", [[1]], ["g1"])
    merged, store = merge(tmp_path, [one, two, three], "inner")
    assert tuple(merged.ledger.columns) == LEDGER
    rows = merged.ledger.astype(object).where(merged.ledger.notna(), None).to_numpy().tolist()
    assert rows == [
        ["a_c1", "cell", "a", "qc", "low counts", 3.0, 500.0],
        ["g0", "gene", "", "ingest.join", "missing in b; c", None, None],
        ["g2", "gene", "", "ingest.join", "missing in a; c", None, None],
    ]
    assert list(store.var.index) == ["g1"]
    everything, _ = merge(tmp_path, [one, two, three], "outer")
    assert list(everything.ledger["observation"]) == ["a_c1"]


def test_inner_join_drops_cells_that_it_leaves_without_counts(tmp_path):
    one = put(tmp_path, "a", [[9, 0], [0, 3], [0, 4]], ["g0", "g1"], drop=[2])
    two = put(tmp_path, "b", [[1, 2]], ["g0", "g2"])
    merged, store = merge(tmp_path, [one, two], "inner")
    assert frame(store).to_dict("split") == {"index": ["a_c0", "b_c0"], "columns": ["g0"], "data": [[9], [1]]}
    assert not merged.cells.loc["a_c1", "keep"]
    rows = merged.ledger[merged.ledger["kind"] == "cell"].to_numpy().tolist()
    assert rows == [
        ["a_c1", "cell", "a", "ingest.join", "no counts in shared genes", 0.0, 1.0],
        ["a_c2", "cell", "a", "qc", "low counts", 4.0, 500.0],
    ]
    assert list(merged.samples["n_kept"]) == [1, 1]
    assert merged.samples["notes"][0] == "1 cells have no counts in the genes that all samples share"
    everything, store = merge(tmp_path, [one, two], "outer")
    assert len(store.obs) == 3
    assert list(everything.samples["notes"]) == ["", ""]


def test_no_cell_has_counts_in_the_shared_genes(tmp_path):
    files = [put(tmp_path, "a", [[0, 1]], ["g0", "g1"]), put(tmp_path, "b", [[0, 1]], ["g0", "g2"])]
    with pytest.raises(InputError, match=r"samples.tsv, ingest.join: no cell has a count in the genes(.|\n)*Hint:"):
        merge(tmp_path, files, "inner")


def test_nothing_left_out(tmp_path):
    merged, _ = merge(tmp_path, [put(tmp_path, "a", np.eye(2), GENES[:2])])
    assert tuple(merged.ledger.columns) == LEDGER
    assert merged.ledger.empty
    assert list(merged.warnings.columns) == ["severity", "where", "message", "hint"]
    assert merged.warnings.empty


def test_no_shared_gene(tmp_path):
    files = [put(tmp_path, "a", np.eye(2), ["g0", "g1"]), put(tmp_path, "b", np.eye(2), ["g2", "g3"])]
    with pytest.raises(InputError, match=r"samples.tsv, ingest.join: no gene is shared by all samples(.|\n)*Hint:"):
        merge(tmp_path, files, "inner")
    assert not (tmp_path / "counts.zarr").exists()


def test_join_genes_of_one_sample():
    var = pd.DataFrame({"ensembl": ["", ""], "symbol": ["A", ""]}, index=["A", "B"])
    for join in ("outer", "inner"):
        joined, dropped = join_genes([var], join, ["s"])
        assert list(joined.index) == ["A", "B"]
        assert list(joined["symbol"]) == ["A", ""]
        assert dropped.empty


# Warnings


def messages(merged) -> str:
    assert (merged.warnings["hint"].str.len() > 10).all()
    assert (merged.warnings["severity"] == "warning").all()
    return "\n".join(merged.warnings["message"])


def test_warns_of_a_sample_that_loses_more_than_half(tmp_path):
    half = put(tmp_path, "half", np.eye(6), GENES, drop=[0, 1, 2])
    most = put(tmp_path, "most", np.eye(6), GENES, drop=[0, 1, 2, 3])
    merged, _ = merge(tmp_path, [half, most])
    assert messages(merged) == "sample 'most' loses 67% of its 6 cells (4 low counts)"
    assert list(merged.warnings["where"]) == ["/data/most.h5ad"]


def test_warns_of_genes_that_differ(tmp_path):
    one, two = put(tmp_path, "a", np.eye(3), GENES[:3]), put(tmp_path, "b", np.eye(3), GENES[1:4])
    text = "samples differ in their genes: 2 shared by all, largest sample 3, "
    assert messages(merge(tmp_path, [one, two])[0]) == text + "4 kept (outer)"
    assert messages(merge(tmp_path, [one, two], "inner")[0]) == text + "2 kept (inner)"
    same = put(tmp_path, "c", np.eye(3), GENES[2::-1])
    assert merge(tmp_path, [one, same])[0].warnings.empty, "their order is no difference"


def test_warns_of_genes_that_differ_under_inner_join_by_one_panel_each(tmp_path):
    """As many genes in each sample and all that are kept shared: the loss shows only in what was dropped."""
    one, two = put(tmp_path, "a", np.eye(2), ["g0", "g1"]), put(tmp_path, "b", np.eye(2), ["g1", "g2"])
    assert "1 shared by all" in messages(merge(tmp_path, [one, two], "inner")[0])


def test_warns_of_confounding_per_cell(tmp_path):
    """Batches that only the cells name: the sheet could not tell."""
    one = put(tmp_path, "a", np.eye(4), GENES[:4], batch=["x", "x", "y", "y"], condition="control")
    two = put(tmp_path, "b", np.eye(4), GENES[:4], batch=["z", "z", "z", "z"], condition="treated")
    text = messages(merge(tmp_path, [one, two])[0])
    assert text.startswith("batch is confounded with condition (x: control, y: control, z: treated)")
    mixed = put(tmp_path, "c", np.eye(4), GENES[:4], batch=["x", "y", "z", "z"], condition="treated")
    assert merge(tmp_path, [one, mixed])[0].warnings.empty


# The whole arm


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, list[SampleFiles]]:
    folder = tmp_path_factory.mktemp("study")
    files = []
    for sample in dict.fromkeys(simulated().obs["sample"]):
        batch, condition = sample.split("_")
        path = write_format(folder / sample, "h5ad", *one_sample(sample))
        described = {"batch": batch, "condition": condition, "label_doublet": "obs:label_doublet"}
        row = sheet_row(path, "h5ad", sample, **described)
        made = process_sample([row], Judging(GENE_SETS, doublets=Doublets(min_cells=30)))
        files.append(write(folder / sample / "made", made))
    return folder, files


def test_samples_table_keeps_the_contract(tmp_path, study):
    merged, _ = merge(tmp_path, study[1])
    assert list(merged.samples.columns) == CONTRACT
    reasons = dict(zip(CONTRACT[9:15], REASONS, strict=True))
    assert reasons["n_mito"] == "high mitochondrial share"
    for _, row in merged.samples.iterrows():
        mine = merged.cells[merged.cells["sample"] == row["sample"]]
        assert row["n_read"] == len(mine)
        assert row["n_kept"] == mine["keep"].sum()
        for column, reason in reasons.items():
            assert row[column] == (mine["reason"] == reason).sum()
        assert f"{row['batch']}_{row['condition']}" == row["sample"]
        assert row["median_counts"] == mine.loc[mine["keep"], "total_counts"].median()
        kept = mine[mine["keep"]]
        assert row["min_counts"] <= kept["total_counts"].min() <= kept["total_counts"].max() <= row["max_counts"]
        assert row["min_genes"] <= kept["n_genes"].min() <= kept["n_genes"].max() <= row["max_genes"]
        assert kept["mito_percent"].max() <= row["max_mito_percent"]
    assert merged.samples["doublet_average_precision"].notna().all()
    without = [put(tmp_path, "a", np.eye(2), GENES[:2])]
    plain = merge(tmp_path, without)[0].samples
    assert list(plain.columns) == [c for c in CONTRACT if c not in ("batch", "condition")]


def test_a_batch_per_cell_is_listed(tmp_path):
    files = [put(tmp_path, "a", np.eye(3), GENES[:3], batch=["y", "x", "y"])]
    assert list(merge(tmp_path, files)[0].samples["batch"]) == ["x/y"]


def test_store_holds_the_simulated_counts(tmp_path, study):
    merged, store = merge(tmp_path, study[1])
    truth = pd.DataFrame.sparse.from_spmatrix(
        simulated().counts, index=simulated().obs.index, columns=simulated().var.index
    )
    assert set(store.obs.index) | set(merged.ledger["observation"]) == set(truth.index)
    assert not set(store.obs.index) & set(merged.ledger["observation"])
    np.testing.assert_array_equal(store.select().toarray(), truth.loc[store.obs.index, store.var.index].to_numpy())
    for column in ("sample", "batch", "condition", "label_doublet"):
        assert list(store.obs[column].astype(str)) == list(simulated().obs.loc[store.obs.index, column])
    np.testing.assert_array_equal(store.obs["total_counts"], store.select().sum(axis=1).A1)


def test_same_bytes_twice(tmp_path, study):
    tables = []
    for run in ("one", "two"):
        merged, _ = merge(tmp_path / run, study[1])
        tables.append([merged.samples.to_csv(), merged.ledger.to_csv(), merged.warnings.to_csv()])
    assert tables[0] == tables[1]
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_only_a_block_of_kept_rows_is_in_memory(tmp_path, monkeypatch):
    """What reaches the writer at once is bounded, and holds no dropped cell."""
    counts = np.random.default_rng(0).poisson(1, (60, 6))
    files = put(tmp_path, "a", counts, GENES, drop=range(0, 60, 3))
    sizes = []
    append = CountsWriter.append

    def watched(self, block):
        sizes.append(block.nnz)
        append(self, block)

    monkeypatch.setattr(CountsWriter, "append", watched)
    monkeypatch.setattr(module, "_BLOCK", 30)
    _, store = merge(tmp_path, [files])
    assert max(sizes) <= 30
    assert sum(sizes) == store.n_nonzero == np.count_nonzero(np.delete(counts, range(0, 60, 3), axis=0))


def test_summaries_are_read_as_written(study):
    """What the join reads of a summary is what the sample rule writes."""
    summary = json.loads(study[1][0].summary.read_text())
    assert set(summary["dropped"]) == set(REASONS)
    assert set(summary["limits"]) == {f"{s}_{m}" for m in ("counts", "genes", "mito_percent") for s in ("low", "high")}
