"""What a person should know of a quantified sample: rates, numbers, and what is suspicious about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from latentomics.scrna.quantify.kb import bustools

#: Below this share of mapped reads with a barcode of the list (or one base beside one), something is amiss.
_LOW_BARCODES = 0.5


class Run(NamedTuple):
    """What kb left: figures of kallisto, and of bustools before and after the barcodes were corrected.

    ``corrected`` is None where they were left as they are.
    """

    mapped: dict[str, Any]
    before: dict[str, Any]
    corrected: dict[str, Any] | None


def read_run(out: Path) -> Run:
    """Read kb's figures from its output folder."""
    corrected_bus, figures = out / "output.unfiltered.bus", out / "inspect.corrected.json"
    corrected = None
    if corrected_bus.is_file():
        bustools("inspect", "-o", figures, corrected_bus)
        corrected = json.loads(figures.read_text("utf-8"))
    return Run(
        json.loads((out / "run_info.json").read_text("utf-8")),
        json.loads((out / "inspect.json").read_text("utf-8")),
        corrected,
    )


def summarise(run: Run, counts: csr_matrix) -> dict[str, Any]:
    """Figures of a sample.

    Parameters
    ----------
    counts
        Barcodes x genes.

    Returns
    -------
    dict
        ``n_reads``, ``n_mapped`` (to any transcript), ``n_unique`` (to one), with rates (fraction of all reads);
        ``barcodes_exact``, ``barcodes_corrected`` (fraction of mapped reads; None where no list was used);
        ``n_barcodes`` (with a count), ``n_umis`` (counted: of one gene), ``reads_per_umi``, ``saturation``
        (1 - distinct barcodes with UMI / reads, as Cell Ranger defines it), ``median_umis`` and ``median_genes`` (of
        the barcodes with a count, most of which are no cells).
    """
    mapped, before = run.mapped, run.before
    reads, n_mapped = mapped["n_processed"], mapped["n_pseudoaligned"]
    used = run.corrected or before
    exact = before["numReadsOnOnlist"] / before["numReads"] if run.corrected else None
    kept = used["numReads"] / before["numReads"]
    totals = np.asarray(counts.sum(axis=1)).ravel()
    genes = np.diff(counts.indptr)
    some = totals > 0
    return {
        "n_reads": reads,
        "n_mapped": n_mapped,
        "mapping_rate": n_mapped / reads,
        "n_unique": mapped["n_unique"],
        "unique_rate": mapped["n_unique"] / reads,
        "barcodes_exact": exact,
        "barcodes_corrected": None if exact is None else kept - exact,
        "n_barcodes": int(some.sum()),
        "n_umis": int(totals.sum()),
        "reads_per_umi": used["numReads"] / used["numBarcodeUMIs"],
        "saturation": 1 - used["numBarcodeUMIs"] / used["numReads"],
        "median_umis": float(np.median(totals[some])) if some.any() else 0.0,
        "median_genes": float(np.median(genes[some])) if some.any() else 0.0,
        "n_genes": int((np.bincount(counts.indices, minlength=counts.shape[1]) > 0).sum()),
    }


def warnings(sample: str, figures: dict[str, Any], min_mapping_rate: float) -> list[dict[str, str]]:
    """What a user should see: each with ``what`` and ``hint``."""
    found = []
    if figures["mapping_rate"] < min_mapping_rate:
        what = (
            f"sample {sample!r}: only {figures['mapping_rate']:.1%} of its {figures['n_reads']} reads map "
            f"(`quantify.min_mapping_rate` is {min_mapping_rate:.0%})"
        )
        hint = (
            "is the reference of the right organism and complete, the technology the right one? Reads of nuclei map "
            "less, as introns are not part of the transcripts."
        )
        found.append({"what": what, "hint": hint})
    if figures["barcodes_exact"] is not None:
        known = figures["barcodes_exact"] + figures["barcodes_corrected"]
        if known < _LOW_BARCODES:
            what = f"sample {sample!r}: only {known:.1%} of its mapped reads have a barcode of the list"
            found.append({"what": what, "hint": "is it the list of this technology? The other reads were left out."})
    return found
