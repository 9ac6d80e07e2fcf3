"""kb-python's command line, and the programs that it carries.

``kb`` ends with 0 whatever happens once its work has begun, and says so only in its log: what failed is read from there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

#: -P: no module of the study's folder is taken for one of Python's.
_KB = (sys.executable, "-P", "-c", "from kb_python.main import main; main()")
_ERROR = re.compile(r"^\s*(?:Error:\s*|\[~warn\]\s*)(?P<reason>.+)$", re.MULTILINE)
_LAST = re.compile(r"^(?:[\w.]+(?:Error|Exception)|kb(?: \w+)?: error|usage error): ?(?P<reason>.*)$", re.MULTILINE)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class KbFailed(RuntimeError):
    """kb did not do its work; the message is the cause, in one line."""


def run_kb(arguments: Sequence[str | Path]) -> None:
    """Run ``kb``; its log goes to standard output.

    Raises
    ------
    KbFailed
        It or one of the programs that it runs failed.
    """
    done = _run([*_KB, *arguments])
    log = _ANSI.sub("", done.stdout)
    print(f"kb {' '.join(map(str, arguments))}\n{log}", flush=True)
    if done.returncode or "Traceback (most recent call last)" in log:
        raise KbFailed(cause(log) or f"exit {done.returncode}")


def cause(log: str) -> str:
    """The line of a log of kb that says why it failed; empty if there is none.

    >>> cause("[index] k-mer length: 31\\nError: kallisto index file not found\\nTraceback ...")
    'kallisto index file not found'
    """
    lasts = [match["reason"].strip() for match in _LAST.finditer(log)]
    if lasts and "died with <Signals." in lasts[-1]:
        signal = lasts[-1].rsplit("<", 1)[-1].split(":")[0]
        killed = " (often for want of memory: give the rule more)" if signal.endswith("SIGKILL") else ""
        return f"a program that kb runs was ended by {signal.removeprefix('Signals.')}{killed}"
    said = [match["reason"].strip() for match in _ERROR.finditer(log)]
    found = (said or lasts or [""])[-1]
    return found if len(found) <= 300 else found[:297] + "..."


def kallisto(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run kb's kallisto; output and errors together."""
    from kb_python.config import get_kallisto_binary_path

    return _run([get_kallisto_binary_path(), *arguments])


def bustools(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run kb's bustools; output and errors together."""
    from kb_python.config import get_bustools_binary_path

    return _run([get_bustools_binary_path(), *arguments])


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def versions() -> dict[str, str]:
    """Versions of kb-python and of the programs that it carries."""
    return {
        "kb-python": version("kb-python"),
        "kallisto": kallisto("version").stdout.split()[-1],
        "bustools": bustools("version").stdout.split()[-1],
    }
