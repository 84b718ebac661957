"""Commands whose reader leaves early: `plan SUITE | head` is silent, as other tools are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import run_bench

ROOT = Path(run_bench.__file__).parent


def unread(*command: str, merged: bool = False) -> tuple[int, str]:
    """Exit code and standard error of a command whose standard output has no reader."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, ROOT / "run_bench.py", *command],
            stdout=writer,
            stderr=writer if merged else subprocess.PIPE,
            text=True,
            timeout=200,
            check=False,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr or ""


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("command", [["list"], ["plan", "smoke"]])
def test_a_reader_that_has_gone_is_no_error(command: list[str]) -> None:
    assert unread(*command) == (141, "")


@pytest.mark.usefixtures("elsewhere")
def test_help_is_silent_without_a_reader() -> None:
    code, said = unread("run", "--help")
    assert (code, said) == (141, "")


def test_a_run_goes_on_when_nobody_reads_its_lines(elsewhere: Path, tiny: tuple[str, ...]) -> None:
    settings = [pair for pair in tiny if not pair.startswith(("ensemble", "generators"))]
    command = ["run", "smoke", "--out", "out", "--jobs", "1", "--seeds", "1", "--set", 'generators=["none"]', *settings]
    assert unread(*command, merged=True)[0] == 141
    (cell,) = (elsewhere / "out").glob("*/DONE")
    assert not (cell.parent / "error.txt").exists()
    assert (elsewhere / "out" / "report" / "index.html").is_file()
