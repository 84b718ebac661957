"""What commands do with results that are there: failed, torn, mixed, or run again."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import run_bench
from benchmarks.execution.cell import run_cell
from benchmarks.store import ResultStore
from tasks.sources import toy

pytestmark = pytest.mark.usefixtures("elsewhere")

FRAGILE = """
from dataclasses import dataclass

from generators.base import Generator


@dataclass(frozen=True)
class Fragile(Generator):
    rollouts = 1
    rollout_length = 1
    refresh_every = None

    def fit(self, *arguments):
        raise ArithmeticError("the model fell over")
"""


def test_torn_results_end_with_one_and_are_named(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], tiny: tuple[str, ...]
) -> None:
    assert run_bench.main(["run", "smoke", "--set", *tiny, 'generators=["none"]', "--out", "out", "--jobs", "1"]) == 0
    (torn,) = (elsewhere / "out").rglob("records.jsonl.gz")
    torn.write_bytes(torn.read_bytes()[:-20])
    capsys.readouterr()
    assert run_bench.main(["report", "out"]) == 1
    assert "records.jsonl.gz" in capsys.readouterr().err


def test_plan_estimates_from_what_has_been_run(capsys: pytest.CaptureFixture[str], tiny: tuple[str, ...]) -> None:
    assert run_bench.main(["run", "smoke", "--set", *tiny, "--out", "out", "--jobs", "1"]) == 0
    capsys.readouterr()
    assert run_bench.main(["plan", "smoke", "--set", *tiny, "--out", "out", "--seeds", "4"]) == 0
    text = capsys.readouterr().out
    assert "2 cells, 4 seeds to run" in text
    assert "unknown" not in text


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failing_cell_ends_with_one_and_is_named(
    elsewhere: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    jobs: str,
    tiny: tuple[str, ...],
) -> None:
    (elsewhere / "fragile.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(elsewhere)
    command = ["run", "smoke", "--set", *tiny, 'generators=["fragile:Fragile","none"]', "--out", "out", "--jobs", jobs]
    assert run_bench.main(command) == 1
    shown = capfd.readouterr()
    assert "fragile:Fragile td3bc (default): FAILED: ArithmeticError: the model fell over" in shown.err
    assert [line for line in shown.err.splitlines() if line.startswith("problem:") and "fragile:Fragile" in line]
    assert run_bench.main(["report", "out"]) == 1
    assert "fragile:Fragile" in capfd.readouterr().err
    found = {cell.spec["generator"]["name"]: cell for cell in ResultStore(elsewhere / "out").cells()}
    assert "in fit" in str(found["fragile:Fragile"].error)
    assert found["none"].done == (0, 1)


def test_some_cells_or_only_those_that_failed(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, ...]
) -> None:
    monkeypatch.syspath_prepend(str(elsewhere))
    (elsewhere / "fragile_example.py").write_text(FRAGILE, encoding="utf-8")
    command = ["run", "smoke", "--set", *tiny[1:], "--jobs", "1", "--out", "out"]
    all_three = ["--set", 'generators=["none","ensemble","fragile_example:Fragile"]']
    assert run_bench.main([*command, *all_three, "--cells", "* ensemble *"]) == 1
    assert [cell.spec["generator"]["name"] for cell in ResultStore(elsewhere / "out").cells()] == ["ensemble"]
    assert "missing: toy/linear / none" in capsys.readouterr().err
    assert run_bench.main([*command, *all_three, "--cells", "*fragile*"]) == 1
    capsys.readouterr()
    assert run_bench.main([*command, *all_three, "--only-failed"]) == 1
    again = capsys.readouterr().err
    assert again.count("td3bc (default): seeds 0, 1") == 1
    assert "FAILED: ArithmeticError" in again
    assert run_bench.main([*command, *all_three, "--cells", "* mopo *"]) == 2
    assert "--cells must match at least one cell ('toy/linear none td3bc default', ...), got '* mopo *'" in (
        capsys.readouterr().err
    )


def test_another_physics_is_named_wherever_it_was_used(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, ...]
) -> None:
    none = ['generators=["none"]', *[pair for pair in tiny[1:] if not pair.startswith("ensemble")]]
    here = ["--jobs", "1", "--stall-minutes", "0"]  # in this process, whose physics changes
    command = ["run", "smoke", "--set", *none, *here, "--out", "out"]
    assert run_bench.main([*command, "--seeds", "1"]) == 0
    old = toy.SYSTEMS["linear"].physics
    monkeypatch.setitem(toy.SYSTEMS, "linear", replace(toy.SYSTEMS["linear"], physics="linear system, version 99"))
    assert run_bench.main([*command, "--seeds", "2"]) == 1
    assert f"must have one physics, got {old!r}" in capsys.readouterr().err
    assert run_bench.main(["report", "out", "--allow-mixed"]) == 0
    (cell,) = ResultStore(elsewhere / "out").cells()
    assert [(run["seeds"], run["physics"]) for run in cell.runs] == [([0], old), ([1], "linear system, version 99")]
    assert f"{old}; linear system, version 99" in (elsewhere / "out" / "report" / "index.html").read_text()
    monkeypatch.setitem(toy.SYSTEMS, "linear", replace(toy.SYSTEMS["linear"], physics=old))
    capsys.readouterr()
    run_bench.main(["reproduce", f"out/{cell.cell_id}"])
    assert f"physics: was linear system, version 99, is {old}" in capsys.readouterr().out


def test_reproduce_names_what_differs(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, ...]
) -> None:
    assert run_bench.main(["run", "smoke", "--set", *tiny, "--jobs", "1", "--out", "out"]) == 0
    cell = ResultStore(elsewhere / "out").cells()[0]
    before = {path: path.read_bytes() for path in (elsewhere / "out").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run_bench.main(["reproduce", f"out/{cell.cell_id}"]) == 0
    assert re.search(r"\d+ numbers of seeds 0, 1, 0 differ", capsys.readouterr().out)
    right = run_cell

    def wrong(*arguments: Any) -> Any:
        records, origin = right(*arguments)
        return [record._replace(value=5.0) if record.metric == "return" else record for record in records], origin

    monkeypatch.setattr("benchmarks.audit.reproduce.run_cell", wrong)
    assert run_bench.main(["reproduce", f"out/{cell.cell_id}"]) == 1
    told = capsys.readouterr().out
    assert "4 differ" in told
    assert "return" in told
    assert {path: path.read_bytes() for path in (elsewhere / "out").rglob("*") if path.is_file()} == before
    assert run_bench.main(["reproduce", "out/nothing"]) == 2
    assert "CELL must be a finished cell (DIR/<cell_id>), got out/nothing" in capsys.readouterr().err


def test_a_packed_folder_serves_every_command(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], tiny: tuple[str, ...]
) -> None:
    suite = ["smoke", "--set", *tiny, 'generators=["none"]', "--out", "out"]
    assert run_bench.main(["run", *suite, "--jobs", "1"]) == 0
    report = (elsewhere / "out/report/tables.md").read_text(encoding="utf-8")
    (cell,) = ResultStore(elsewhere / "out").cells()
    assert run_bench.main(["pack", "out"]) == 0
    assert "packed into out/packed; left out: 0 numbers" in capsys.readouterr().out
    assert {path.name for path in (elsewhere / "out").iterdir()} == {"packed", "report"}
    for command in (["run", *suite], ["status", "out"], ["report", "out"], ["verify", "out"]):
        assert run_bench.main(command) == 0, command
    assert (elsewhere / "out/report/tables.md").read_text(encoding="utf-8") == report
    assert run_bench.main(["reproduce", f"out/{cell.cell_id}"]) == 0
    assert "0 differ" in capsys.readouterr().out
    assert run_bench.main(["run", *suite[:-1], "taken", "--take", "out"]) == 0
    assert "taken from out: 1 finished cells" in capsys.readouterr().err
    assert ResultStore(elsewhere / "taken").cells() == ResultStore(elsewhere / "out").cells()
    assert run_bench.main(["pack", "out", "--lean"]) == 0
    assert run_bench.main(["verify", "out"]) == 0
    assert "more were measured and are not kept" in capsys.readouterr().out
