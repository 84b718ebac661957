"""Disks that are full or cannot be written to, and paths that are too long."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import run_bench
from benchmarks.store import ResultStore

TINY = ["updates=40", "evaluate_every=20", "fidelity_starts=8", "dataset_rows=2000", "episodes=2"]
COMMAND = [
    "run",
    "matrix-smoke",
    "--jobs",
    "2",
    "--set",
    'generators=["none"]',
    'algorithms=["td3bc"]',
    *TINY,
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """One that holds 128 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def run(out: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, run_bench.__file__, *(command or COMMAND), "--out", str(out)], capture_output=True, text=True
    )


def test_a_full_disk_is_said_and_what_is_there_stays_whole(disk: Path, tmp_path: Path) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(100 * 2**10))
    full = run(disk / "out")
    assert full.returncode == 1
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    assert all(cell.done in ((), (0, 1)) for cell in ResultStore(disk / "out").cells())
    assert not list(disk.rglob("*.part"))
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    assert run(disk / "out").returncode == 0
    assert run(tmp_path / "elsewhere").returncode == 0
    tables = [(out / "report" / "scores.csv").read_bytes() for out in (disk / "out", tmp_path / "elsewhere")]
    assert tables[0] == tables[1]


def test_a_read_only_disk_is_named_before_anything_starts(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    refused = run(disk / "out")
    assert refused.returncode == 2
    assert "--out must be a folder that can be written to" in refused.stderr
    assert "Read-only file system" in refused.stderr
    assert "seeds" not in refused.stderr


@pytest.mark.slow
def test_files_may_be_limited_in_size(tmp_path: Path) -> None:
    """A quota: the checkpoints do not fit, the records do."""
    code = f"import run_bench, sys; sys.exit(run_bench.main({[*COMMAND, '--out', str(tmp_path / 'out')]!r}))"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300 * 2**10, 300 * 2**10))

    environment = os.environ | {"PYTHONPATH": str(Path(run_bench.__file__).parent), "MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit, cwd=tmp_path, env=environment
    )
    assert "does not take a checkpoint, the run goes on" in done.stderr
    assert all(cell.done == (0, 1) for cell in ResultStore(tmp_path / "out").cells())


@pytest.mark.parametrize("out", ["/proc/rolloutbench", "x" * 300, "file/inside"])
def test_a_place_that_cannot_be_is_said(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert run_bench.main([*COMMAND, "--out", out]) in (1, 2)
    said = capsys.readouterr().err
    assert "error: " in said
    assert out in said
    assert "seeds" not in said


@pytest.mark.slow
def test_a_terminal_that_knows_only_ascii(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, run_bench.__file__, *COMMAND, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, env=os.environ | plain | {"TZ": "America/Santiago"})
    assert done.returncode == 0, done.stderr
    assert b"\\xb1" in done.stdout
    assert all(run["started"].endswith("+00:00") for cell in ResultStore(tmp_path / "out").cells() for run in cell.runs)
