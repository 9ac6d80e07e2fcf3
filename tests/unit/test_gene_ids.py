"""Gene names: which side of a table they are, what they become, and of which organism they are."""

from __future__ import annotations

import pytest
from matrix_cases import CELLS, GENES, SYMBOLS

from latentomics.io.gene_ids import gene_table, guess_organism, table_orientation


@pytest.mark.parametrize(
    ("rows", "columns", "expected", "why"),
    [
        (GENES, CELLS, "genes x cells", "Ensembl"),
        (CELLS, GENES, "cells x genes", "Ensembl"),
        # A cell named like a gene does not turn the table.
        (["c1", "c2", "c3"], SYMBOLS, "cells x genes", "symbols"),
        (["Actb", "mt-Co1", "Foo"], ["b1", "b2", "b3"], "genes x cells", "symbols"),
        (SYMBOLS, ["VIM", *[f"w{i}" for i in range(40)]], "genes x cells", "symbols"),
        (["ACTB", "x", "y", "z"], ["VIM", "a", "b"], None, ""),
        (CELLS, ["g1", "g2", "g3"], "cells x genes", "barcodes"),
        ([f"g{i}" for i in range(30)], [f"c{i}" for i in range(10)], "genes x cells", "longer side"),
        ([f"c{i}" for i in range(10)], [f"g{i}" for i in range(30)], "cells x genes", "longer side"),
        ([f"g{i}" for i in range(29)], [f"c{i}" for i in range(10)], None, ""),
    ],
)
def test_table_orientation(rows, columns, expected, why):
    orientation, reason = table_orientation(rows, columns)
    assert orientation == expected
    assert why in reason


def test_versions_are_stripped_only_if_ids_stay_unique():
    assert list(gene_table(["ENSG00000000001.4", "ENSG00000000002.11"], {}).var.index) == GENES[1:3]
    kept = gene_table(["ENSG00000000001.4", "ENSG00000000001.5"], {})
    assert list(kept.var.index) == ["ENSG00000000001.4", "ENSG00000000001.5"]
    assert "version" in kept.notes[0]
    copies = gene_table(["ENSG00000000001.4", "ENSG00000000001.4_PAR_Y"], {})
    assert list(copies.var.index) == ["ENSG00000000001", "ENSG00000000001_PAR_Y"]


def test_repeated_symbols_get_a_suffix_repeated_ensembl_ids_do_not():
    symbols = gene_table(["A", "B", "A", "A", "A-1"], {})
    assert list(symbols.var.index) == ["A", "B", "A-2", "A-3", "A-1"]
    assert list(symbols.var["symbol"]) == ["A", "B", "A", "A", "A-1"]
    assert symbols.renamed == 2
    assert "2 gene names" in symbols.notes[0]
    ids = gene_table([GENES[0], GENES[0], GENES[1], "GFP", "GFP"], {})
    assert list(ids.var.index) == [GENES[0], GENES[0], GENES[1], "GFP", "GFP-1"]
    assert ids.renamed == 1


def test_features_without_an_ensembl_id_keep_their_own():
    found = gene_table([*GENES[:3], "ERCC-00002"], {"gene_symbols": ["A", "B", "C", ""]})
    assert found.id_type == "ensembl"
    assert list(found.var.index) == [*GENES[:3], "ERCC-00002"]
    assert list(found.var["ensembl"]) == [*GENES[:3], ""]
    novel = gene_table(["ACTB", "GAPDH", "ENSG00000000009.1"], {})
    assert (novel.id_type, list(novel.var["ensembl"])) == ("symbol", ["", "", "ENSG00000000009"])
    unlisted = gene_table(["ACTB", "GAPDH", "FOO"], {"gene_ids": [*GENES[:2], ""]})
    assert list(unlisted.var.index) == [*GENES[:2], "FOO"]


def test_first_column_that_is_no_ensembl_id_gives_way_to_the_symbol():
    found = gene_table(["gene-1", "gene-2"], {"gene_ids": ["gene-1", "gene-2"], "gene_symbols": ["ACTB", "TP53"]})
    assert found.id_type == "symbol"


@pytest.mark.parametrize(
    ("ensembl", "symbols", "expected"),
    [
        (GENES, [""] * 5, "human"),
        (["ENSMUSG00000000001"], [""], "mouse"),
        (["ENSDARG00000000001"], [""], None),
        ([GENES[0], "ENSMUSG00000000001"], ["", ""], None),
        ([""] * 2, ["MT-ND1", "x"], "human"),
        ([""] * 2, ["mt-Nd1", "x"], "mouse"),
        ([""] * 2, ["mt-Nd1", "MT-ND1"], None),
        ([""] * 1, ["mt-nd1"], None),  # zebrafish
        ([""] * 12, [f"TP{i}" for i in range(12)], "human"),
        ([""] * 12, [f"Trp{i}" for i in range(12)], "mouse"),
        ([""] * 12, ["H19", "LOC1", *[f"Trp{i}" for i in range(10)]], "mouse"),
        ([""] * 12, [f"unc{i}" for i in range(12)], None),
        ([""] * 2, ["TP53", "CD4"], None),  # too few to judge by capitals
    ],
)
def test_organism(ensembl, symbols, expected):
    assert guess_organism(ensembl, symbols) == expected
