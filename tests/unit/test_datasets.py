"""Fetching data sets, against a real HTTP server on the loopback that misbehaves on demand."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from latentomics.io.datasets import MIRROR, REGISTRY, Dataset, fetch, load_registry, main
from latentomics.problems import InputError

BODY = bytes(range(256)) * 4096


class Server(http.server.ThreadingHTTPServer):
    """Answers every request with the next of ``script`` (the last one repeats) and the body of that path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = ["right"]
        self.bodies: dict[str, bytes] = {}
        self.asked: list[str] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)
        act = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        body = server.bodies.get(self.path.lstrip("/"), BODY)
        if act.isdigit():
            self.send_error(int(act))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if act == "break":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body if act == "right" else body[::-1])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def entry(**change: object) -> dict[str, object]:
    row = {"sample": "s", "assay": "scrna", "path": "../data/cells.h5ad", "batch": "obs:batch"}
    return {"description": "d", "licence": "MIT", "citation": "c", "files": [], "sheet": [row], **change}


def registry(url: str | None, body: bytes = BODY, **change: object) -> dict[str, Dataset]:
    file = {"name": "cells.h5ad", "url": url, "sha256": hashlib.sha256(body).hexdigest(), **change}
    return {"demo": Dataset.model_validate(entry(files=[file]))}


def get(tmp_path: Path, known: dict[str, Dataset], mirror: Path | None = None) -> Path:
    """Fetch, without waiting between attempts; return the file."""
    fetched = fetch("demo", tmp_path / "study", registry=known, mirror=mirror, attempts=3, backoff=0.0)
    assert fetched.folder == tmp_path / "study"
    return fetched.files[0]


def left(tmp_path: Path) -> list[Path]:
    """What lies under the study, folders aside."""
    return [path for path in (tmp_path / "study").rglob("*") if not path.is_dir() or path.name.startswith(".")]


def test_fetches_checks_and_writes_a_study(server: Server, tmp_path: Path) -> None:
    known = registry(server.url("cells.h5ad"))
    file = get(tmp_path, known)
    assert file == tmp_path / "study/data/cells.h5ad"
    assert file.read_bytes() == BODY
    config = tmp_path / "study/config"
    assert (config / "config.yaml").read_text() == "samples: config/samples.tsv\n"
    sheet = (config / "samples.tsv").read_text()
    assert sheet == "sample\tassay\tpath\tbatch\ns\tscrna\t../data/cells.h5ad\tobs:batch\n"
    assert sorted(p.name for p in left(tmp_path)) == ["cells.h5ad", "config.yaml", "samples.tsv"]
    # As readable as any other file that this user makes.
    assert file.stat().st_mode == (config / "config.yaml").stat().st_mode


def test_a_second_call_asks_for_nothing_and_mends_a_damaged_file(server: Server, tmp_path: Path) -> None:
    known = registry(server.url("cells.h5ad"))
    file = get(tmp_path, known)
    get(tmp_path, known)
    assert len(server.asked) == 1
    file.write_bytes(BODY[:-1])
    assert get(tmp_path, known).read_bytes() == BODY
    assert len(server.asked) == 2


@pytest.mark.parametrize("failure", ["break", "503", "429"])
def test_a_passing_failure_is_retried(server: Server, tmp_path: Path, failure: str) -> None:
    server.script = [failure, "right"]
    assert get(tmp_path, registry(server.url("cells.h5ad"))).read_bytes() == BODY
    assert len(server.asked) == 2


@pytest.mark.parametrize("failure", ["break", "503"])
def test_a_lasting_failure_leaves_nothing_and_a_later_call_succeeds(
    server: Server, tmp_path: Path, failure: str
) -> None:
    known = registry(server.url("cells.h5ad"))
    server.script = [failure]
    with pytest.raises(InputError) as caught:
        get(tmp_path, known)
    assert len(server.asked) == 3
    (problem,) = caught.value.problems
    assert problem.file == server.url("cells.h5ad")
    assert ("503" if failure == "503" else "failed 3 times") in problem.what
    assert MIRROR in problem.hint
    assert left(tmp_path) == []

    server.script = ["right"]
    assert get(tmp_path, known).read_bytes() == BODY


def test_no_server_at_all_is_a_clear_error(server: Server, tmp_path: Path) -> None:
    url = server.url("cells.h5ad")
    server.server_close()
    with pytest.raises(InputError, match="the connection failed 3 times") as caught:
        get(tmp_path, registry(url))
    assert caught.value.problems[0].file == url


def test_wrong_bytes_are_refused(server: Server, tmp_path: Path) -> None:
    server.script = ["wrong"]
    with pytest.raises(InputError, match="not the published file: its sha256 is") as caught:
        get(tmp_path, registry(server.url("cells.h5ad")))
    assert caught.value.problems[0].file == server.url("cells.h5ad")
    assert left(tmp_path) == []


