"""How many processes share the work on an embedding, and how. Rules import this: nothing heavy here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from latentomics.resources.quantities import thousand_observations

#: Thousand observations above which a second process saves more time than it takes to start.
SHARED_ABOVE = 5
#: Thousand observations above which a second thread helps with the pictures (:data:`latentomics.cluster.layouts.LARGE`).
LARGE = 20
#: What keeps the libraries of another process to one thread.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def threads_of_cluster(wildcards: Any, input: Iterable[str]) -> int:
    """Function for a rule's ``threads``: two where there is work for two processes.

    Of small data the rule clusters several embeddings at a time. As long as the embedding does not exist the answer is
    one; Snakemake asks again before the job.
    """
    return _two_above(SHARED_ABOVE, input)


def threads_of_layout(wildcards: Any, input: Iterable[str]) -> int:
    """The same for pictures."""
    return _two_above(LARGE, input)


def _two_above(most: float, input: Iterable[str]) -> int:
    try:
        return 2 if thousand_observations(input) > most else 1
    except FileNotFoundError:
        return 1


def share(tasks: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    """Results of some tasks, in their order; this process and ``threads - 1`` others work on them.

    This process begins with the first, a long one if there is any, and goes on with the last that no other has taken or has
    in its queue. A pool of ``threads`` processes, while this one waits, would hold one set of libraries more (some 300 MB).

    Parameters
    ----------
    tasks
        Functions without arguments, which can be pickled if there is more than one thread.
    """
    if threads == 1 or len(tasks) < 2:
        return [task() for task in tasks]
    from joblib.externals.loky import get_reusable_executor
    from threadpoolctl import threadpool_limits

    # Not multiprocessing's own: its processes run the script of the rule anew.
    pool = get_reusable_executor(max_workers=threads - 1, env=dict.fromkeys(ONE_THREAD, "1"))
    futures = {place: pool.submit(task) for place, task in enumerate(tasks) if place}
    try:
        with threadpool_limits(1):
            found = {0: tasks[0]()}
            for place in reversed(futures):
                if futures[place].cancel():
                    found[place] = tasks[place]()
        return [found[place] if place in found else futures[place].result() for place in range(len(tasks))]
    finally:
        # After a failure nobody waits for the others.
        for future in futures.values():
            future.cancel()
