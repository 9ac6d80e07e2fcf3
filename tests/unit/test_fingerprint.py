"""Fingerprint: it changes exactly with the code that a script runs."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latentomics.config import fingerprint as module
from latentomics.config.fingerprint import PACKAGE, fingerprint
from latentomics.embed import registry

#: A small package; the script reaches all of it but `unused` and what only `by_name` knows.
FILES = {
    "script.py": "from pkg.direct import f\n\ndef g():\n    import pkg.sub.late as m\n    from pkg.sub import sibling\n",
    "pkg/__init__.py": "__version__ = '1'\n",
    "pkg/direct.py": "import os\nfrom pkg import plain, named\nif True:\n    try:\n        from pkg.nested import x\n"
    "    except ImportError:\n        pass\n",
    "pkg/plain.py": "import pkg.direct\n",  # a circle
    "pkg/named.py": "",
    "pkg/nested.py": "class A:\n    def f(self):\n        from pkg.deep.er.est import *\n",
    "pkg/deep/__init__.py": "",
    "pkg/deep/er/__init__.py": "",
    "pkg/deep/er/est.py": "from . import beside\nfrom .. import above\nfrom ...top import x\n",
    "pkg/deep/er/beside.py": "",
    "pkg/deep/above.py": "",
    "pkg/top.py": "",
    "pkg/sub/__init__.py": "import pkg.of_sub\n",
    "pkg/of_sub.py": "",
    "pkg/sub/late.py": "",
    "pkg/sub/sibling.py": "",
    "pkg/unused.py": "import pkg.plain\n",
    "pkg/by_name.py": "import pkg.of_by_name\n",
    "pkg/of_by_name.py": "",
    "other/direct.py": "",
    "other_script.py": "import other.direct, numpy\nimport pkgother\n",
}
UNUSED = {
    "pkg/unused.py",
    "pkg/by_name.py",
    "pkg/of_by_name.py",
    "other/direct.py",
    "other_script.py",
    "pkg/__init__.py",
}
REACHED = set(FILES) - UNUSED


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    return plant(tmp_path, monkeypatch)


def plant(folder: Path, monkeypatch) -> Path:
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(module, "PACKAGE", folder / "pkg")
    module._imports.cache_clear()
    return folder


def after_editing(root: Path, name: str, modules: tuple[str, ...] = ()) -> bool:
    """Whether the fingerprint changes with a file, and comes back with it."""
    before = fingerprint(root / "script.py", modules)
    path = root / name
    path.write_text(FILES[name] + "# a comment\n")
    edited = fingerprint(root / "script.py", modules)
    path.write_text(FILES[name])
    assert fingerprint(root / "script.py", modules) == before
    return edited != before


@pytest.mark.parametrize("name", sorted(REACHED))
def test_changes_with_all_that_the_script_runs(root, name):
    assert after_editing(root, name)


@pytest.mark.parametrize("name", sorted(UNUSED))
def test_does_not_change_with_anything_else(root, name):
    assert not after_editing(root, name)


@pytest.mark.parametrize("name", ["pkg/by_name.py", "pkg/of_by_name.py", "script.py", "pkg/plain.py"])
def test_modules_given_by_name(root, name):
    assert after_editing(root, name, ("pkg.by_name",))


def test_a_release_counts_where_the_version_is_imported(root):
    (root / "script.py").write_text("from pkg import __version__\n")
    before = fingerprint(root / "script.py")
    (root / "pkg/__init__.py").write_text("__version__ = '2'\n")
    assert fingerprint(root / "script.py") != before


def test_a_new_import_counts(root):
    before = fingerprint(root / "script.py")
    (root / "script.py").write_text(FILES["script.py"] + "import pkg.unused\n")
    module._imports.cache_clear()
    with_import = fingerprint(root / "script.py")
    (root / "pkg/unused.py").write_text("# another\n")
    assert len({before, with_import, fingerprint(root / "script.py")}) == 3


def test_swapped_contents_count(root):
    before = fingerprint(root / "script.py")
    (root / "pkg/top.py").write_text("# one\n")
    one = fingerprint(root / "script.py")
    (root / "pkg/top.py").write_text("")
    (root / "pkg/of_sub.py").write_text("# one\n")
    assert len({before, one, fingerprint(root / "script.py")}) == 3


def test_the_same_on_every_machine_and_in_every_process(root, tmp_path_factory, monkeypatch):
    here = fingerprint(root / "script.py", ("pkg.by_name",))
    assert here == fingerprint(root / "script.py", ("pkg.by_name", "pkg.by_name"))
    elsewhere = plant(tmp_path_factory.mktemp("zz") / "a" / "b", monkeypatch)
    assert fingerprint(elsewhere / "script.py", ("pkg.by_name",)) == here
    code = "import sys; from pathlib import Path; from latentomics.config.fingerprint import fingerprint as f; "
    code += "print(f(Path(sys.argv[1])))"
    script = PACKAGE.parent / "scripts/embed.py"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code, str(script)],
            env={"PYTHONPATH": str(PACKAGE.parent), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def imported_by(script: Path) -> set[str]:
    """Modules of the package that a script names anywhere, asked of Python's own import machinery."""
    names = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(script.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    wanted = sorted(n for n in names if n and n.startswith("latentomics"))
    code = f"import sys, importlib; [importlib.import_module(n) for n in {wanted!r}]; "
    code += "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('latentomics.')), sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


@pytest.mark.parametrize("script", ["features", "scrna_merge"])
def test_whatever_python_imports_is_hashed(script, tmp_path, monkeypatch):
    """The real package, copied: each module that Python loads for a script changes the script's fingerprint."""
    copy = tmp_path / "workflow"
    shutil.copytree(PACKAGE.parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", copy / PACKAGE.name)
    path = copy / f"scripts/{script}.py"
    loaded = imported_by(PACKAGE.parent / f"scripts/{script}.py")
    assert len(loaded) > 3
    before = fingerprint(path)
    for file in sorted(loaded):
        mirrored = copy / Path(file).relative_to(PACKAGE.parent)
        content = mirrored.read_bytes()
        mirrored.write_bytes(content + b"# edited\n")
        assert fingerprint(path) != before, file
        mirrored.write_bytes(content)
    assert fingerprint(path) == before


def test_a_method_reruns_for_its_own_code_only(tmp_path, monkeypatch):
    copy = tmp_path / "workflow"
    shutil.copytree(PACKAGE.parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", copy / PACKAGE.name)
    script = copy / "scripts/embed.py"

    def all_methods() -> dict[str, str]:
        return {name: fingerprint(script, (target,)) for name, target in registry.METHODS.items()}

    before = all_methods()
    assert len(set(before.values())) == len(registry.METHODS)
    for name, target in registry.METHODS.items():
        path = copy / Path(*target.split(".")).with_suffix(".py")
        path.write_text(path.read_text("utf-8") + "# edited\n", "utf-8")
        after = all_methods()
        assert {other for other in before if after[other] != before[other]} == {name}
        before = after


def test_a_missing_script_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "no.py")
