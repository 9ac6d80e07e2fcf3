"""Lineages in every style that tools write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentomics.metagenome import lineage
from latentomics.metagenome.taxon_formats import lowest_level, parse_lineage


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("k__Bacteria; p__Firmicutes; c__; o__; f__; g__; s__", "d__Bacteria;p__Firmicutes"),
        ("k__Bacteria; g__Bacteroides; s__fragilis", "d__Bacteria;g__Bacteroides;s__Bacteroides fragilis"),
        ("D_0__Bacteria;D_1__Bacillota;D_5__Bacillus", "d__Bacteria;p__Bacillota;g__Bacillus"),
        ("d__Bacteria;p__Bacillota;__;__", "d__Bacteria;p__Bacillota"),
        (["Bacteria", "Bacillota", "NA"], "d__Bacteria;p__Bacillota"),
        (["d__Bacteria; p__Bacillota"], "d__Bacteria;p__Bacillota"),
        ("k__Bacteria|s__Bacillus_subtilis|t__SGB7", "d__Bacteria;s__Bacillus_subtilis;t__SGB7"),
        ("d__Bacteria;s__Bacillus subtilis_A", "d__Bacteria;s__Bacillus subtilis_A"),
        ("d__Eukaryota;k__Fungi;p__Ascomycota", "d__Eukaryota;p__Ascomycota"),
        ("g__Bacillus", "g__Bacillus"),
        ("Unassigned", ""),
        ("k__Unassigned; p__", ""),
        ("", ""),
        ("ASV_12", None),
        ("s12", None),
    ],
)
def test_lineages(written, expected):
    assert parse_lineage(written) == expected


@given(
    st.dictionaries(
        st.sampled_from(list(lineage.RANKS)), st.from_regex(r"[A-Z][a-z]{3,9}( [a-z]{3,5})?", fullmatch=True)
    )
)
def test_lineages_come_back(names):
    known = lineage.join(names)
    assert parse_lineage(known) == known
    assert parse_lineage(known.split(";")) == known
    assert parse_lineage(known.replace(";", "|")) == known


def test_lowest_level():
    assert lowest_level([("a",), ("a", "b"), ("a", "bc"), ("a", "b", "c"), ("d",)]).tolist() == [0, 0, 1, 1, 1]
