"""BIOM tables, versions 1 (JSON) and 2 (HDF5), read by biom-format."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.sparse import csr_matrix

from latentomics.config.row import InputRow
from latentomics.io.tables import fault, open_binary, reading
from latentomics.metagenome.taxon_formats import LINEAGE_COLUMNS, TaxonTable, lineages_of


def read_biom(row: InputRow) -> TaxonTable:
    """A BIOM table, version 1 (JSON) or 2 (HDF5), read by biom-format."""
    import h5py
    from biom import Table
    from biom.exception import BiomException

    hint = "validate it with `biom validate-table`; is the file complete?"
    with reading(row, row.path, "BIOM table", hint):
        try:
            with open_binary(row.path) as stream:
                packed = io.BytesIO(stream.read())
            if packed.getbuffer()[:8] == b"\x89HDF\r\n\x1a\n":
                with h5py.File(packed, "r") as file:
                    table = Table.from_hdf5(file)
            else:
                table = Table.from_json(json.load(packed))
        except BiomException as error:
            if "uplicate" in str(error):
                what = f"an id of the BIOM table appears twice ({error})"
                raise fault(row, what, "sum or rename what repeats.") from error
            raise
    taxa, samples = ([str(name) for name in table.ids(axis=axis)] for axis in ("observation", "sample"))
    lineages, unclassified, bare = lineages_of(taxa, _biom_lineages(table.metadata(axis="observation"), taxa))
    own = table.metadata(axis="sample")
    metadata = pd.DataFrame([dict(entry or {}) for entry in own], index=samples) if own else pd.DataFrame(index=samples)
    return TaxonTable(
        values=csr_matrix(table.matrix_data, dtype=float),
        taxa=taxa,
        samples=samples,
        lineages=lineages,
        unclassified=unclassified,
        profiler="BIOM table",
        version=str(table.generated_by or ""),
        without_lineage=bare,
        metadata=metadata.map(lambda value: "" if value is None else str(value)).astype(object),
    )


def _biom_lineages(metadata: Sequence[Mapping[str, Any] | None] | None, taxa: Sequence[str]) -> list[Any]:
    """What a BIOM table says of each taxon's lineage: the first key that is known, else its id."""
    found: list[Any] = []
    for name, entry in zip(taxa, metadata or [None] * len(taxa), strict=True):
        folded = {str(key).casefold(): value for key, value in (entry or {}).items()}
        value = next((folded[key] for key in LINEAGE_COLUMNS if key in folded), None)
        found.append(name if value is None else value)
    return found
