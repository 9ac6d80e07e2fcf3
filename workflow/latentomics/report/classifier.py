"""What the report shows of the read classifier, read from its results folder when it is first asked for.

Nothing here fails because an optional file or column is absent: a frame is then empty, a mapping too, and the section
that would have shown it says so or is left out.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from latentomics.reads.models import registry
from latentomics.reads.store import SPLITS, ReadStore
from latentomics.report.data import natural_order
from latentomics.report.figures import FAINT, MUTED
from latentomics.report.palette import color
from latentomics.report.reading import read_json, read_tsv

#: The baselines, in the order of the page: what takes no learning, and what a network must beat.
MAJORITY, KMER = "majority", "kmer"

#: Columns that hold text even where they look like numbers (a class "1", a sample "007"). All others are numbers.
_TEXT = frozenset({"sample", "class", "model", "device", "kind", "item", "reason", "anchor", "base", "scaled"})


class ClassifierData:
    """The results of the read classifier, read lazily.

    Parameters
    ----------
    root
        Its results folder, ``results/reads``.
    """

    def __init__(self, root: Path):
        self.root = Path(root)

    # The training data

    @cached_property
    def facts(self) -> dict[str, Any]:
        """How the training data were made: ``data/data.json``."""
        return self._json("data/data.json")

    @cached_property
    def classes(self) -> list[str]:
        return [str(name) for name in self.facts.get("classes", [])]

    @cached_property
    def counts(self) -> pd.DataFrame:
        """Reads per class (index) and split (columns)."""
        if not (self.root / "data/splits.npy").exists():
            return pd.DataFrame(columns=list(SPLITS), dtype=int)
        store = ReadStore(self.root / "data")
        return pd.DataFrame(store.counts.T, index=self.classes, columns=list(SPLITS))

    @cached_property
    def ledger(self) -> pd.DataFrame:
        return self._tsv("ledger.tsv")

    # Networks and baselines

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per network and baseline (index), in the order written."""
        frame = self._tsv("scores.tsv")
        return frame.set_index("model") if "model" in frame else pd.DataFrame()

    @cached_property
    def verdict(self) -> dict[str, Any]:
        return self._json("verdict.json")

    @cached_property
    def networks(self) -> list[str]:
        """Networks that were judged, in the order of the scores."""
        return [name for name in self.scores.index if name not in (MAJORITY, KMER)]

    @cached_property
    def best(self) -> str | None:
        """The network that the verdict names, else the most accurate."""
        named = str(self.verdict.get("best", ""))
        if named in self.networks:
            return named
        accuracy = self.scores["accuracy"].reindex(self.networks).dropna() if "accuracy" in self.scores else []
        return str(accuracy.idxmax()) if len(accuracy) else None

    def model(self, name: str) -> dict[str, Any]:
        """What the folder of a network or baseline says of itself."""
        return self._json(f"models/{name}/model.json") or self._json(f"baselines/{name}/model.json")

    def title_of(self, name: str) -> str:
        """Name of a network or baseline for people."""
        if name in registry.MODELS:
            return str(registry.model(name).TITLE)
        if name == KMER:
            length = (self.model(name).get("params") or {}).get("k", "k")
            return f"{length}-mer logistic regression"
        return "Largest class" if name == MAJORITY else name

    def phrase_of(self, name: str) -> str:
        """A network or baseline within a sentence."""
        if name == MAJORITY:
            return "naming the largest class"
        title = self.title_of(name)
        return title if name == KMER else f"the {title[:1].lower()}{title[1:]}"

    def colour_of(self, name: str) -> str:
        """The colour of a network or baseline, the same in every figure."""
        if name in (MAJORITY, KMER):
            return FAINT if name == MAJORITY else MUTED
        return color(self.networks.index(name) if name in self.networks else 0)

    def judged(self, name: str, table: str) -> pd.DataFrame:
        """A table of the judgement of a network or baseline: ``by_length``, ``calibration`` and so on."""
        return self._tsv(f"scores/{name}/{table}.tsv")

    def confusion(self, name: str) -> pd.DataFrame:
        """Test reads by true class (index) and predicted class (columns); empty if it was not written."""
        path = self.root / f"scores/{name}/confusion.tsv"
        if not path.exists():
            return pd.DataFrame()
        # Classes may have any names, "class" too: columns go by their place.
        cells = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, header=None, skiprows=1)
        return cells.iloc[:, 1:].astype(int).set_axis(cells[0], axis=0).set_axis(cells[0], axis=1)

    def summary(self, name: str) -> dict[str, Any]:
        """All numbers of the judgement of a network or baseline."""
        return self._json(f"scores/{name}/summary.json")

    # What they look at, how they learn, and what they say of samples

    @cached_property
    def attributed(self) -> list[str]:
        """Networks with sequence logos, the best one first."""
        found = natural_order(path.parent.name for path in self.root.glob("attribution/*/logos.tsv"))
        return sorted(found, key=lambda name: name != self.best)

    def logos(self, name: str) -> pd.DataFrame:
        return self._tsv(f"attribution/{name}/logos.tsv")

    def attribution(self, name: str) -> dict[str, Any]:
        return self._json(f"attribution/{name}/summary.json")

    @cached_property
    def curve(self) -> pd.DataFrame:
        """Accuracy of networks and baselines trained on shares of the reads."""
        parts = [
            self._tsv(f"curve/{name}.tsv") for name in natural_order(p.stem for p in self.root.glob("curve/*.tsv"))
        ]
        return pd.concat(parts, ignore_index=True) if parts else self._tsv("curve.tsv")

    @cached_property
    def shares(self) -> pd.DataFrame:
        """Shares of the classes in every sample, sample after sample."""
        found = natural_order(path.parent.name for path in self.root.glob("samples/*/shares.tsv"))
        parts = [self._tsv(f"samples/{name}/shares.tsv").assign(sample=name) for name in found]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def sample_facts(self, sample: str) -> dict[str, Any]:
        """How a sample's reads were classified, and what stands against its shares."""
        return self._json(f"samples/{sample}/shares.json")

    # Reading

    def _json(self, name: str) -> dict[str, Any]:
        return read_json(self.root / name)

    def _tsv(self, name: str) -> pd.DataFrame:
        return read_tsv(self.root / name, _TEXT)
