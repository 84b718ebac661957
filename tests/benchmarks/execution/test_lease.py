"""One process at a time runs a cell; stale owners are replaced, and an owner finds out that it was."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.execution import lease as module
from benchmarks.execution.lease import STALE, Lease, Owner, acquire, holder


def held(path: Path) -> Lease:
    found = acquire(path)
    assert isinstance(found, Lease)
    return found


def owner(path: Path) -> Owner:
    return Owner(**json.loads(path.read_text(encoding="utf-8")))


def left_behind(path: Path, seconds: float, **changes: object) -> Owner:
    """A lease whose owner has touched it last so long ago."""
    with held(path):
        other = replace(owner(path), token="theirs", **changes)  # type: ignore[arg-type]
        path.write_text(json.dumps(asdict(other)), encoding="utf-8")
    os.utime(path, (time.time() - seconds,) * 2)
    return other


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "cell" / "LEASE"
    with held(path) as mine:
        assert mine.held()
        second = acquire(path)
        assert isinstance(second, Owner)
        assert second.pid == os.getpid()
        assert str(os.getpid()) in str(second)
        assert holder(path) == (second, True)
    assert not path.exists()
    assert holder(path) is None
    with held(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_the_owner_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALE", 0.6)
    with held(path := tmp_path / "LEASE"):
        os.utime(path, (0, 0))
        time.sleep(0.5)
        assert path.stat().st_mtime > 1e9


def test_a_dead_owner_on_this_machine_is_replaced_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "LEASE"
    imports = "import os; from pathlib import Path; from benchmarks.execution.lease import acquire"
    dead = subprocess.Popen([sys.executable, "-c", f"{imports}; acquire(Path({str(path)!r})); os._exit(9)"])
    assert dead.wait() == 9
    found = holder(path)
    assert found is not None
    assert found[0].pid == dead.pid
    assert not found[1]
    with held(path):
        assert owner(path).pid == os.getpid()
    assert f"taken over from process {dead.pid}" in capsys.readouterr().err


def test_another_process_with_the_same_pid_is_another_process(tmp_path: Path) -> None:
    left_behind(tmp_path / "LEASE", 0, born="long ago")
    with held(tmp_path / "LEASE"):
        pass


@pytest.mark.parametrize(("seconds", "alive"), [(0.0, True), (STALE - 30, True), (STALE + 30, False)])
def test_an_owner_elsewhere_is_stale_when_its_heartbeat_stops(seconds: float, alive: bool, tmp_path: Path) -> None:
    other = left_behind(path := tmp_path / "LEASE", seconds, machine="elsewhere", host="node7")
    assert holder(path) == (other, alive)
    assert isinstance(acquire(path), Owner if alive else Lease)


def test_a_wrong_clock_makes_no_owner_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Age is a difference of two times of the same disk."""
    left_behind(path := tmp_path / "LEASE", 0, machine="elsewhere")
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert isinstance(acquire(path), Owner)


def test_a_replaced_owner_finds_out_and_leaves_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "LEASE"
    with held(path) as replaced:
        left = replace(owner(path), token="new", machine="elsewhere")
        path.write_text(json.dumps(asdict(left)), encoding="utf-8")
        assert not replaced.held()
    assert owner(path) == left


@pytest.mark.parametrize("text", ["", '{"host": "n', "[]", '{"host": "node7"}'])
def test_a_torn_lease_counts_by_its_age(text: str, tmp_path: Path) -> None:
    (path := tmp_path / "LEASE").write_text(text, encoding="utf-8")
    assert isinstance(acquire(path), Owner)
    os.utime(path, (0, 0))
    with held(path):
        pass


def test_a_takeover_marker_lets_one_contender_through(tmp_path: Path) -> None:
    """A second contender leaves the takeover to the first; the marker of a contender that was killed ages out."""
    other = left_behind(path := tmp_path / "LEASE", 0, born="long ago")
    marker = path.with_name(f"LEASE.{other.token}")
    marker.touch()
    assert acquire(path) == other
    os.utime(marker, (0, 0))
    assert acquire(path) == other
    assert not marker.exists()
    with held(path):
        pass


def test_many_at_once(tmp_path: Path) -> None:
    """Eight processes, each adds one to a number while it holds a lease that was left behind: nothing is lost."""
    path = tmp_path / "LEASE"
    number = tmp_path / "number"
    number.write_text("0", encoding="utf-8")
    left_behind(path, 0, born="long ago")
    code = f"""
import time
from pathlib import Path
from benchmarks.execution.lease import Lease, acquire
while not isinstance(lease := acquire(Path({str(path)!r})), Lease):
    time.sleep(0.01)
with lease:
    number = Path({str(number)!r})
    value = int(number.read_text())
    time.sleep(0.05)
    number.write_text(str(value + 1))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(8)]
    assert [process.wait() for process in processes] == [0] * 8
    assert number.read_text(encoding="utf-8") == "8"
