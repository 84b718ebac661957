"""No network, no such page, or a page of another kind: one sentence, whatever the client raises."""

import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import minari
import pytest
import requests
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from core.errors import DataError
from tasks.base import DataOptions, fetch, load_task

NAME = "minari/field/pen-v0"


class ClientError(Exception):
    """Of a library that shares no class with the standard one."""


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_task(NAME, DataOptions())
    text = str(caught.value)
    assert text.startswith(f"{NAME} is neither in {folder / 'field' / 'pen-v0'} nor to be had from ")
    assert f"`minari download field/pen-v0` makes the folder field/pen-v0 to be copied to {folder}" in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "error",
    [
        OSError("disk\nfull"),
        TimeoutError("timed out"),
        urllib.error.URLError("no route"),
        requests.exceptions.ProxyError("407 Proxy Authentication Required"),
        OfflineModeIsEnabled("HF_HUB_OFFLINE=1 is set"),
        LocalEntryNotFoundError("neither found nor cached"),
        ClientError("mapped\n" * 400),
        ValueError("Couldn't find any version for dataset field/pen in the remote Farama server."),
        ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."),
        KeyError("gs"),
    ],
)
def test_every_clients_error_is_one_sentence(folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(name: str) -> None:
        raise error

    monkeypatch.setattr(minari, "download_dataset", raises)
    text = refused(folder)
    assert f"({type(error).__name__}: " in text
    assert len(text) < 1000


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The status with which a local server answers whatever the hub's client asks for; 200 is an HTML page."""
    status = [404]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html><title>Log in to the hotel</title></html>"
            self.send_response(status[0])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{http.server_port}")
    yield status
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.mark.parametrize(("status", "reason"), [(403, "403"), (404, "404"), (200, "JSONDecodeError")])
def test_the_hubs_own_client_is_answered_by_a_page(
    folder: Path, page: list[int], status: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    page[0] = status
    assert reason in refused(folder)
    assert capfd.readouterr().err.count("\n") == 1  # "is fetched from"


def test_half_a_download_does_not_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(name: str) -> None:
        (folder / name / "data").mkdir(parents=True)
        (folder / name / "data" / "metadata.json").write_text("{}")
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(minari, "download_dataset", half)
    refused(folder)
    assert not (folder / "field" / "pen-v0").exists()
    refused(folder)  # and the next call asks again


def test_what_is_here_is_not_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(minari, "download_dataset", asked.append)
    (folder / "field" / "pen-v0" / "data").mkdir(parents=True)
    fetch(NAME, DataOptions())
    assert asked == []


def test_results_are_not_mixed_with_what_minari_prints(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prints(name: str) -> None:
        print("Downloading from Farama servers...")
        (folder / name / "data").mkdir(parents=True)

    monkeypatch.setattr(minari, "download_dataset", prints)
    fetch(NAME, DataOptions())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Downloading" in shown.err
