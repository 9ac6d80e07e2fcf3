"""Real runs of Snakemake on a small simulated study."""

from simulated_studies import data, finished, new_study

__all__ = ["data", "finished", "new_study"]