def test_a_missing_file_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.script = ["404"]
    with pytest.raises(InputError, match="the server answered 404") as caught:
        get(tmp_path, registry(server.url("cells.h5ad")))
    (problem,) = caught.value.problems
    assert problem.file == server.url("cells.h5ad")
    assert MIRROR in problem.hint and "demo/cells.h5ad" in problem.hint
    assert len(server.asked) == 1
    assert left(tmp_path) == []


def test_the_mirror_goes_first_and_is_checked(server: Server, tmp_path: Path) -> None:
    known = registry(server.url("cells.h5ad"))
    mirror = tmp_path / "mirror"
    copy = mirror / "demo/cells.h5ad"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(BODY[::-1])
    with pytest.raises(InputError, match="not the published file") as caught:
        get(tmp_path, known, mirror)
    assert caught.value.problems[0].file == str(copy)
    assert left(tmp_path) == []

    copy.write_bytes(BODY)
    assert get(tmp_path, known, mirror).read_bytes() == BODY
    assert server.asked == []
    assert copy.is_file()

    (tmp_path / "study/data/cells.h5ad").unlink()
    copy.unlink()
    assert get(tmp_path, known, mirror).read_bytes() == BODY
    assert len(server.asked) == 1


@pytest.mark.parametrize("with_mirror", [True, False])
def test_a_file_without_an_address_needs_a_mirror(tmp_path: Path, with_mirror: bool) -> None:
    with pytest.raises(InputError, match="only mirrors hold it") as caught:
        get(tmp_path, registry(None), tmp_path / "mirror" if with_mirror else None)
    (problem,) = caught.value.problems
    assert MIRROR in problem.hint
    assert (str(tmp_path / "mirror/demo/cells.h5ad") in problem.what) == with_mirror


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def matrix(cells: int = 3, nnz: int = 2) -> dict[str, bytes]:
    entries = "1 1 5\n4 3 7\n"
    return {
        "m/barcodes.tsv": b"A-1\nB-1\nC-1\n"[: 4 * cells],
        "m/genes.tsv": b"".join(b"E%d\tG%d\n" % (i, i) for i in range(4)),
        "m/matrix.mtx": f"%%MatrixMarket matrix coordinate integer general\n4 3 {nnz}\n{entries}".encode(),
    }


CONTENT = {"matrix": "m", "n_cells": 3, "n_genes": 4, "nnz": 2, "total": 12}


def by_content(url: str, **change: int) -> dict[str, Dataset]:
    return registry(url, sha256=None, content=CONTENT | change, unpack="cells")


def test_an_archive_is_checked_by_content_and_unpacked(server: Server, tmp_path: Path) -> None:
    server.bodies["cells.h5ad"] = archive(matrix())
    known = by_content(server.url("cells.h5ad"))
    get(tmp_path, known)
    unpacked = tmp_path / "study/data/cells"
    assert (unpacked / "m/matrix.mtx").read_bytes() == matrix()["m/matrix.mtx"]

    # A file lost after the fetch comes back without the network; nothing stale stays.
    (unpacked / "m/matrix.mtx").unlink()
    (unpacked / "m/stale").touch()
    get(tmp_path, known)
    assert sorted(p.name for p in (unpacked / "m").iterdir()) == ["barcodes.tsv", "genes.tsv", "matrix.mtx"]
    assert len(server.asked) == 1
    assert [p for p in left(tmp_path) if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("body", "change", "says"),
    [
        (archive(matrix()), {"total": 13}, "total is 12, not 13"),
        (archive(matrix()), {"n_cells": 4, "nnz": 3}, "n_cells is 3, not 4; nnz is 2, not 3"),
        (archive(matrix(cells=2)), {}, "2 barcode names do not fit"),
        (archive(matrix(nnz=3)), {}, "not the expected archive"),
        (archive({"other/genes.tsv": b""}), {}, "not the expected archive"),
        (archive(matrix())[:-30], {}, "not the expected archive"),
        (b"<html>Log in</html>", {}, "not the expected archive"),
    ],
    ids=["total", "shape", "barcodes", "entries", "members", "truncated", "page"],
)
def test_wrong_content_is_refused(
    server: Server, tmp_path: Path, body: bytes, change: dict[str, int], says: str
) -> None:
    server.bodies["cells.h5ad"] = body
    with pytest.raises(InputError, match="not the published file") as caught:
        get(tmp_path, by_content(server.url("cells.h5ad"), **change))
    assert says in caught.value.problems[0].what
    assert left(tmp_path) == []


@pytest.mark.parametrize("name", ["../evil", "m/../../evil", "link"])
def test_an_archive_cannot_write_outside_its_folder(server: Server, tmp_path: Path, name: str) -> None:
    if name == "link":
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            link = tarfile.TarInfo("out")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            tar.addfile(link)
            tar.addfile(tarfile.TarInfo("out/evil"))
        body = buffer.getvalue()
    else:
        body = archive({"good": b"1", name: b"2"})
    server.bodies["cells.h5ad"] = body
    with pytest.raises(InputError, match="the archive was not unpacked"):
        get(tmp_path, registry(server.url("cells.h5ad"), body, unpack="cells"))
    assert list(tmp_path.rglob("evil")) == []
    assert [p.name for p in left(tmp_path)] == ["cells.h5ad"]
    assert not (tmp_path / "study/data/cells").exists()


