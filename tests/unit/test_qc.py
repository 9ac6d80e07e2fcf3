"""Cell QC: metrics against dense numpy, limits against a MAD spelt out, reasons in the documented order."""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from count_cases import GENE_SETS, random_counts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from latentomics.config.qc import QC
from latentomics.scrna.genes import SETS, flag_genes
from latentomics.scrna.qc import REASONS, RULES, Limit, cell_metrics, find_limits, judge
from latentomics.simulate.cells import CellParams, simulate

OFF = dict.fromkeys(("n_mads", "n_mads_mito"))


def metrics(counts, genes=None, mito=None) -> pd.DataFrame:
    counts = np.asarray(counts, dtype=float)
    return pd.DataFrame(
        {
            "total_counts": counts,
            "n_genes": np.asarray(np.minimum(counts, 50) if genes is None else genes, dtype=int),
            "mito_percent": np.full(len(counts), 2.0) if mito is None else np.asarray(mito, dtype=float),
        },
        index=[f"c{i}" for i in range(len(counts))],
    )


def genes(*pairs) -> pd.DataFrame:
    table = pd.DataFrame(pairs, columns=["ensembl", "symbol"])
    table.index = table["ensembl"].where(table["ensembl"] != "", table["symbol"])
    return table


def flags(n: int, **members) -> pd.DataFrame:
    return pd.DataFrame({name: np.isin(np.arange(n), members.get(name, [])) for name in SETS})


# Genes


def test_genes_are_flagged_by_id_or_symbol():
    var = genes(
        ("ENSG00000198888", ""),  # MT-ND1 by its id
        ("", "MT-CO1"),
        ("ENSG00000147403", "RPL10"),
        ("ENSG00000244734", "HBB"),
        ("ENSG00000000001", "MTOR"),
        ("", ""),
        ("", "mt-Co1"),
    )
    human = flag_genes(var, "human", GENE_SETS)
    assert list(human["mitochondrial"]) == [True, True, False, False, False, False, False]
    assert list(human["ribosomal"]) == [False, False, True, False, False, False, False]
    assert list(human["haemoglobin"]) == [False, False, False, True, False, False, False]
    assert list(flag_genes(var, "mouse", GENE_SETS)["mitochondrial"]) == [False] * 6 + [True]
    assert not flag_genes(var, None, GENE_SETS).to_numpy().any()
    assert human.index.equals(var.index)


# Metrics


def test_metrics_equal_dense_numpy():
    counts = random_counts(30, 40, mean=3)
    counts[4] = 0
    marked = flags(40, mitochondrial=[0, 1, 2], ribosomal=range(10, 25), haemoglobin=[39])
    found = cell_metrics(AnnData(csr_matrix(counts), obs=pd.DataFrame(index=[f"c{i}" for i in range(30)])), marked)
    total = counts.sum(axis=1)
    np.testing.assert_array_equal(found["total_counts"], total)
    np.testing.assert_array_equal(found["n_genes"], (counts > 0).sum(axis=1))
    with np.errstate(invalid="ignore"):
        for name, column in SETS.items():
            share = 100 * counts[:, marked[name]].sum(axis=1) / total
            np.testing.assert_allclose(found[column], share, rtol=1e-5)
    assert np.isnan(found["mito_percent"].iloc[4])


def test_counts_beyond_int32_do_not_overflow():
    counts = csr_matrix(np.full((2, 4), 2**31 - 1, dtype=np.int32))
    found = cell_metrics(AnnData(counts), flags(4, mitochondrial=[0, 1]))
    np.testing.assert_allclose(found["total_counts"], 4 * (2.0**31 - 1), rtol=1e-6)
    np.testing.assert_allclose(found["mito_percent"], 50, rtol=1e-5)


def test_no_mitochondrial_gene_is_not_zero_percent():
    found = cell_metrics(AnnData(csr_matrix(random_counts(9, 5))), flags(5, ribosomal=[1]))
    assert found["mito_percent"].isna().all()
    assert found["ribo_percent"].notna().any()
    limits = find_limits(found, QC())
    assert limits["mito_percent"] == Limit()
    assert not judge(found, limits)["reason"].str.contains("mito").any()


# Limits


def brute_mad(values):
    centre = statistics.median(values)
    return centre, statistics.median(abs(v - centre) for v in values)


@given(st.lists(st.tuples(st.integers(0, 10**5), st.floats(0, 100)), min_size=1, max_size=30), st.floats(0.5, 8))
@settings(max_examples=100, deadline=None)
def test_limits_equal_a_mad_spelt_out(cells, n_mads):
    counts, mito = [c for c, _ in cells], [m for _, m in cells]
    limits = find_limits(metrics(counts, mito=mito), QC(n_mads=n_mads, n_mads_mito=n_mads))
    logged = [np.log1p(c) for c in counts if c > 0]
    low, high = 1.0, np.inf
    if logged and brute_mad(logged)[1] > 0:
        centre, mad = brute_mad(logged)
        low, high = max(np.expm1(centre - n_mads * mad), 1), np.expm1(centre + n_mads * mad)
    np.testing.assert_allclose([limits["total_counts"].low, limits["total_counts"].high], [low, high])
    centre, mad = brute_mad(mito)
    np.testing.assert_allclose(limits["mito_percent"].high, centre + max(n_mads * mad, 5))
    assert limits["mito_percent"].low == -np.inf


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_a_cell_is_kept_exactly_if_all_its_metrics_lie_within(counts):
    table = metrics(counts, mito=np.arange(len(counts)) % 13)
    limits = find_limits(table, QC(n_mads=2.0, n_mads_mito=2.0))
    inside = np.all([(table[m] >= limit.low) & (table[m] <= limit.high) for m, limit in limits.items()], axis=0)
    assert list(judge(table, limits)["reason"] == "") == list(inside)
    if 0 in counts:
        assert not inside[counts.index(0)]


