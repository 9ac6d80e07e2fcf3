"""The whole config: what to compute, never where or with how much."""

from __future__ import annotations

from pydantic import Field

from latentomics.config.ambient import Ambient
from latentomics.config.associations import Associations
from latentomics.config.base import Section
from latentomics.config.cells import Cells
from latentomics.config.classifier import Classifier
from latentomics.config.clusters import Clusters
from latentomics.config.composition import Composition
from latentomics.config.doublets import Doublets
from latentomics.config.embeddings import Embeddings
from latentomics.config.features import Features
from latentomics.config.graph import Graph
from latentomics.config.ingest import Ingest
from latentomics.config.layouts import Layouts
from latentomics.config.markers import Markers
from latentomics.config.prediction import Prediction
from latentomics.config.profile import Profile
from latentomics.config.qc import QC
from latentomics.config.quantify import Quantify
from latentomics.config.reads import Reads
from latentomics.config.report import Report
from latentomics.config.scores import Scores
from latentomics.config.taxa import Taxa


class Config(Section):
    """The config of a study. Every key has a default; a config that holds only ``samples:`` is complete."""

    samples: str | None = Field(
        "config/samples.tsv",
        min_length=1,
        description="The sample sheet, relative to the study's folder. `null`: no samples, where only read classifiers are "
        "trained.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of everything random.")
    ingest: Ingest = Field(Ingest(), description="From the files of the sheet to one counts store.")
    quantify: Quantify = Field(Quantify(), description="From the reads of single cells to counts.")
    cells: Cells = Field(Cells(), description="Which droplets hold a cell, in raw matrices.")
    ambient: Ambient = Field(Ambient(), description="Ambient RNA in droplets.")
    qc: QC = Field(QC(), description="Which cells are kept.")
    doublets: Doublets = Field(Doublets(), description="Two cells in one droplet.")
    features: Features = Field(Features(), description="Features of the embeddings, and normalisation.")
    reads: Reads = Field(Reads(), description="Quality control of shotgun reads, and removal of host reads.")
    profile: Profile = Field(Profile(), description="Taxonomic profiles of shotgun reads.")
    taxa: Taxa = Field(Taxa(), description="Which samples and taxa of metagenomes are kept.")
    composition: Composition = Field(Composition(), description="Normalisation of metagenomic taxa.")
    embeddings: Embeddings = Field(Embeddings(), description="Latent spaces.")  # type: ignore[valid-type]
    graph: Graph = Field(Graph(), description="Nearest neighbours of every embedding.")
    clusters: Clusters = Field(Clusters(), description="Leiden clusters and the choice of their resolution.")
    layouts: Layouts = Field(Layouts(), description="Two-dimensional pictures.")
    markers: Markers = Field(Markers(), description="Features that set clusters apart.")
    associations: Associations = Field(Associations(), description="Conditions compared, of metagenomes.")
    prediction: Prediction = Field(Prediction(), description="Prediction of a condition from metagenomes.")
    classifier: Classifier = Field(Classifier(), description="Deep classifiers of short reads.")  # type: ignore[valid-type]
    scores: Scores = Field(Scores(), description="How embeddings are judged.")
    report: Report = Field(Report(), description="The page for people.")