def test_an_edited_study_is_kept(server: Server, tmp_path: Path) -> None:
    known = registry(server.url("cells.h5ad"))
    get(tmp_path, known)
    sheet, config = tmp_path / "study/config/samples.tsv", tmp_path / "study/config/config.yaml"
    sheet.write_text("mine\n")
    fetched = fetch("demo", tmp_path / "study", registry=known)
    assert sheet.read_text() == "mine\n"
    kept = [note for note in fetched.notes if "was kept" in note]
    assert len(kept) == 1 and str(sheet) in kept[0]
    assert str(config) not in "".join(fetched.notes)


def test_an_unknown_name_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["sc_mixolgy", "--to", str(tmp_path / "study")]) == 1
    said = capsys.readouterr().err
    assert "Did you mean 'sc_mixology'?" in said and "pbmc3k" in said
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_reads_the_mirror_from_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "citeseq_pbmc/pbmc_10k_protein_v3.h5ad"
    copy.parent.mkdir()
    copy.write_bytes(b"something else")
    monkeypatch.setenv(MIRROR, str(tmp_path))
    assert main(["citeseq_pbmc", "--to", str(tmp_path / "study")]) == 1
    said = capsys.readouterr().err
    assert str(copy) in said and "not the published file" in said and "Hint:" in said


def test_every_entry_of_the_registry_is_whole() -> None:
    known = load_registry()
    assert {"pbmc3k", "sc_mixology", "pbmc_3chemistries", "citeseq_pbmc"} <= known.keys()
    assert len(known["sc_mixology"].files) == 10
    for name, dataset in known.items():
        assert dataset.licence and dataset.citation and dataset.description, name
        held = {place for file in dataset.files for place in (file.name, file.unpack)}
        for file in dataset.files:
            assert file.sha256 or file.content, file.name
            if file.url is None:
                assert "mirror only" in dataset.description, name
            else:
                assert file.url.startswith("https://") and file.url.endswith("/" + file.name)
        for row in dataset.sheet:
            for key in ("path", "metadata"):
                assert key not in row or row[key].split("/")[2] in held, row


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"licence": " "}, "licence"),
        ({"citation": None}, "citation"),
        ({"files": []}, "files"),
        ({"files": [{"name": "a", "url": None}]}, "exactly one of sha256 and content"),
        ({"files": [{"name": "../a", "url": None, "sha256": "0" * 64}]}, "files.0.name"),
        ({"files": [{"name": "a/b", "url": None, "sha256": "0" * 64}]}, "files.0.name"),
        ({"files": [{"name": ".a", "url": None, "sha256": "0" * 64}]}, "files.0.name"),
        ({"files": [{"name": "a\n", "url": None, "sha256": "0" * 64}]}, "files.0.name"),
        ({"files": [{"name": "a", "url": None, "sha256": "0" * 64, "unpack": ".."}]}, "files.0.unpack"),
        ({"files": [{"name": "a", "url": None, "sha256": "0" * 64, "unpack": "A"}]}, "the same name"),
        ({"files": [{"name": "a", "url": "file:///etc/hosts", "sha256": "0" * 64}]}, "files.0.url"),
        ({"sheet": [{"sample": "s", "assay": "scrna", "path": "../data/../../a"}]}, "must lie under ../data/"),
        ({"sheet": [{"sample": "s", "assay": "scrna", "path": "/etc/hosts"}]}, "must lie under ../data/"),
        ({"sheet": [{"sample": "s\tt", "assay": "scrna", "path": "../data/a"}]}, "sheet.0.sample"),
        ({"sheet": [{"sample": "s", "assay": "scrna"}]}, "lacks path"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, change: dict[str, object], says: str) -> None:
    good = {"name": "a", "url": None, "sha256": "0" * 64}
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump({"good": entry(files=[good]), "bad": entry(files=[good]) | change}))
    with pytest.raises(InputError) as caught:
        load_registry(path)
    assert all(problem.key.startswith("bad") for problem in caught.value.problems)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "", "../evil: {}\n"])
def test_a_broken_registry_is_a_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "datasets.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="registry of data sets|a data set's name"):
        load_registry(path)


@pytest.mark.skipif(not os.environ.get(MIRROR), reason=f"{MIRROR} does not name a local mirror")
@pytest.mark.parametrize("name", sorted(yaml.safe_load(REGISTRY.read_text())))
def test_the_mirror_holds_what_the_registry_says(tmp_path: Path, name: str) -> None:
    mirror = Path(os.environ[MIRROR])
    if not (mirror / name).is_dir():
        pytest.skip(f"the mirror has no {name}")
    fetched = fetch(name, tmp_path, mirror=mirror, attempts=1)
    rows = [line.split("\t") for line in (tmp_path / "config/samples.tsv").read_text().splitlines()]
    for row in rows[1:]:
        assert (tmp_path / "config" / row[rows[0].index("path")]).exists()
    assert all(file.is_file() for file in fetched.files)
