"""How many processes share the work on an embedding. Rules import this: nothing heavy here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from latentomics.resources.quantities import thousand_observations


def two_above(thousand: float) -> Callable[..., int]:
    """Function for a rule's ``threads``: two where there is work for two processes.

    Of small data several embeddings are worked on at a time. As long as the embedding does not exist the answer is one;
    Snakemake asks again before the job.

    Parameters
    ----------
    thousand
        Thousand observations above which a second process saves more time than it takes to start.
    """

    def threads(wildcards: Any, input: Iterable[str]) -> int:
        try:
            return 2 if thousand_observations(input) > thousand else 1
        except FileNotFoundError:
            return 1

    return threads


threads_of_cluster = two_above(5)
#: Above :data:`latentomics.cluster.layouts.LARGE`, UMAP and t-SNE are drawn at a time.
threads_of_layout = two_above(20)
