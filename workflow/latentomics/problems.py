"""What is wrong with an input, said once for the person who must mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One fault of a config, a sample sheet or an input file.

    Attributes
    ----------
    file
        The file at fault, as the user named it.
    what
        The fault, in one clause; names the sample where there is one.
    hint
        What to do about it, in one sentence.
    row
        Line number in ``file`` (the header is line 1), where that makes sense.
    key
        Column of a table or dotted key of a config.
    value
        The offending value, shown with ``repr`` so that control characters are visible.
    severity
        An ``error`` stops the run before its first job; a ``warning`` is repeated in the report.
    """

    file: str
    what: str
    hint: str
    row: int | None = None
    key: str | None = None
    value: object | None = None
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = self.file
        if self.row is not None:
            place += f", row {self.row}"
        if self.key is not None:
            place += f", {self.key}"
        value = "" if self.value is None else f" (value {_short(self.value)})"
        return f"{place}: {self.what}{value}\n    Hint: {self.hint}"


def _short(value: object, width: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


class InputError(Exception):
    """Inputs cannot be used. Carries every :class:`Problem` that was found, not only the first."""

    def __init__(self, problems: Problem | Iterable[Problem]):
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__(listing(self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[Problem]]]:
        # Exceptions are rebuilt from their message by default; this one must reach another process whole.
        return type(self), (self.problems,)


def listing(problems: Iterable[Problem]) -> str:
    """Number the problems, errors first, for a terminal or a log."""
    ordered = sorted(problems, key=lambda p: p.severity == "warning")
    errors = sum(p.severity == "error" for p in ordered)
    warnings = len(ordered) - errors
    head = f"{errors} error(s) and {warnings} warning(s) in the inputs:"
    lines = [f"{i:>3}. [{p.severity}] {p}" for i, p in enumerate(ordered, 1)]
    return "\n".join([head, *lines])