def test_fixed_limits_replace_only_their_side():
    table = metrics(np.random.default_rng(0).lognormal(7, 0.5, 200).round(), genes=np.arange(200) + 300)
    free = find_limits(table, QC())
    fixed = find_limits(table, QC(min_counts=321, max_genes=4321, max_mito_percent=7.5))
    assert fixed["total_counts"] == Limit(321, free["total_counts"].high)
    assert fixed["n_genes"] == Limit(free["n_genes"].low, 4321)
    assert fixed["mito_percent"] == Limit(high=7.5)
    assert free["total_counts"].low not in (1, 321), "else this test shows nothing"


def test_no_deviation_no_limit():
    """More than half of the cells alike: the MAD is zero, and five times zero would drop everyone else."""
    limits = find_limits(metrics([100] * 6 + [5, 4000, 100000]), QC())
    assert limits["total_counts"] == Limit(1, np.inf)
    assert limits["mito_percent"].high == 7.0, "the mitochondrial share needs the excess, not a deviation"


def test_switched_off():
    limits = find_limits(metrics([1, 5, 900], mito=[0, 50, 100]), QC(**OFF))
    assert limits == {"total_counts": Limit(1), "n_genes": Limit(1), "mito_percent": Limit()}


def test_mito_excess_spares_clean_samples():
    mito = [1.0, 1.1, 1.2, 1.0, 1.1, 4.0, 6.2]
    table = metrics([1000] * 7, mito=mito)
    assert list(judge(table, find_limits(table, QC()))["reason"]) == [""] * 6 + ["high mitochondrial share"]
    strict = find_limits(table, QC(min_mito_excess=0))
    assert list(judge(table, strict)["reason"]) == [""] * 5 + ["high mitochondrial share"] * 2


def test_mito_ignores_cells_without_a_share():
    table = metrics([0, 100, 100, 100], genes=[0, 9, 9, 9], mito=[np.nan, 2, 2, 30])
    limits = find_limits(table, QC())
    assert limits["mito_percent"].high == 7
    assert list(judge(table, limits)["reason"]) == ["low counts", "", "", "high mitochondrial share"]


def test_empty_barcodes_never_pass_and_move_no_limit():
    """A raw matrix: most barcodes are empty. They are dropped, and the limits are those of the others alone."""
    counts = np.random.default_rng(1).lognormal(7, 0.4, 80).round()
    alone = find_limits(metrics(counts), QC())
    table = metrics(np.concatenate([counts, np.zeros(500)]))
    limits = find_limits(table, QC(min_mito_excess=5))
    assert limits["total_counts"] == alone["total_counts"]
    assert limits["n_genes"] == alone["n_genes"]
    assert (judge(table, limits)["reason"].iloc[80:] == "low counts").all()
    assert (judge(table, find_limits(table, QC(min_counts=0, **OFF)))["reason"].iloc[80:] == "low counts").all()


# Verdicts


def test_first_reason_in_the_documented_order():
    limits = {"total_counts": Limit(10, 100), "n_genes": Limit(5, 50), "mito_percent": Limit(high=20)}
    table = metrics(
        [9, 9, 10, 100, 101, 101, 50, 50, 50],
        genes=[1, 50, 4, 5, 51, 9, 51, 5, 50],
        mito=[99, 99, 99, 20.1, 0, 0, 0, 20, 20],
    )
    verdict = judge(table, limits)
    assert list(verdict["reason"]) == [
        "low counts",
        "low counts",
        "low genes",
        "high mitochondrial share",
        "high counts",
        "high counts",
        "high genes",
        "",
        "",
    ]
    np.testing.assert_array_equal(verdict["value"], [9, 9, 4, 20.1, 101, 101, 51, np.nan, np.nan])
    np.testing.assert_array_equal(verdict["limit"], [10, 10, 5, 20, 100, 100, 50, np.nan, np.nan])
    assert list(REASONS) == [*(reason for *_, reason in RULES), "doublet"]
    assert len(set(REASONS)) == 6


def test_finds_the_bad_cells_of_the_simulation():
    """Known truth: low-quality and mitochondria-rich cells are dropped for what they are, good ones kept."""
    found = simulate(CellParams(seed=1, batches=("a",), conditions=("x",), cells_per_sample=400, n_genes=800))
    table = cell_metrics(AnnData(found.counts, obs=found.obs), flag_genes(found.var, "human", GENE_SETS))
    reason = judge(table, find_limits(table, QC()))["reason"]
    truth = found.obs["label_quality"]
    rich = reason[truth == "mito"]
    assert len(rich) > 5
    assert (rich == "high mitochondrial share").mean() > 0.9
    assert reason[truth == "low"].isin(["low counts", "low genes"]).mean() > 0.7
    assert (reason[truth == "good"] == "").mean() > 0.98


@pytest.mark.parametrize("bad", [{"n_mads": 0}, {"min_counts": 10, "max_counts": 9}, {"max_mito_percent": 101}])
def test_impossible_settings(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        QC(**bad)
