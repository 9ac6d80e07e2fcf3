"""From Python values to what may stand inside the page: escaped text, safe JSON, compact arrays."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np

#: Plotly reads its own subset of HTML in every label, so data must not look like markup.
_PLOTLY_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

#: Inside <script type="application/json"> only `<` can end the element; the others guard against other parsers.
_JSON_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}

#: Largest code of a quantised value.
QUANTISED_MAX = 255


def plotly_text(value: object) -> str:
    """Escape text for a plotly label, tick or hover box, which parse pseudo-HTML."""
    return str(value).translate(_PLOTLY_ENTITIES)


def json_text(value: object) -> str:
    """JSON that may stand inside a ``<script>`` element; NaN and infinities become ``null``."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character, escape in _JSON_ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def packed(values: np.ndarray) -> dict[str, str]:
    """A one-dimensional array in plotly's typed-array form: ``dtype`` and base64 of the little-endian bytes.

    Parameters
    ----------
    values
        Of kind float (sent as float32), or unsigned integer of 1 or 2 bytes.
    """
    if values.dtype.kind == "f":
        values = values.astype("<f4")
    elif values.dtype.str not in ("|u1", "<u2"):
        raise TypeError(f"cannot pack {values.dtype}")
    return {
        "dtype": values.dtype.str[1:],
        "bdata": base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii"),
    }


def codes(values: np.ndarray) -> np.ndarray:
    """The smallest unsigned type that holds non-negative category codes."""
    return values.astype("u1" if values.size == 0 or values.max() <= 0xFF else "<u2")


def quantised(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values as bytes, and the values that the smallest and the largest byte stand for.

    The step is 1/255 of the span: finer than a colour scale can show.

    Returns
    -------
    tuple
        uint8 array of the same shape, the smallest value (0 if none is negative), and the largest (0 if none is positive).
    """
    low, top = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if top <= low:
        return np.zeros(values.shape, dtype=np.uint8), 0.0, 0.0
    return np.rint((values - low) * (QUANTISED_MAX / (top - low))).astype(np.uint8), low, top
