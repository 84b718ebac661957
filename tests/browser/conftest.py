"""Pages of reports in Debian's Chromium; every test here is skipped where it or the package playwright is absent."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import report
from benchmarks.store import ResultStore

KEPT = Path(__file__).parents[2] / "results" / "reference"
QUIET = ["background-networking", "component-update", "sync", "gpu", "quic"]
LETTER = 718  # CSS pixels between the margins


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with api.sync_playwright() as started:
        arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in QUIET)]
        browser = started.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Where a folder's page lies: a kept one, redrawn; `planted`: half finished, long names; `empty`: planned only."""
    drawn: dict[str, str] = {}

    def drawn_once(name: str) -> str:
        if name not in drawn:
            folder = tmp_path_factory.mktemp(name) / name
            if name == "empty":
                folder.mkdir()
                shutil.copy(KEPT / "demo" / "plan.json", folder)
            else:
                shutil.copytree(KEPT / ("demo" if name == "planted" else name), folder)
            if name == "planted":
                plant(folder)
            report(ResultStore(folder))
            drawn[name] = (folder / "report" / "index.html").as_uri()
        return drawn[name]

    return drawn_once


def plant(folder: Path) -> None:
    """Two cells that never ran, one that failed, one whose variant has a name without a place to break it."""
    absent, missing, failed, renamed, *_ = sorted(path for path in folder.glob("local-*") if "none" not in path.name)
    shutil.rmtree(absent)
    shutil.rmtree(missing)
    (failed / "DONE").unlink()
    (failed / "error.txt").write_text(f"ValueError: {'long' * 60}\n")
    described = json.loads((renamed / "spec.json").read_text())
    (renamed / "spec.json").write_text(json.dumps(described | {"variant": "value" * 16}))


@pytest.fixture
def visit(chromium: Any, address: Callable[[str], str]) -> Iterator[Callable[..., Any]]:
    """Opens a page as wide as asked for; what it writes to the console fails the test at the end."""
    contexts = []
    said: list[str] = []

    def opened(name: str, width: int = 1600, scheme: str = "light", hash: str = "") -> Any:
        phone = width < 500
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, is_mobile=phone, has_touch=phone
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith("file:") else said.append(request.url))
        page.goto(address(name) + hash)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
