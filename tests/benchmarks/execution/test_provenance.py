"""What a run tells of its command and of its machine, and what it must not tell."""

import platform
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

import run_bench
from benchmarks.execution import provenance as module
from benchmarks.execution.provenance import command_line, provenance
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite

CPU = torch.device("cpu")


def test_a_run_names_its_processor_and_no_host() -> None:
    found = provenance(CPU)
    listed = Path("/proc/cpuinfo")
    if listed.is_file() and "model name" in (text := listed.read_text()):
        assert f": {found['cpu']}\n" in text
    assert found["cpu"]
    assert found["vectors"]
    assert found["cores"] >= 1
    assert platform.node() not in map(str, found.values())


def test_without_a_list_of_processors_python_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert module._cpu_model.__wrapped__() == "arm"
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert module._cpu_model.__wrapped__() == platform.machine()


@pytest.mark.parametrize(("file", "dirty"), [("code.py", True), ("README.md", True), ("results/made.csv", False)])
def test_changed_results_make_no_run_dirty(
    file: str, dirty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    monkeypatch.setattr(module, "_git", module._git.__wrapped__)  # nothing is remembered
    (tmp_path / "results").mkdir()
    for name in ("code.py", "README.md", "results/made.csv"):
        (tmp_path / name).write_text("before")
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    assert provenance(CPU)["dirty"] is False
    (tmp_path / file).write_text("after")
    assert provenance(CPU)["dirty"] is dirty


def test_the_command_holds_all_that_changes_cells() -> None:
    changes = ["updates=5000", 'tasks=["d4rl/hopper-medium-v2", "local/maze2d-umaze"]', "ensemble.rollout_length=1"]
    line = command_line("ablation/relax", 3, changes, ["field_envs"], "cpu")
    program, *words = shlex.split(line)
    assert program == "run_bench.py"
    assert words == [
        *("run", "ablation/relax", "--seeds", "3", "--set", *changes, "--import", "field_envs", "--device", "cpu")
    ]
    assert command_line("demo", None, [], [], "auto") == "run_bench.py run demo"
    assert command_line("demo", None, [], [], "auto", judged=True) == "run_bench.py run demo --judged"


@pytest.mark.parametrize(
    ("suite", "change", "shown"),
    [
        ("/home/some body/mine.toml", "updates=1", "mine.toml --set updates=1"),
        ("C:\\Users\\somebody\\mine.toml", "updates=1", "mine.toml --set updates=1"),
        ("mine/first.toml", "extends=/home/some body/base.toml", "mine/first.toml --set extends=base.toml"),
        ("demo", 'imports=["/home/body/a", "/home/body/b"]', """demo --set 'imports=["a", "b"]'"""),
    ],
)
def test_the_command_tells_no_folder_of_the_machine(suite: str, change: str, shown: str) -> None:
    assert command_line(suite, None, [change], [], "auto") == f"run_bench.py run {shown}"


def test_a_run_keeps_its_command(elsewhere: Path, tiny: tuple[str, ...]) -> None:
    """As a shell takes it; asked again, it spans the same cells."""
    given = ["--seeds", "1", "--set", *tiny, 'generators=["none"]']
    assert run_bench.main(["run", "smoke", *given, "--jobs", "1", "--out", str(elsewhere / "out")]) == 0
    plan = ResultStore(elsewhere / "out").planned()
    program, *words = shlex.split(plan["command"])
    assert (program, words) == ("run_bench.py", ["run", "smoke", *given])
    again = cells(load_suite("smoke", words[words.index("--set") + 1 :], 1))
    assert [spec.cell_id for spec in again] == [cell["cell_id"] for cell in plan["cells"]]
