import multiprocessing
import subprocess
import sys
import threading
import time
from importlib import import_module
from multiprocessing.context import SpawnContext
from pathlib import Path

import pytest
from filelock import FileLock

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


HANGING = """
import sys
import threading
import time
from pathlib import Path
from core.progress import say, sign_of_life, watched

def heartbeat():
    while True:
        sign_of_life()
        time.sleep(0.02)

def stuck_in_here():
    time.sleep(60)

threading.Thread(target=heartbeat, daemon=True).start()
with watched(0.5, Path(sys.argv[1])):
    stuck_in_here()
"""


def test_a_hang_ends_the_process_and_leaves_its_stack(tmp_path: Path) -> None:
    """A heartbeat from another thread is no sign of life."""
    stack = tmp_path / "cell/stack.txt"
    root = Path(progress.__file__).parent.parent
    ended = subprocess.run([sys.executable, "-c", HANGING, str(stack)], cwd=root, timeout=50)
    assert ended.returncode == 1
    assert "in stuck_in_here" in stack.read_text(encoding="utf-8")
    assert "in heartbeat" in stack.read_text(encoding="utf-8")


def test_what_gives_signs_of_life_is_left_alone(tmp_path: Path) -> None:
    stack = tmp_path / "stack.txt"
    with progress.watched(0.5, stack):
        with progress.progress("slow", 12) as advance:
            for _ in range(12):
                time.sleep(0.1)
                advance(1)
        assert stack.exists()
    assert not stack.exists()
    with progress.watched(0.0, stack):
        assert not stack.exists()
    time.sleep(0.7)  # nobody watches any more


def test_waiting_for_a_lock_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_WAIT", 0.05)
    held = FileLock(tmp_path / "lock", thread_local=False)
    held.acquire()
    threading.Timer(1.0, held.release).start()
    mine = FileLock(tmp_path / "lock")
    with progress.watched(0.4, tmp_path / "stack.txt"), progress.waiting(mine):
        assert mine.is_locked
        assert not held.is_locked
    assert not mine.is_locked
