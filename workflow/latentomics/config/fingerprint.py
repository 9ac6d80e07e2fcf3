"""A content hash of the code that a rule runs, so that editing a module reruns exactly the rules that use it.

Snakemake tracks a rule's script, not what the script imports. The hash goes into the rule's ``params``; a changed
param is a reason to rerun.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def fingerprint(script: Path, modules: Iterable[str] = ()) -> str:
    """Hash of a script, of every module of this package it imports, and of what those import.

    Parameters
    ----------
    script
        A file of ``workflow/scripts``.
    modules
        Modules that the script reaches through a registry, by dotted name.

    Notes
    -----
    Imports are read from the syntax tree, wherever they stand, so late imports count and nothing is executed. The
    package's own ``__init__`` holds its version and counts only where it is imported by name: a release is no reason
    to compute anything again.
    """
    reached: set[Path] = set()
    waiting = [script.resolve(), *(f for name in modules for f in _files(name))]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += _imports(path)
    digest = hashlib.sha256()
    for path in sorted(reached):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    if path.suffix != ".py":
        return ()
    found: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, [_parent(path, node.level), node.module]))
            names = [f"{module}.{alias.name}" for alias in node.names]
            if module != PACKAGE.name or not all(map(_files, names)):
                names.append(module)
        else:
            continue
        found += [file for name in names for file in _files(name)]
    return tuple(found)


def _parent(path: Path, level: int) -> str:
    """What the dots of a relative import stand for; empty for an absolute one."""
    if not level or PACKAGE not in path.parents:
        return ""
    return ".".join(path.relative_to(PACKAGE.parent).parts[:-level])


def _files(name: str) -> list[Path]:
    """The file of a module, and the ``__init__`` of the packages around it: importing it runs them too."""
    top, *parts = name.split(".")
    if top != PACKAGE.name:
        return []
    around = [PACKAGE.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)] if parts else []
    base = PACKAGE.joinpath(*parts)
    own = base.with_suffix(".py") if parts else base / "__init__.py"
    return [path for path in (own, *around) if path.is_file()]
