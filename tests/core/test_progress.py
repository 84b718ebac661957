import multiprocessing
from importlib import import_module
from multiprocessing.context import SpawnContext
from pathlib import Path

import pytest

from core import progress

WORK = """
from core import progress

def work(channel):
    progress.relay(channel)
    progress.say("100 % from afar")
    with progress.progress("there", 10) as advance:
        advance(10)
"""


def test_another_process_is_shown_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "relay_example.py").write_text(WORK, encoding="utf-8")  # the other process must be able to import it
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL", 0.0)
    context: SpawnContext = multiprocessing.get_context("spawn")
    channel: progress.Channel = context.Queue()
    with progress.showing(channel):
        process = context.Process(target=import_module("relay_example").work, args=(channel,))
        process.start()
        process.join()
    assert process.exitcode == 0
    assert capsys.readouterr().err.splitlines() == ["100 % from afar", "there: 10/10 after 0 s"]


def test_plain_lines_are_rare(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("here", 1000) as advance:
        for _ in range(1000):
            advance(1)
    assert capsys.readouterr().err == ""


def test_nested_bars_of_a_terminal_share_one_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress._view.console, "_force_terminal", True)
    display = progress._view.display
    with progress.progress("outer", 2) as outer, progress.progress("inner", 2) as inner:
        inner(2)
        outer(1)
        assert [(task.description, task.completed) for task in display.tasks] == [("outer", 1), ("inner", 2)]
        assert display.live.is_started
    assert not display.tasks
    assert not display.live.is_started


def test_a_bar_of_a_killed_process_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    channel: progress.Channel = multiprocessing.get_context("spawn").Queue()
    handlers = list(progress._logger.handlers)
    with progress.showing(channel):
        progress.relay(channel)
        progress._logger.info("killed", extra={"bar": ("key", 10, 3)})
        progress._logger.handlers[:] = handlers
    assert progress._view.bars == {}
