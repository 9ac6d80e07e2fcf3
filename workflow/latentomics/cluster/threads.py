"""How many processes share the clustering of an embedding. Rules import this: nothing heavy here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from latentomics.resources.quantities import thousand_observations

#: Thousand observations above which a second process saves more time than it takes to start.
SHARED_ABOVE = 5


def threads_of_cluster(wildcards: Any, input: Iterable[str]) -> int:
    """Function for a rule's ``threads``: two where there is work for two processes.

    Of small data the rule clusters several embeddings at a time. As long as the embedding does not exist the answer is
    one; Snakemake asks again before the job.
    """
    try:
        return 2 if thousand_observations(input) > SHARED_ABOVE else 1
    except FileNotFoundError:
        return 1
