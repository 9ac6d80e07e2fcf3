"""The methods text of single cells: from reads and droplets to the cells that were kept."""

from __future__ import annotations

from latentomics.report.data import ReportData
from latentomics.report.words import listed, setting
from latentomics.scrna.ambient import registry as ambient
from latentomics.scrna.doublets import registry as doublets

_PAPERS = {
    "scrublet": "Wolock et al. 2019, Cell Systems 8:281",
    "solo": "Bernstein et al. 2020, Cell Systems 11:95",
    "decontx": "Yang et al. 2020, Genome Biology 21:57",
    "cellbender": "Fleming et al. 2023, Nature Methods 20:1323",
}


def with_paper(name: str, title: str) -> str:
    """A method's title and where it was published, if that is known."""
    return f"{title} ({_PAPERS[name]})" if name in _PAPERS else title


def sentences(data: ReportData) -> list[str]:
    """What was done up to the kept cells; steps that this study has not are left out."""
    get = data.setting
    text = []
    if len(data.table("quantification")):
        text.append(
            "Reads were counted per barcode, gene and molecule by kallisto and bustools (Melsted et al. 2021, Nature "
            "Biotechnology 39:813)."
        )
    if "n_called" in data.samples:
        text += _calling(data)
    if (mads := get("qc", "n_mads")) is not None:
        text.append(
            f"Cells further than {setting(mads)} median absolute deviations from their sample's median in log total "
            "counts or log detected genes, or as far above it in mitochondrial share, were dropped (fixed limits where "
            "the settings below name them)."
        )
        text += _doublets(data)
    if (name := get("ambient", "method", default="none")) != "none":
        title = with_paper(name, ambient.method(name).TITLE)
        text.append(
            f"Ambient RNA was removed by {title}, after cells had been judged by their raw counts; features, embeddings, "
            "clusters and markers are made of the corrected counts."
        )
    return text


def _calling(data: ReportData) -> list[str]:
    get = data.setting
    method = get("cells", "method")
    if method == "emptydrops":
        fdr, lower = setting(get("cells", "fdr")), setting(get("cells", "lower"))
        return [
            f"In raw matrices, droplets whose genes differ from those of the ambient RNA (droplets with at most {lower} "
            f"counts) at a false discovery rate of {fdr}, and those above the knee of the barcode ranks, were called "
            "cells (EmptyDrops: Lun et al. 2019, Genome Biology 20:63)."
        ]
    if method == "knee":
        return ["In raw matrices, droplets above the knee of the barcode ranks were called cells."]
    return []


def _doublets(data: ReportData) -> list[str]:
    methods = data.setting("doublets", "methods", default=["scrublet"])
    if not methods:
        return []
    call = data.setting("doublets", "call", default="auto")
    decided = ""
    if call == "vote":
        decided = "; cells that more than half of them called are doublets"
    elif call == "none":
        decided = "; no cell was called by its score"
    elif len(methods) > 1:
        decided = f"; the call is that of {doublets.method(methods[0] if call == 'auto' else call).TITLE}"
    scorers = listed(with_paper(m, doublets.method(m).TITLE) for m in methods)
    return [f"{scorers} scored doublets in each sample{decided}."]
