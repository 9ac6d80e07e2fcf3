"""How it was done, with what, and how to load the results."""

from __future__ import annotations

import json
from typing import Any

from latentomics.report import cell_methods, metagenome_methods
from latentomics.report.data import ReportData
from latentomics.report.section import Section
from latentomics.report.words import listed, percent, setting

#: Package and what it did, in the order of the work; what only one assay uses comes first.
_OWN_TOOLS = {
    "scrna": (
        ("kb-python", "counting of reads by kallisto and bustools"),
        ("cellbender", "removal of ambient RNA"),
        ("scanpy", "quality metrics, gene selection, normalisation, Leiden clustering and UMAP"),
    ),
    "metagenome": (
        ("cutadapt", "trimming"),
        ("dnaio", "reading and writing of reads"),
        ("sourmash", "k-mer sketches"),
        ("biom-format", "BIOM tables"),
        ("scikit-bio", "normalisation, diversity, ordination, PERMANOVA and differential abundance"),
        ("scanpy", "Leiden clustering and UMAP"),
    ),
}
_TOOLS = (
    ("scvi-tools", "scVI"),
    ("torch", "the networks"),
    ("lightning", "training"),
    ("openTSNE", "t-SNE"),
    ("scib-metrics", "the batch and label scores"),
    ("scikit-learn", "neighbours and metrics"),
    ("anndata", "the result file"),
)


def build(data: ReportData) -> Section | None:
    """Versions, seed and settings of run.json; None without that file."""
    run = data.run
    if not run:
        return None
    versions = {str(k): str(v) for k, v in sorted((run.get("versions") or {}).items(), key=lambda kv: kv[0].lower())}
    folded = {name.lower(): name for name in versions}
    tools = [
        f"{folded[name.lower()]} {versions[folded[name.lower()]]} for {what}"
        for name, what in (*_OWN_TOOLS.get(data.assay, ()), *_TOOLS)
        if name.lower() in folded and _used(data, name)
    ]
    return Section(
        id="methods",
        title="Methods",
        template="methods.html.j2",
        context={
            "text": _text(data),
            "tools": tools,
            "versions": versions,
            "seed": run.get("seed"),
            "code": run.get("code_version") or run.get("code") or versions.get("latentomics"),
            "config": _outline(run.get("config") or {}),
            "loading": _loading(data),
        },
    )


def _used(data: ReportData, package: str) -> bool:
    """Whether this run did what a package is named for: not every study has reads, tables or every embedding."""
    if package in ("cutadapt", "dnaio"):
        return bool(data.sample_facts("reads"))
    if package in ("sourmash", "biom-format"):
        done = {str(p.get(key)) for p in data.sample_facts("profile") for key in ("profiler", "source")}
        return package.removesuffix("-format") in done
    if package == "kb-python":
        return len(data.table("quantification")) > 0
    if package == "cellbender":
        return data.setting("ambient", "method") == "cellbender"
    return (
        package != "scvi-tools" or "scvi" in data.methods or "solo" in data.setting("doublets", "methods", default=[])
    )


def _text(data: ReportData) -> list[list[str]]:
    """The methods as paragraphs of sentences; a sentence whose settings are unknown is left out."""
    get = data.setting
    text: list[str] = []
    paragraphs = [text]
    if data.assay == "metagenome":
        text += metagenome_methods.sentences(data)
        text = []
        paragraphs.append(text)
    else:
        text += cell_methods.sentences(data)
    if (n := data.verdict.get("n_selected")) is not None:
        text.append(f"{int(n):,} {data.features_noun} were selected for embedding.")
    if data.methods:
        text.append(f"Embeddings computed: {listed(data.title_of(m) for m in data.methods)}.")
    if (n := get("clusters", "n_resamples")) is not None:
        share = percent(get("clusters", "fraction", default=0.8), 0)
        threshold = setting(get("clusters", "min_stability", default=0.85))
        text.append(
            f"At each resolution of a grid, Leiden's clusters that held-out {data.observations} could not tell apart "
            f"(d' below {setting(get('clusters', 'min_separation', default=0))}) were merged; this was repeated on {n} "
            f"subsamples of {share} of the {data.observations}, and the resolution with most clusters whose mean "
            f"adjusted Rand index reached {threshold} was chosen."
        )
    if data.store is not None:
        text.append(f"{data.kind.VALUE.capitalize()} in this page is {data.normaliser.sentence}.")
    if data.assay == "metagenome":
        text.append(
            "Markers are ranked by the area under the ROC curve of the centred log-ratios, cluster against rest."
        )
        paragraphs.append(metagenome_methods.comparisons(data))
    else:
        text.append(
            "Markers are ranked by the area under the ROC curve of a Wilcoxon rank-sum test, cluster against rest."
        )
    return [sentences for sentences in paragraphs if sentences]


def _outline(config: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            rows += _outline(value, f"{name}.")
        else:
            rows.append((name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows


def _loading(data: ReportData) -> list[tuple[str, str]]:
    root = f"results/{data.assay}"
    # What the embeddings were made of.
    layer = "counts" if data.store is None else data.store.layer
    code = [
        (
            "The joined result",
            f'import anndata as ad\nadata = ad.read_h5ad("{root}/{data.assay}.h5ad")\n'
            'adata.obs["cluster"], adata.obsm.keys(), adata.layers["counts"]',
        )
    ]
    if "scvi" in data.methods:
        code.append(
            (
                "The scVI model",
                "import scvi\n"
                'selected = adata[:, adata.var["highly_variable"]].copy()\n'
                f'selected.X = selected.layers["{layer}"]\n'
                f'model = scvi.model.SCVI.load("{root}/models/scvi", adata=selected)\n'
                "latent = model.get_latent_representation()",
            )
        )
    if "autoencoder" in data.methods:
        code.append(
            (
                "The autoencoder's latent coordinates",
                f'import pandas as pd\nlatent = pd.read_parquet("{root}/embeddings/autoencoder.parquet")\n'
                "latent.loc[adata.obs_names]",
            )
        )
    return code
