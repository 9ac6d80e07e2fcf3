"""The whole config: what to compute, never where or with how much."""

from __future__ import annotations

from pydantic import Field

from latentomics.config.base import Section
from latentomics.config.clusters import Clusters
from latentomics.config.doublets import Doublets
from latentomics.config.embeddings import Embeddings
from latentomics.config.features import Features
from latentomics.config.graph import Graph
from latentomics.config.ingest import Ingest
from latentomics.config.layouts import Layouts
from latentomics.config.markers import Markers
from latentomics.config.qc import QC
from latentomics.config.report import Report
from latentomics.config.scores import Scores


class Config(Section):
    """The config of a study. Every key has a default; a config that holds only ``samples:`` is complete."""

    samples: str = Field(
        "config/samples.tsv", min_length=1, description="The sample sheet, relative to the study's folder."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of everything random.")
    ingest: Ingest = Field(Ingest(), description="From the files of the sheet to one counts store.")
    qc: QC = Field(QC(), description="Which cells are kept.")
    doublets: Doublets = Field(Doublets(), description="Two cells in one droplet.")
    features: Features = Field(Features(), description="Features of the embeddings, and normalisation.")
    embeddings: Embeddings = Field(Embeddings(), description="Latent spaces.")  # type: ignore[valid-type]
    graph: Graph = Field(Graph(), description="Nearest neighbours of every embedding.")
    clusters: Clusters = Field(Clusters(), description="Leiden clusters and the choice of their resolution.")
    layouts: Layouts = Field(Layouts(), description="Two-dimensional pictures.")
    markers: Markers = Field(Markers(), description="Features that set clusters apart.")
    scores: Scores = Field(Scores(), description="How embeddings are judged.")
    report: Report = Field(Report(), description="The page for people.")
