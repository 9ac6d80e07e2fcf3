"""Everything the report shows, read from a results folder when it is first asked for.

Nothing here fails because an optional file or column is absent: a frame is then empty, a mapping too, and the section
that would have shown it says so or is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentomics.assays import registry
from latentomics.assays.normaliser import Normaliser, normalised_columns
from latentomics.io.store import CountsStore
from latentomics.report.reading import read_json, read_tsv
from latentomics.report.sampling import stratified_sample

#: Columns that hold text even where they look like numbers (a cluster "0", a sample "007").
_TEXT = frozenset(
    {
        *("sample", "batch", "condition", "format", "orientation", "id_type", "notes"),
        *("severity", "where", "message", "hint"),
        *("observation", "kind", "rule", "reason"),
        *("embedding", "device", "verdict", "stable", "chosen"),
        *("taxon", "lineage", "factor", "groups", "group", "reference", "note", "source", "control", "kept"),
        *("technology", "method", "top_genes", "warnings"),
    }
)

LAYOUTS: dict[str, tuple[str, str, str]] = {"umap": ("UMAP", "umap1", "umap2"), "tsne": ("t-SNE", "tsne1", "tsne2")}


@dataclass(frozen=True)
class Limits:
    """How much of the results the page may carry.

    Attributes
    ----------
    max_points
        Most observations drawn in the embedding panels.
    max_genes
        Most marker features offered for colouring.
    n_top_markers
        Markers per cluster in the dot plot.
    seed
        Seed of the draw of observations.
    """

    max_points: int = 20000
    max_genes: int = 150
    n_top_markers: int = 5
    seed: int = 0


class ReportData:
    """The results of one assay, read lazily.

    Parameters
    ----------
    assay
        Name of the assay, for instance ``scrna``.
    root
        Its results folder.
    limits
        How much may be drawn.
    """

    def __init__(self, assay: str, root: Path, limits: Limits | None = None):
        self.assay = assay
        self.root = Path(root)
        self.limits = limits or Limits()
        self.kind = registry.assay(assay)
        self.observation, self.observations = self.kind.OBSERVATION, self.kind.OBSERVATIONS
        self.feature, self.features_noun = self.kind.FEATURE, self.kind.FEATURES

    # What was run

    @cached_property
    def run(self) -> dict[str, Any]:
        return self._json("run.json")

    @cached_property
    def verdict(self) -> dict[str, Any]:
        return self._json("verdict.json")

    @cached_property
    def methods(self) -> list[str]:
        """Embeddings in the order of the config, else by name."""
        named = [str(m) for m in self.run.get("methods", [])]
        return named or sorted(path.stem for path in self.root.glob("embeddings/*.parquet"))

    @cached_property
    def primary(self) -> str | None:
        named = self.run.get("primary") or self.verdict.get("primary")
        return str(named) if named else (self.methods[0] if self.methods else None)

    @cached_property
    def normaliser(self) -> Normaliser:
        """What makes expression or abundance of the counts; there must be a counts store."""
        return self.kind.normaliser(self.store, self.run.get("normalisation", self.kind.DEFAULT_NORMALISATION))

    def setting(self, *keys: str, default: Any = None) -> Any:
        """A value of the config, by its nested keys."""
        value: Any = self.run.get("config", {})
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                return default
            value = value[key]
        return default if value is None else value

    # Observations and features

    @cached_property
    def store(self) -> CountsStore | None:
        path = self.root / "counts.zarr"
        return CountsStore(path) if path.exists() else None

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Annotations of the kept observations, in the order of the counts store."""
        return pd.DataFrame() if self.store is None else self.store.obs

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Kept observations and features."""
        if self.store is not None:
            return self.store.shape
        return int(self.verdict.get("n_obs") or 0), int(self.verdict.get("n_features") or 0)

    @cached_property
    def features(self) -> pd.DataFrame:
        return self._parquet("features.parquet")

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Every observation read, kept or not."""
        return self._parquet("cells.parquet")

    @cached_property
    def samples(self) -> pd.DataFrame:
        return self._tsv("samples.tsv")

    @cached_property
    def warnings(self) -> pd.DataFrame:
        return self._tsv("warnings.tsv")

    @cached_property
    def ledger(self) -> pd.DataFrame:
        return self._tsv("ledger.tsv")

    # Per sample, and tables that only some assays write

    @cached_property
    def droplets(self) -> pd.DataFrame:
        """Counts of the barcodes by their rank, and the share that was called, of every sample."""
        return self._parquet("droplets.parquet")

    def table(self, name: str) -> pd.DataFrame:
        """``{name}.tsv`` of the results folder; empty if it was not written."""
        return self._tsv(f"{name}.tsv")

    @cached_property
    def read_steps(self) -> dict[str, pd.DataFrame]:
        """Reads after each step of their quality control (``step``, ``reads``, ``bases``), by sample."""
        found = {path.parent.name: path for path in self.root.glob("samples/*/reads.tsv")}
        tables = {name: self._tsv(f"samples/{name}/reads.tsv") for name in natural_order(found)}
        return {name: table for name, table in tables.items() if len(table) and {"step", "reads"} <= set(table.columns)}

    def sample_facts(self, name: str) -> list[dict[str, Any]]:
        """``samples/{sample}/{name}.json`` of every sample that has one, by sample."""
        found = {path.parent.name: path for path in self.root.glob(f"samples/*/{name}.json")}
        return [self._json(f"samples/{sample}/{name}.json") for sample in natural_order(found)]

    # Per embedding

    def summary(self, method: str) -> dict[str, Any]:
        return self._json(f"models/{method}/summary.json")

    def title_of(self, method: str) -> str:
        return str(self.summary(method).get("title") or method)

    def history(self, method: str) -> pd.DataFrame:
        return self._tsv(f"models/{method}/history.tsv")

    def layout(self, method: str) -> pd.DataFrame:
        return self._parquet(f"layouts/{method}.parquet")

    def selection(self, method: str) -> pd.DataFrame:
        """Evidence per resolution; ``stable`` and ``chosen`` are booleans."""
        frame = self._tsv(f"clusters/{method}.selection.tsv")
        for column in {"stable", "chosen"} & set(frame.columns):
            frame[column] = frame[column].str.lower().isin(["true", "1"])
        return frame

    def clusters(self, method: str) -> pd.Series:
        """Chosen cluster of every kept observation as text, in the order of :attr:`obs`; empty if unknown."""
        frame = self._parquet(f"clusters/{method}.parquet")
        if "cluster" not in frame:
            return pd.Series(dtype=object)
        return frame["cluster"].astype(str).reindex(self.obs.index if len(self.obs) else frame.index)

    def markers(self, method: str) -> pd.DataFrame:
        """Markers with ``cluster`` and ``symbol`` as text, ``rank`` ascending within cluster."""
        frame = self._parquet(f"markers/{method}.parquet")
        if frame.empty or not {"cluster", "feature"} <= set(frame.columns):
            return pd.DataFrame(columns=["cluster", "feature", "symbol", "rank"])
        frame = frame.reset_index(drop=True).assign(cluster=frame["cluster"].astype(str).to_numpy())
        symbol = frame["symbol"] if "symbol" in frame else pd.Series(index=frame.index, dtype=object)
        frame["symbol"] = symbol.astype(object).where(symbol.notna(), frame["feature"]).astype(str)
        if "rank" not in frame:
            frame["rank"] = frame.groupby("cluster").cumcount() + 1
        order = natural_order(frame["cluster"])
        frame["_cluster"] = frame["cluster"].map({name: i for i, name in enumerate(order)})
        return frame.sort_values(["_cluster", "rank", "feature"], kind="stable").drop(columns="_cluster")

    @cached_property
    def scores(self) -> pd.DataFrame:
        frame = self._tsv("scores.tsv")
        return frame.set_index("embedding") if "embedding" in frame else pd.DataFrame()

    @cached_property
    def costs(self) -> pd.DataFrame:
        frame = self._tsv("costs.tsv")
        return frame.set_index("embedding") if "embedding" in frame else pd.DataFrame()

    # What is drawn

    @cached_property
    def drawn(self) -> np.ndarray:
        """Rows of :attr:`obs` that the embedding panels show, ascending."""
        strata = pd.DataFrame(index=self.obs.index)
        if "sample" in self.obs:
            strata["sample"] = self.obs["sample"].astype(str)
        if self.primary is not None and len(cluster := self.clusters(self.primary)) == len(strata):
            strata["cluster"] = cluster
        return stratified_sample(strata, self.limits.max_points, self.limits.seed)

    @cached_property
    def colour_features(self) -> pd.DataFrame:
        """Marker features offered for colouring: ``feature``, ``symbol`` and ``column`` in the store.

        The best of every cluster first, then the second best and so on; the primary embedding's before the others'.
        """
        if self.store is None:
            return pd.DataFrame(columns=["feature", "symbol", "column"])
        ordered = [self.primary, *(m for m in self.methods if m != self.primary)]
        parts = [self.markers(m).sort_values("rank", kind="stable") for m in ordered if m is not None]
        parts = [part[["feature", "symbol"]] for part in parts if len(part)]
        if not parts:
            return pd.DataFrame(columns=["feature", "symbol", "column"])
        found = pd.concat(parts, ignore_index=True).drop_duplicates("feature")
        found["column"] = self.store.var.index.get_indexer(found["feature"])
        found = found[found["column"] >= 0].head(self.limits.max_genes)
        twice = found["symbol"].duplicated(keep=False)
        found.loc[twice, "symbol"] = found["symbol"] + " (" + found["feature"].astype(str) + ")"
        return found.reset_index(drop=True)

    def expression(self, columns: np.ndarray) -> np.ndarray:
        """Normalised values of some features in the drawn observations.

        Parameters
        ----------
        columns
            Column numbers of the counts store.

        Returns
        -------
        numpy.ndarray
            float32, drawn observations x columns.
        """
        if self.store is None:
            raise ValueError("there is no counts store")
        return normalised_columns(self.store, self.normaliser, self.drawn, columns)

    # Reading

    def _json(self, name: str) -> dict[str, Any]:
        return read_json(self.root / name)

    def _parquet(self, name: str) -> pd.DataFrame:
        path = self.root / name
        return pd.read_parquet(path) if path.exists() else pd.DataFrame()

    def _tsv(self, name: str) -> pd.DataFrame:
        return read_tsv(self.root / name, _TEXT)


class SampleData(ReportData):
    """The results up to the joined samples: what an earlier run made of them is not looked at.

    Parameters
    ----------
    assay, root
        As of :class:`ReportData`.
    config
        The sections of the config that the sections of the page speak of.
    """

    def __init__(self, assay: str, root: Path, config: Mapping[str, Any]):
        super().__init__(assay, root)
        self.config = config

    @cached_property
    def run(self) -> dict[str, Any]:
        return {"config": dict(self.config)}

    @cached_property
    def verdict(self) -> dict[str, Any]:
        return {}

    @cached_property
    def methods(self) -> list[str]:
        return []

    @cached_property
    def features(self) -> pd.DataFrame:
        return pd.DataFrame()


def natural_order(labels: Iterable[object]) -> list[str]:
    """Distinct labels as text: whole numbers by value, then the rest by name.

    >>> natural_order(["10", "2", "b", "2"])
    ['2', '10', 'b']
    """
    return sorted({str(v) for v in labels}, key=lambda s: (0, int(s), s) if s.isascii() and s.isdigit() else (1, 0, s))
