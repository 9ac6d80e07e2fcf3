"""What a profiler saw of one sample, and whether a taxon's evidence is that of a genome or of a shared fragment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latentomics.config.profile import Profile
from latentomics.metagenome import lineage

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

COLUMNS = (
    *("sample", "taxon", "rank", "lineage", "reads", "evidence", "expected_evidence"),
    *("abundance", "abundance_plain", "kept", "reason"),
)


@dataclass(frozen=True)
class Markers:
    """Distinct k-mers that tell one taxon from the others.

    Attributes
    ----------
    seen, available
        Distinct k-mers of each taxon seen in the sample and in its genomes, by lineage of the taxon.
    per_read : (n_genomes,) float
        Occurrences of its taxon's markers that a read of each genome brings on average.
    """

    seen: Mapping[str, int]
    available: Mapping[str, int]
    per_read: np.ndarray


@dataclass(frozen=True)
class Observations:
    """One sample as a profiler saw it.

    Attributes
    ----------
    total_reads, classified_reads
        Mates count as two reads.
    lineages : n_genomes
        Lineage of each detected genome.
    lengths : (n_genomes,) float
        Base pairs; NaN where the database does not tell.
    counts : (n_classes,) float
        Evidence (k-mers or reads) per equivalence class.
    likelihood : (n_classes, n_genomes) float
        Probability of the class for evidence of the genome.
    plain
        Evidence that the tool itself gives to each taxon, by lineage of the taxon.
    markers
        None where the tool has none.
    """

    sample: str
    total_reads: int
    classified_reads: float
    lineages: list[str]
    lengths: np.ndarray
    counts: np.ndarray
    likelihood: csr_matrix
    plain: Mapping[str, float]
    markers: Markers | None
    notes: list[str] = field(default_factory=list)


def taxon_of(text: str) -> str:
    """Lineage at which genomes are reported: cut below the species."""
    return lineage.at_rank(text, "species")


def expected_distinct(available: np.ndarray, occurrences: np.ndarray) -> np.ndarray:
    """Distinct k-mers to be seen if ``occurrences`` fall evenly on ``available`` ones.

    available (1 - exp(-occurrences / available)), the coverage of Lander and Waterman (1988, Genomics 2:231).

    >>> expected_distinct(np.array([100.0, 0.0]), np.array([100.0, 5.0])).round(1).tolist()
    [63.2, 0.0]
    """
    depth = np.divide(occurrences, available, out=np.zeros_like(occurrences, dtype=float), where=available > 0)
    return available * -np.expm1(-depth)


def taxon_table(observed: Observations, limits: Profile) -> tuple[pd.DataFrame, list[str]]:
    """Abundance and evidence of every taxon of a sample.

    Parameters
    ----------
    observed
        What the profiler saw.
    limits
        The evidence filter.

    Returns
    -------
    table, notes
        Columns :data:`COLUMNS`; one row per taxon, most abundant first. ``abundance`` is the share of genome copies
        (cells), that is of reads divided by genome length; the share of reads where a length is unknown, which the
        notes then say. Dropped taxa stay in the table and in the sum.
    """
    from latentomics.metagenome.profile.em import mixture

    notes = list(observed.notes)
    fit = mixture(observed.counts, observed.likelihood)
    if not fit.converged:
        notes.append(f"expectation-maximisation stopped {fit.gap:.1e} per unit of evidence below the maximum")
    missed = float(observed.counts.sum()) - fit.explained
    if missed > 0.001 * observed.counts.sum():
        notes.append(
            f"{missed / observed.counts.sum():.1%} of the classified evidence fits no detected genome and is shared "
            "out in proportion to the rest"
        )
    taxa, of_genome = np.unique([taxon_of(text) for text in observed.lineages], return_inverse=True)
    n_taxa = len(taxa)
    known = bool(np.isfinite(observed.lengths).all())
    if n_taxa and not known:
        notes.append("the database does not tell genome lengths: abundances are shares of reads, not of cells")
    lengths = observed.lengths if known else np.ones(len(observed.lineages))

    reads_of_genome = fit.shares * observed.classified_reads
    reads = np.bincount(of_genome, reads_of_genome, minlength=n_taxa)
    copies = np.bincount(of_genome, fit.shares / lengths, minlength=n_taxa)
    mean_length = np.bincount(of_genome, lengths, minlength=n_taxa) / np.bincount(of_genome, minlength=n_taxa)
    plain = np.array([observed.plain.get(taxon, 0.0) for taxon in taxa]) / mean_length

    evidence = expected = np.full(n_taxa, np.nan)
    if observed.markers is not None:
        evidence = np.array([float(observed.markers.seen.get(taxon, 0)) for taxon in taxa])
        available = np.array([float(observed.markers.available.get(taxon, 0)) for taxon in taxa])
        occurrences = np.bincount(of_genome, reads_of_genome * observed.markers.per_read, minlength=n_taxa)
        expected = expected_distinct(available, occurrences)
    table = pd.DataFrame(
        {
            "sample": pd.Series([observed.sample] * n_taxa, dtype=object),
            "taxon": pd.Series([lineage.name_of(taxon) for taxon in taxa], dtype=object),
            "rank": pd.Series([lineage.rank_of(taxon) for taxon in taxa], dtype=object),
            "lineage": pd.Series([str(taxon) for taxon in taxa], dtype=object),
            "reads": reads,
            "evidence": evidence,
            "expected_evidence": expected,
            "abundance": _shares(copies),
            "abundance_plain": _shares(plain),
        }
    )
    relatives = imitated(observed.likelihood, of_genome, fit.shares / lengths)
    reasons = [
        _reason(row, limits, copied < limits.min_relative_share * relative)
        for row, copied, relative in zip(table.itertuples(), copies, relatives, strict=True)
    ]
    table["reason"] = pd.Series(reasons, dtype=object)
    table["kept"] = (table["reason"] == "").astype(bool)
    table = table.sort_values(["abundance", "lineage"], ascending=[False, True], kind="stable")
    return table[list(COLUMNS)].reset_index(drop=True), notes


def imitated(likelihood: csr_matrix, of_genome: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Copies of each taxon's relatives, weighted by how alike they are.

    Parameters
    ----------
    likelihood : (n_classes, n_genomes)
        Probability of each class of evidence seen.
    of_genome : (n_genomes,) int
        Taxon of each genome.
    copies : (n_genomes,) float

    Returns
    -------
    (n_taxa,) float
        For taxon t the sum over the others' genomes g of copies_g times the largest share of evidence of a genome of t
        that falls into classes which g can yield too. An error that turns a k-mer of g into one of t happens at most
        about this often, times a third of the error rate.
    """
    n_taxa = int(of_genome.max(initial=-1)) + 1
    common = np.asarray((likelihood.T @ (likelihood > 0).astype(float)).todense())
    alike = np.zeros((n_taxa, len(copies)))
    np.maximum.at(alike, of_genome, common)
    alike[of_genome, np.arange(len(copies))] = 0
    return alike @ copies


def _shares(values: np.ndarray) -> np.ndarray:
    total = values.sum()
    return values / total if total > 0 else values


def _reason(row: Any, limits: Profile, error_like: bool) -> str:
    """Why a taxon is dropped; empty if it is kept."""
    if row.abundance < limits.min_abundance:
        return f"abundance below {limits.min_abundance:g}"
    if error_like:
        return f"rarer than {limits.min_relative_share:g} of its relatives: as sequencing errors in their reads"
    if np.isnan(row.evidence):
        return ""
    if row.evidence < limits.min_evidence:
        return f"fewer than {limits.min_evidence} distinct k-mers of its own"
    if row.evidence < limits.min_evidence_ratio * row.expected_evidence:
        return f"distinct k-mers below {limits.min_evidence_ratio:g} of what the abundance lets expect"
    return ""
