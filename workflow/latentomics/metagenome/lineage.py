"""Lineages as text, one form for every tool: ``d__Bacteria;p__Bacillota;...;s__Bacillus subtilis``.

Ranks stand in their order, unknown ones are left out. The names are those of the tool that gave them: nothing is
translated between taxonomies.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Rank and its prefix, from the root down.
RANKS = {
    "domain": "d",
    "phylum": "p",
    "class": "c",
    "order": "o",
    "family": "f",
    "genus": "g",
    "species": "s",
    "strain": "t",
}
_RANK_OF = {prefix: rank for rank, prefix in RANKS.items()}
#: Other tools' names of the same ranks.
SYNONYMS = {"superkingdom": "domain", "kingdom": "domain", "k": "domain", "d": "domain", "acellular root": "domain"}


def join(names: Mapping[str, str]) -> str:
    """Text of a lineage.

    Parameters
    ----------
    names
        Name at each known rank (keys of :data:`RANKS`); empty ones are left out.

    >>> join({"species": "Bacillus subtilis", "domain": "Bacteria", "genus": ""})
    'd__Bacteria;s__Bacillus subtilis'
    """
    parts = ((prefix, " ".join(names.get(rank, "").replace(";", " ").split())) for rank, prefix in RANKS.items())
    return ";".join(f"{prefix}__{name}" for prefix, name in parts if name)


def split(lineage: str) -> dict[str, str]:
    """Name at each known rank; the inverse of :func:`join`.

    >>> split("d__Bacteria;g__Bacillus")
    {'domain': 'Bacteria', 'genus': 'Bacillus'}
    """
    parts = (part.split("__", 1) for part in lineage.split(";") if "__" in part)
    return {_RANK_OF[prefix]: name for prefix, name in parts if prefix in _RANK_OF and name}


def rank_of(lineage: str) -> str:
    """The lowest known rank; ``root`` for an empty lineage.

    >>> rank_of("d__Bacteria;g__Bacillus"), rank_of("")
    ('genus', 'root')
    """
    return next(reversed(split(lineage)), "root")


def name_of(lineage: str) -> str:
    """Name at the lowest known rank, ``root`` for an empty lineage.

    >>> name_of("d__Bacteria;g__Bacillus")
    'Bacillus'
    """
    return next(reversed(split(lineage).values()), "root")


def at_rank(lineage: str, rank: str) -> str:
    """The lineage cut below ``rank``; a lineage that does not reach it stays as it is.

    >>> at_rank("d__Bacteria;g__Bacillus;s__Bacillus subtilis", "genus")
    'd__Bacteria;g__Bacillus'
    """
    depth = list(RANKS).index(rank)
    return join({known: name for known, name in split(lineage).items() if list(RANKS).index(known) <= depth})
