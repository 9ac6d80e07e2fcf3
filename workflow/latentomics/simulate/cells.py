"""Simulated single-cell counts whose truth is known: the data of the demo and of the tests.

The model is Splat (Zappia, Phipson and Oshlack 2017, Genome Biology 18:174): gamma gene means; log-normal factors for
differentially expressed genes and for batches; log-normal library sizes; a gamma-Poisson draw whose biological
coefficient of variation (BCV) falls with the mean,

    BCV(mean) = (bcv_common + 1 / sqrt(mean)) * sqrt(bcv_df / chi2(bcv_df)),    one chi2 draw per gene,

so that the variance of a count is ``mean + BCV**2 * mean**2``. Splat's published defaults describe full-length data.
Where UMI data differ, the number was measured on the 2,700 cells of 10x Genomics' pbmc3k (:class:`CellParams` says
which is which). Splat's expression outliers are left out: the ribosomal and mitochondrial genes play that part. Added to
Splat: doublets, low-quality cells and cells rich in mitochondrial RNA.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

# Gene, Ensembl id and share of the 13 mitochondrial messages among themselves, as measured in pbmc3k.
MITOCHONDRIAL = (
    ("MT-ND1", "ENSG00000198888", 0.095),
    ("MT-ND2", "ENSG00000198763", 0.079),
    ("MT-CO1", "ENSG00000198804", 0.285),
    ("MT-CO2", "ENSG00000198712", 0.139),
    ("MT-ATP8", "ENSG00000228253", 0.0005),
    ("MT-ATP6", "ENSG00000198899", 0.046),
    ("MT-CO3", "ENSG00000198938", 0.141),
    ("MT-ND3", "ENSG00000198840", 0.005),
    ("MT-ND4L", "ENSG00000212907", 0.003),
    ("MT-ND4", "ENSG00000198886", 0.100),
    ("MT-ND5", "ENSG00000198786", 0.017),
    ("MT-ND6", "ENSG00000198695", 0.0025),
    ("MT-CYB", "ENSG00000198727", 0.086),
)
# The 20 most abundant ribosomal genes of pbmc3k with their share of all its counts; together 16.5 %.
RIBOSOMAL = (
    ("RPL10", "ENSG00000147403", 0.0139),
    ("RPL13", "ENSG00000167526", 0.0121),
    ("RPL13A", "ENSG00000142541", 0.0120),
    ("RPS2", "ENSG00000140988", 0.0102),
    ("RPS6", "ENSG00000137154", 0.0098),
    ("RPS18", "ENSG00000231500", 0.0087),
    ("RPL11", "ENSG00000142676", 0.0081),
    ("RPL32", "ENSG00000144713", 0.0081),
    ("RPS3", "ENSG00000149273", 0.0080),
    ("RPL19", "ENSG00000108298", 0.0077),
    ("RPS12", "ENSG00000112306", 0.0076),
    ("RPLP1", "ENSG00000137818", 0.0074),
    ("RPL3", "ENSG00000100316", 0.0074),
    ("RPS27", "ENSG00000177954", 0.0071),
    ("RPS19", "ENSG00000105372", 0.0069),
    ("RPS14", "ENSG00000164587", 0.0068),
    ("RPL18A", "ENSG00000105640", 0.0064),
    ("RPL28", "ENSG00000108107", 0.0060),
    ("RPS4X", "ENSG00000198034", 0.0058),
    ("RPLP2", "ENSG00000177600", 0.0056),
)


@dataclass(frozen=True)
class CellParams:
    """What to simulate. One sample per pair of batch and condition, so that the two are not confounded.

    Attributes
    ----------
    seed
        Seed of the one random generator; the same parameters give the same bytes.
    batches, conditions
        Their names. A batch shifts the expression of every gene; a condition shifts nothing (a true null).
    cells_per_sample
        Mean of the Poisson number of barcodes per sample.
    n_genes
        Genes, the 13 mitochondrial and 20 ribosomal ones included.
    n_types
        Cell types, ``type1`` the commonest, the last one rare. With 1 there is no structure. With 4 or more,
        ``type2`` and ``type3`` are similar.
    rare_share
        Share of the rarest type among the cells (fraction).
    mean_shape
        Shape of the gamma distribution of gene means: Splat's default. A maximum-likelihood fit to the 6,765 genes of
        pbmc3k with more than 0.02 counts per cell gives 0.63. Its rate cancels, since means are scaled to the library.
    library_median, library_scale
        Log-normal library size: median (counts per cell) and standard deviation of the logarithm, both of pbmc3k.
    de_prob, de_loc, de_scale
        Share of genes that set a type apart and location and scale of the log-normal factor on them. Splat's defaults
        but for the scale, there 0.4: 1,200 cells of 2,200 counts then tell an embedding too little. At 0.7 scVI runs
        the types together; at 1.0 it finds all six, and PCs find more, split by batch.
    similar_share
        Share of the genes that set ``type3`` apart where it differs from ``type2`` (fraction).
    batch_scale
        Scale of the log-normal factor of a batch on each gene; its location cancels. Splat's default is 0.1, which
        Leiden does not notice; 0.15 splits the larger types by batch unless the embedding corrects for it.
    bcv_common, bcv_df
        The BCV trend: Splat's defaults. ``a + b / sqrt(mean)`` fitted to the BCV of pbmc3k's T cells (genes with a mean
        above 1) gives a = 0.11, b = 0.91.
    mito_share, mito_scale
        Log-normal mitochondrial share of a cell's counts: median (fraction) and standard deviation of the
        logarithm, both of pbmc3k.
    doublet_rate, low_rate, mito_rate
        Share of barcodes that are doublets, low-quality cells and cells rich in mitochondrial RNA; no barcode is two of
        these. Higher than in a good run, so that 350 cells hold enough of each to judge a caller.
    low_library
        Range of the factor on the library size of a low-quality cell.
    high_mito
        Range of the mitochondrial share of a cell rich in mitochondrial RNA (fraction).

    Raises
    ------
    ValueError
        When a value is out of range; says which.
    """

    seed: int = 0
    batches: tuple[str, ...] = ("batch1", "batch2")
    conditions: tuple[str, ...] = ("control", "treated")
    cells_per_sample: int = 350
    n_genes: int = 1000
    n_types: int = 6
    rare_share: float = 0.03
    mean_shape: float = 0.6
    library_median: float = 2200.0
    library_scale: float = 0.43
    de_prob: float = 0.1
    de_loc: float = 0.1
    de_scale: float = 1.0
    similar_share: float = 0.5
    batch_scale: float = 0.15
    bcv_common: float = 0.1
    bcv_df: float = 60.0
    mito_share: float = 0.02
    mito_scale: float = 0.4
    doublet_rate: float = 0.06
    low_rate: float = 0.04
    mito_rate: float = 0.04
    low_library: tuple[float, float] = (0.02, 0.10)
    high_mito: tuple[float, float] = (0.15, 0.40)

    def __post_init__(self) -> None:
        fixed = len(MITOCHONDRIAL) + len(RIBOSOMAL)
        positive = (self.mean_shape, self.library_median, self.bcv_df)
        fractions = (self.de_prob, self.similar_share)
        rates = (self.doublet_rate, self.low_rate, self.mito_rate)
        checks = {
            "batches and conditions must be non-empty": bool(self.batches and self.conditions),
            "cells_per_sample must be at least 1": self.cells_per_sample >= 1,
            f"n_genes must be above {fixed} (the mitochondrial and ribosomal genes)": self.n_genes > fixed,
            "n_types must be at least 1": self.n_types >= 1,
            "rare_share must lie between 0 and 1 / n_types": 0 < self.rare_share <= 1 / self.n_types,
            "mean_shape, library_median and bcv_df must be positive": min(positive) > 0,
            "de_prob and similar_share must lie between 0 and 1": all(0 <= value <= 1 for value in fractions),
            "mito_share must lie between 0 and 1": 0 < self.mito_share < 1,
            "doublet_rate, low_rate and mito_rate must be non-negative and sum to at most 1": min(rates) >= 0
            and sum(rates) <= 1,
        }
        failed = [rule for rule, holds in checks.items() if not holds]
        if failed:
            raise ValueError("; ".join(failed))


@dataclass(frozen=True, eq=False)
class Profiles:
    """The expected expression behind the counts.

    Attributes
    ----------
    nuclear
        Share of each gene among a cell's counts that are not mitochondrial, (batches, types, genes); sums to 1.
    mito
        Share of each gene among a cell's mitochondrial counts, (genes,); sums to 1.
    noise
        Factor of each gene on the BCV trend, (genes,).
    """

    nuclear: np.ndarray
    mito: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True, eq=False)
class Simulated:
    """Counts and their truth.

    Attributes
    ----------
    params
        What was asked for.
    counts
        CSR matrix (cells, genes), int32, sorted indices.
    obs
        Per cell, indexed by ``{sample}_{barcode}``: sample, batch, condition, barcode, label (cell type; of a doublet
        the one with the larger library), partner (type of a doublet's other cell, else empty), label_doublet
        (``doublet`` or ``singlet``), label_quality (``good``, ``low`` or ``mito``), expected_counts.
    var
        Per gene, indexed by Ensembl id: ensembl, symbol.
    profiles
        The expected expression.
    """

    params: CellParams
    counts: sp.csr_matrix
    obs: pd.DataFrame
    var: pd.DataFrame
    profiles: Profiles


def type_shares(params: CellParams) -> np.ndarray:
    """Share of each cell type among the cells, (types,): each three quarters of the one before, the last one rare."""
    if params.n_types == 1:
        return np.ones(1)
    common = 0.75 ** np.arange(params.n_types - 1)
    return np.append((1 - params.rare_share) * common / common.sum(), params.rare_share)


def bcv(mean: np.ndarray, noise: np.ndarray | float, params: CellParams) -> np.ndarray:
    """Biological coefficient of variation of a count with this mean (counts), Splat's trend; shape of ``mean``."""
    return (params.bcv_common + 1 / np.sqrt(mean)) * noise


def gene_table(params: CellParams) -> pd.DataFrame:
    """Genes in the order of the counts: simulated, ribosomal, mitochondrial. Simulated ids are in an unused range."""
    n_simulated = params.n_genes - len(MITOCHONDRIAL) - len(RIBOSOMAL)
    known = [*RIBOSOMAL, *MITOCHONDRIAL]
    ensembl = [f"ENSG{900_000 + i:011d}" for i in range(1, n_simulated + 1)] + [gene[1] for gene in known]
    symbol = [f"SIM{i:04d}" for i in range(1, n_simulated + 1)] + [gene[0] for gene in known]
    return pd.DataFrame({"ensembl": ensembl, "symbol": symbol}, index=pd.Index(ensembl, name="gene"))


def draw_profiles(params: CellParams, rng: np.random.Generator) -> Profiles:
    """Draw gene means, the genes that set each type apart, batch factors and the noise of each gene."""
    n_mito, n_ribo = len(MITOCHONDRIAL), len(RIBOSOMAL)
    n_simulated = params.n_genes - n_mito - n_ribo
    mean = rng.gamma(params.mean_shape, size=n_simulated)

    def factors() -> np.ndarray:
        chosen = rng.random(n_simulated) < params.de_prob
        return np.where(chosen, rng.lognormal(params.de_loc, params.de_scale, n_simulated), 1.0)

    de = np.stack([factors() for _ in range(params.n_types)])
    if params.n_types >= 4:
        own = rng.random(n_simulated) < params.similar_share
        de[2] = np.where(own, de[2], de[1])

    ribo = np.array([gene[2] for gene in RIBOSOMAL])
    simulated = mean * de
    simulated *= (1 - ribo.sum()) / simulated.sum(axis=1, keepdims=True)
    nuclear = np.zeros((params.n_types, params.n_genes))
    nuclear[:, :n_simulated] = simulated
    nuclear[:, n_simulated:-n_mito] = ribo
    batch = rng.lognormal(0.0, params.batch_scale, (len(params.batches), 1, params.n_genes))
    nuclear = nuclear * batch
    nuclear /= nuclear.sum(axis=2, keepdims=True)

    mito = np.zeros(params.n_genes)
    mito[-n_mito:] = [gene[2] for gene in MITOCHONDRIAL]
    noise = np.sqrt(params.bcv_df / rng.chisquare(params.bcv_df, params.n_genes))
    return Profiles(nuclear, mito / mito.sum(), noise)


def simulate(params: CellParams | None = None) -> Simulated:
    """Simulate counts and their truth.

    Parameters
    ----------
    params
        What to simulate; the defaults are the demo's.

    Returns
    -------
    Simulated
        About ``cells_per_sample`` cells for every pair of batch and condition. Memory peaks at a few dense
        (cells of one sample, genes) arrays.

    References
    ----------
    Zappia L, Phipson B, Oshlack A (2017). Splatter: simulation of single-cell RNA sequencing data. Genome Biol 18:174.
    """
    params = params or CellParams()
    rng = np.random.default_rng(params.seed)
    profiles = draw_profiles(params, rng)
    blocks, tables = [], []
    for (b, batch), condition in itertools.product(enumerate(params.batches), params.conditions):
        counts, table = _draw_sample(params, profiles, b, rng)
        table.insert(0, "sample", f"{batch}_{condition}")
        table.insert(1, "batch", batch)
        table.insert(2, "condition", condition)
        blocks.append(counts)
        tables.append(table)
    obs = pd.concat(tables, ignore_index=True)
    obs.index = pd.Index(obs["sample"] + "_" + obs["barcode"], name="cell")
    return Simulated(params, sp.vstack(blocks, format="csr"), obs, gene_table(params), profiles)


def _draw_sample(
    params: CellParams, profiles: Profiles, batch: int, rng: np.random.Generator
) -> tuple[sp.csr_matrix, pd.DataFrame]:
    n = max(1, int(rng.poisson(params.cells_per_sample)))
    names = np.array([f"type{i}" for i in range(1, params.n_types + 1)])
    draw = rng.random(n)
    edges = np.cumsum([params.doublet_rate, params.low_rate, params.mito_rate])
    doublet, low, rich = draw < edges[0], (draw >= edges[0]) & (draw < edges[1]), (draw >= edges[1]) & (draw < edges[2])

    # A doublet is two cells in one droplet: the partners are drawn like any other cell and their rates added.
    first = np.flatnonzero(doublet)
    total = n + first.size
    kind = rng.choice(params.n_types, size=total, p=type_shares(params))
    library = rng.lognormal(np.log(params.library_median), params.library_scale, total)
    library[:n][low] *= rng.uniform(*params.low_library, low.sum())
    mito = np.minimum(rng.lognormal(np.log(params.mito_share), params.mito_scale, total), 0.99)
    mito[:n][rich] = rng.uniform(*params.high_mito, rich.sum())

    mean = (1 - mito)[:, None] * profiles.nuclear[batch, kind] + mito[:, None] * profiles.mito
    mean *= library[:, None]
    np.maximum(mean, 1e-12, out=mean)
    squared = bcv(mean, profiles.noise, params) ** 2
    rate = rng.gamma(1 / squared, mean * squared)
    rate[first] += rate[n:]
    counts = sp.csr_matrix(rng.poisson(rate[:n]).astype(np.int32))

    partner = np.full(n, "", dtype=object)
    label = names[kind[:n]].astype(object)
    larger = library[first] >= library[n:]
    label[first] = names[np.where(larger, kind[first], kind[n:])]
    partner[first] = names[np.where(larger, kind[n:], kind[first])]
    library[first] += library[n:]
    table = pd.DataFrame(
        {
            "barcode": barcodes(n, rng),
            "label": label,
            "partner": partner,
            "label_doublet": np.where(doublet, "doublet", "singlet"),
            "label_quality": np.select([low, rich], ["low", "mito"], "good"),
            "expected_counts": library[:n],
        }
    )
    return counts, table


def barcodes(n: int, rng: np.random.Generator) -> list[str]:
    """So many different barcodes of 16 bases, as Cell Ranger writes them."""
    found: dict[str, None] = {}
    while len(found) < n:
        letters = np.array(list("ACGT"))[rng.integers(4, size=(n - len(found), 16))]
        found.update(dict.fromkeys("".join(row) + "-1" for row in letters))
    return list(found)
