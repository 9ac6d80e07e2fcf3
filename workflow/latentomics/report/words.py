"""Numbers and lists as people read them. Used as template filters and in captions."""

from __future__ import annotations

import math
from collections.abc import Iterable

MISSING = "–"


def _is_missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def number(value: object, digits: int = 3) -> str:
    """Integers with thousands separators, other numbers with ``digits`` significant ones; a dash if missing.

    >>> number(12345), number(0.12345), number(None)
    ('12,345', '0.123', '–')
    """
    if _is_missing(value):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        try:
            value = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return str(value)
    if math.isinf(value):
        return str(value)
    if value == int(value):
        return f"{int(value):,}"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}"


def setting(value: object) -> str:
    """A value of the config as it would be typed: ``0.85``, ``5``, ``20,000``."""
    if _is_missing(value) or isinstance(value, bool) or not isinstance(value, (int, float)):
        return MISSING if _is_missing(value) else str(value)
    return f"{value:,.10g}"


def percent(share: object, digits: int = 1) -> str:
    """A share between 0 and 1 as percent; a dash if missing."""
    return MISSING if _is_missing(share) else f"{100 * float(share):.{digits}f}\u00a0%"  # type: ignore[arg-type]


def duration(seconds: object) -> str:
    """Seconds as ``12.3 s``, ``4 min 5 s`` or ``2 h 10 min``."""
    if _is_missing(seconds):
        return MISSING
    s = float(seconds)  # type: ignore[arg-type]
    if s < 60:
        return f"{s:.1f} s"
    minutes, rest = divmod(round(s), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def megabytes(value: object) -> str:
    """Megabytes as MB or, from 1,024, GB."""
    if _is_missing(value):
        return MISSING
    mb = float(value)  # type: ignore[arg-type]
    return f"{mb:.0f} MB" if mb < 1024 else f"{mb / 1024:.1f} GB"


def listed(items: Iterable[object]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    parts = [str(item) for item in items]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def counted(n: int, singular: str, plural: str | None = None) -> str:
    """``1 cell``, ``2,000 cells``."""
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"
