"""A local server with errors, truncated and wrong files; none of them stays in the cache."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
import urllib3.exceptions

from core.errors import DataError
from core.files import sha256
from tasks import download
from tasks.download import fetch
from tasks.hdf5 import write
from tasks.rows import Rows


def altered(content: bytes) -> bytes:
    """One bit of the last array's bytes."""
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


HTML = b"<html><head><title>Moved</title></head></html>"


@dataclass
class Server:
    """Answers requests as `answers` says: "good", "html", "cut", "chunks" or a status; after the last one "good"."""

    content: bytes
    url: str = ""
    answers: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    delay: float = 0.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "set.hdf5"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "BACKOFF", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(500, 11)).astype(np.float32)
    end = np.arange(500) % 100 == 99
    write(tmp_path / "good", Rows(obs, rng.uniform(-1, 1, (500, 3)).astype(np.float32), obs[:, 0], end, ~end & False))
    state = Server((tmp_path / "good").read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            threading.Event().wait(state.delay)
            answer = state.answers.pop(0) if state.answers else "good"
            if answer.isdigit():
                self.send_error(int(answer))
                return
            body = HTML if answer == "html" else state.content
            self.send_response(200)
            if answer != "chunks":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: int(0.6 * len(body))] if answer in ("cut", "chunks") else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/set.hdf5"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_good_file_arrives_and_is_recorded(server: Server, path: Path) -> None:
    assert fetch(server.url, path) == path
    assert path.read_bytes() == server.content
    assert path.with_name("set.hdf5.sha256").read_text() == f"{sha256(path)}  set.hdf5\n"
    fetch(server.url, path)
    assert len(server.requests) == 1  # the second time it is there


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("404", "404"),
        ("403", "403"),
        ("html", "must be an HDF5 file, but it is an HTML page"),
        ("cut", "IncompleteRead"),
        ("chunks", "must be a whole HDF5 file, but it is truncated or damaged"),
    ],
)
def test_a_bad_answer_leaves_nothing_behind(server: Server, path: Path, answer: str, rule: str) -> None:
    server.answers = [answer] * download.ATTEMPTS
    with pytest.raises(DataError) as caught:
        fetch(server.url, path)
    for part in (server.url, rule, f"after {download.ATTEMPTS} attempts", f"by hand can be put at {path}"):
        assert part in str(caught.value)
    assert len(server.requests) == download.ATTEMPTS
    assert [file.name for file in path.parent.iterdir() if file.suffix != ".lock"] == []
    assert fetch(server.url, path).read_bytes() == server.content  # and the next call recovers


def test_a_bad_answer_is_asked_again_within_one_call(server: Server, path: Path) -> None:
    server.answers = ["cut", "html"]
    assert fetch(server.url, path).read_bytes() == server.content
    assert len(server.requests) == 3


def test_no_server_is_an_error_that_names_the_url(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/set\.hdf5 gave none after 3 attempts"):
        fetch("http://127.0.0.1:9/set.hdf5", path)


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("read timed out"),
        requests.exceptions.ProxyError("407 Proxy Authentication Required"),
        urllib3.exceptions.ProtocolError("Connection broken"),
        UnicodeError("label too long"),
        ValueError("invalid literal for int() with base 10: 'many'\nin Content-Length"),
    ],
)
def test_every_layers_error_is_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def raises(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(download, "BACKOFF", 0.0)
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", raises)
    with pytest.raises(DataError) as caught:
        fetch("http://127.0.0.1:9/set.hdf5", path)
    text = str(caught.value)
    assert f"gave none after 3 attempts: {type(error).__name__}: " in text
    assert f"a copy fetched by hand can be put at {path}" in text
    assert "\n" not in text


def test_a_copy_put_there_by_hand_is_taken(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(server.content)
    assert fetch(server.url, path) == path
    assert server.requests == []
    assert path.with_name("set.hdf5.sha256").is_file()


@pytest.mark.parametrize("fault", ["flipped", "truncated", "html"])
def test_a_cached_file_that_changed_is_put_aside(server: Server, path: Path, fault: str) -> None:
    fetch(server.url, path)
    bad = {"flipped": altered(server.content), "truncated": server.content[:-9], "html": HTML}[fault]
    path.write_bytes(bad)
    fetch(server.url, path)
    assert path.read_bytes() == server.content
    assert path.with_name("set.hdf5.bad").read_bytes() == bad


def test_a_changed_file_without_a_network_is_an_error(server: Server, path: Path) -> None:
    fetch(server.url, path)
    path.write_bytes(server.content[:-9])
    server.answers = ["503"] * download.ATTEMPTS
    known = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DataError, match=f"{path} is needed with sha256 {known} but {server.url} gave none"):
        fetch(server.url, path)
    assert not path.exists()


def test_what_is_fetched_again_must_be_what_it_was(server: Server, path: Path) -> None:
    fetch(server.url, path)
    path.unlink()
    known = hashlib.sha256(server.content).hexdigest()
    server.content = altered(server.content)
    with pytest.raises(DataError, match=f"must have sha256 {known}, got "):
        fetch(server.url, path)
    assert not path.exists()


def test_a_known_checksum_is_asked_for(server: Server, path: Path, tmp_path: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(DataError, match=f"is needed with sha256 {wrong} but .* must have sha256 {wrong}, got"):
        fetch(server.url, path, sha256=wrong)
    assert not path.exists()
    assert fetch(server.url, path, sha256=sha256(tmp_path / "good")) == path


def test_one_of_many_threads_fetches_the_file(server: Server, path: Path) -> None:
    server.delay = 0.2
    threads = [threading.Thread(target=fetch, args=(server.url, path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert path.read_bytes() == server.content
