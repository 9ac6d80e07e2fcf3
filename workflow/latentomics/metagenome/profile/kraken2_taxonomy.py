"""The taxonomy of a Kraken2 database: written from lineages, or read from an existing database."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
import pandas as pd

from latentomics.metagenome import lineage
from latentomics.metagenome.profile.evidence import taxon_of
from latentomics.metagenome.profile.genomes import Genome
from latentomics.problems import InputError, Problem

_NCBI_RANK = {"domain": "superkingdom"}
_MAGIC = b"K2TAXDAT"
#: Fields of a node in ``taxo.k2d``, each a little-endian 64-bit number.
_FIELDS = ("parent", "first_child", "n_children", "name", "rank", "taxid", "godparent")


def write_taxonomy(genomes: Sequence[Genome], folder: Path) -> tuple[pd.DataFrame, list[int]]:
    """Write ``nodes.dmp`` and ``names.dmp`` (NCBI taxdump) of the genomes' lineages.

    Returns
    -------
    nodes, leaves
        Table with ``taxid``, ``lineage`` and ``taxon`` of every node, and the node of each genome, which lies below its
        lineage's lowest rank.
    """
    folder.mkdir()
    taxid_of: dict[str, int] = {"": 1}
    records = [(1, 1, "no rank", "root")]

    def node(text: str) -> int:
        if text not in taxid_of:
            names = lineage.split(text)
            rank = lineage.rank_of(text)
            parent = node(lineage.join({k: v for k, v in names.items() if k != rank}))
            taxid_of[text] = len(records) + 1
            records.append((taxid_of[text], parent, _NCBI_RANK.get(rank, rank), names[rank]))
        return taxid_of[text]

    leaves = []
    texts = {}
    for genome in genomes:
        parent = node(genome.lineage)
        leaves.append(len(records) + 1)
        records.append((leaves[-1], parent, "no rank", re.sub(r"[|\t\n]", " ", genome.name)))
        texts[leaves[-1]] = genome.lineage
    texts |= {taxid: text for text, taxid in taxid_of.items()}
    with (folder / "nodes.dmp").open("w") as nodes, (folder / "names.dmp").open("w") as names:
        for taxid, parent, rank, name in records:
            nodes.write(f"{taxid}\t|\t{parent}\t|\t{rank}\t|\t\t|\n")
            names.write(f"{taxid}\t|\t{re.sub(r'[|]', ' ', name)}\t|\t\t|\tscientific name\t|\n")
    table = pd.DataFrame({"taxid": [r[0] for r in records], "lineage": [texts[r[0]] for r in records]})
    return _with_taxa(table, set(leaves)), leaves


def _with_taxa(nodes: pd.DataFrame, leaves: Set[int] = frozenset()) -> pd.DataFrame:
    """Add the ``taxon`` that reads of a node count for: its species, that of a genome's own node; empty further up."""
    pairs = zip(nodes["taxid"], nodes["lineage"], strict=True)
    taxa = [taxon_of(text) if "species" in lineage.split(text) or taxid in leaves else "" for taxid, text in pairs]
    return nodes.assign(taxon=taxa)


def read_taxonomy(path: Path) -> pd.DataFrame:
    """``taxid``, ``lineage`` and ``taxon`` of every node of a Kraken2 database's ``taxo.k2d``.

    Read from the file (Kraken2's ``taxonomy.h``), as ``kraken2-inspect`` of version 2.1.2 prints no ranks for the first
    three levels. A node without a rank below a species counts as a strain.

    Raises
    ------
    InputError
        If the file is cut short or of another format.
    """
    hint = "give the folder of a complete Kraken2 database, version 2."
    try:
        raw = path.read_bytes()
        n_nodes, name_bytes, rank_bytes = np.frombuffer(raw, "<u8", 3, len(_MAGIC)).tolist()
        start = len(_MAGIC) + 24
        nodes = np.frombuffer(raw, "<u8", n_nodes * len(_FIELDS), start).reshape(-1, len(_FIELDS))
        texts = raw[start + nodes.nbytes :]
        if not raw.startswith(_MAGIC) or len(texts) < name_bytes + rank_bytes:
            raise ValueError("not a complete Kraken2 taxonomy")
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(Problem(str(path), f"not a readable taxonomy ({error})", hint)) from error

    def text(offset: int) -> str:
        return texts[offset : texts.index(b"\0", offset)].decode(errors="replace")

    known: list[dict[str, str]] = [{}]
    rows = []
    # The first entry is empty, the second the root; parents come before their children.
    for parent, _, _, name, rank, taxid, _ in nodes[1:].tolist():
        above = known[parent] if parent < len(known) else {}
        word = text(name_bytes + rank)
        word = lineage.SYNONYMS.get(word, word)
        if "species" in above and word not in lineage.RANKS:
            word = "strain"
        known.append({**above, word: text(name)} if word in lineage.RANKS and word not in above else above)
        rows.append((taxid, lineage.join(known[-1])))
    return _with_taxa(pd.DataFrame(rows, columns=["taxid", "lineage"]))
