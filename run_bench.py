"""RolloutBench: which way of generating synthetic rollouts helps offline RL, why, and at what price?"""

import io
import json
import os
import sys
import tempfile
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import torch
from tyro.conf import Positional, UseAppendAction, arg
from tyro.extras import SubcommandApp

from benchmarks import report
from benchmarks.audit import regression, reproduce, status, verify
from benchmarks.execution import matrix, plan
from benchmarks.execution.provenance import command_line
from benchmarks.execution.ray_engine import on_ray
from benchmarks.execution.trackers import require_tracker
from benchmarks.probe import Probe
from benchmarks.report.study.judged import where_judged
from benchmarks.spec import COUPLINGS
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite, matching, suite_names
from core import registry
from core.errors import DataError, SpecError
from core.interrupt import Stopped, listening
from core.progress import say
from metrics.catalogue import METRICS
from tasks import listing
from tasks.audit import examine
from tasks.base import DataOptions, task_names

Suite = Annotated[Positional[str], arg(metavar="SUITE", help="a suite of this project (see `list`) or a .toml file")]
Overrides = Annotated[
    UseAppendAction[tuple[tuple[str, ...], ...]],
    arg(
        name="set",
        metavar="KEY=VALUE",
        help="keys of the suite, e.g. updates=5000 ensemble.rollout_length=1; TOML values or bare text",
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], arg(help="auto takes a GPU where there is one")]
Seeds = Annotated[int | None, arg(metavar="N", help="seeds 0 .. N-1 instead of the suite's")]
Imports = Annotated[
    UseAppendAction[tuple[tuple[str, ...], ...]],
    arg(
        name="import",
        metavar="MODULE",
        help="modules of your own whose environments data sets may use; also `imports` of a suite",
    ),
]
DataDir = Annotated[Path | None, arg(metavar="DIR", help="looked into first for dataset files")]
Cells = Annotated[
    str | None,
    arg(name="cells", metavar="PATTERN", help="where 'task generator algorithm variant' matches, e.g. '*dydiff*'"),
]
StallMinutes = Annotated[
    float, arg(metavar="MIN", help="a cell that gives no sign of life for so long is ended and has failed; 0: never")
]
Judged = Annotated[bool, arg(help="only cells in regimes that hold, by controls that have run into --out before")]
AllowMixed = Annotated[bool, arg(help="draw cells of a task together whose physics or data differ; a footnote says so")]
Out = Annotated[Path | None, arg(metavar="DIR", help="results folder; results/SUITE if not given")]
Folder = Annotated[Positional[Path], arg(metavar="DIR", help="a results folder")]

app = SubcommandApp()


@app.command
def run(
    suite: Suite,
    overrides: Overrides = (),
    seeds: Seeds = None,
    device: Device = "auto",
    jobs: Annotated[int | None, arg(metavar="N", help="cells at a time; all cores on a CPU, one cell on a GPU")] = None,
    engine: Annotated[Literal["local", "ray"], arg(help="ray: as tasks of a Ray cluster")] = "local",
    address: Annotated[
        str | None, arg(metavar="ADDRESS", help="of a running Ray cluster, or auto; one is started here if not given")
    ] = None,
    gpus_per_cell: Annotated[float, arg(metavar="X", help="on Ray: share of a GPU for a cell; 0 is the CPU")] = 0.0,
    stall_minutes: StallMinutes = 30.0,
    only_failed: Annotated[bool, arg(help="cells whose last run failed, nothing else")] = False,
    judged: Judged = False,
    some: Cells = None,
    tracker: Annotated[
        Literal["none", "tensorboard", "wandb"], arg(help="shows numbers as they come in; changes none of them")
    ] = "none",
    data_dir: DataDir = None,
    imports: Imports = (),
    out: Out = None,
    allow_mixed: AllowMixed = False,
) -> int:
    """Run the cells of a suite that are not there yet, write the report, and print the score table.

    Exit code 0 when every cell has finished, 1 when one has failed, a seed diverged or cells cannot be compared, 2 when
    the suite or a value is not valid. SIGTERM and SIGUSR1 save what is running and end with 75, Ctrl-C with 130: the
    same command resumes.
    """
    chosen = None if tracker == "none" else tracker
    if chosen is not None:
        require_tracker(chosen)
    changes, modules = list(chain.from_iterable(overrides)), list(chain.from_iterable(imports))
    specs = cells(load_suite(suite, changes, seeds, modules), data_dir)
    place = _device(device)
    at_a_time = _jobs(jobs, place)
    stall = _stall_seconds(stall_minutes)
    store = _store(out, suite)
    specs = where_judged(specs, store) if judged else specs
    if engine == "ray":
        if gpus_per_cell < 0:
            raise SpecError(f"--gpus-per-cell must be at least 0, got {gpus_per_cell}")
        runs = on_ray(address, gpus_per_cell, at_a_time)
    elif address is not None or gpus_per_cell:
        raise SpecError("--address and --gpus-per-cell need --engine ray, got local")
    else:
        runs = partial(matrix.local, jobs=at_a_time)
    try:
        store.plan(suite, specs, command_line(suite, seeds, changes, modules, device, judged=judged))
    except OSError as error:
        raise SpecError(f"--out must be a folder that can be written to, got {store.root}: {error}") from None
    specs = specs if some is None else matching(specs, some)
    specs = [spec for spec in specs if store.failed(spec)] if only_failed else specs
    failed = matrix.run_missing(specs, store, place, data_dir, runs, chosen, stall=stall)
    return _report(store, allow_mixed) or int(failed > 0)


@app.command(name="plan")
def show_plan(
    suite: Suite,
    overrides: Overrides = (),
    seeds: Seeds = None,
    probe: Annotated[bool, arg(help="time a few updates of every method, on made-up data")] = False,
    device: Device = "auto",
    data_dir: DataDir = None,
    judged: Judged = False,
    imports: Imports = (),
    out: Out = None,
) -> int:
    """Show the cells of a suite, the pretrained models they share and the estimated cost; start nothing.

    Estimates come from finished cells in the results folder. For the others --probe asks this device, in a minute or
    two and without data: seconds of updates, rollouts, evaluations and fits, hours and days in all, disk.
    """
    specs = cells(load_suite(suite, chain.from_iterable(overrides), seeds, chain.from_iterable(imports)), data_dir)
    store = _store(out, suite)
    specs = where_judged(specs, store) if judged else specs
    if not probe:
        print(plan.describe(specs, store))
        return 0
    place = _device(device)
    if place.type == "cpu":
        torch.set_num_threads(1)  # as in cells
    cores = f"CPU core (a cell takes one; {_jobs(None, place)} here)"
    name = "GPU, one cell at a time" if place.type == "cuda" else cores
    print(plan.describe(specs, store, Probe(specs, place), name))
    return 0


@app.command(name="reproduce")
def reproduce_cell(
    cell: Annotated[Positional[Path], arg(metavar="CELL", help="the folder of a finished cell, DIR/<cell_id>")],
    device: Device = "auto",
    data_dir: DataDir = None,
) -> int:
    """Run a finished cell once more, write nothing, and say which numbers differ. Exit code 0 when none does."""
    place = _device(device)
    if place.type == "cpu":
        torch.set_num_threads(1)  # as in cells
    text, equal = reproduce.reproduce(cell, place, data_dir)
    print(text)
    return int(not equal)


@app.command(name="check")
def check_suite(
    suite: Suite,
    update: Annotated[bool, arg(help="keep the measured values as the baseline, and say what changed")] = False,
    speed: Annotated[Path | None, arg(metavar="FILE", help="json of `make bench-ci`, to compare speed, too")] = None,
) -> int:
    """Run a suite afresh and compare quality, memory and speed with its baseline. Exit code 1 when something is worse.

    Always on the CPU, one cell at a time; data are taken from the cache, pretrained models are fitted again.
    """
    specs = cells(load_suite(suite))
    baseline = regression.load(suite)
    if baseline is None and not update:
        raise SpecError(f"suite {suite!r} must have a baseline to be checked: make one with --update")
    timed = {} if speed is None else {"speed": regression.hot_paths(speed)}
    with tempfile.TemporaryDirectory() as folder:
        found = regression.snapshot(specs, Path(folder)) | timed
    verdicts = regression.compare(baseline, found) if baseline else []
    print(regression.table(verdicts) if verdicts else f"first baseline of {suite}")
    if speed is None:
        print("speed was not compared: `make bench-ci` writes a file for --speed")
    if update:
        regression.update(suite, found)
        return 0
    return int(not all(verdict.passed for verdict in verdicts))


@app.command(name="status")
def show_status(folder: Folder) -> int:
    """Say which cells have finished, run, wait, failed or diverged, and why. Exit code 0 when all have finished."""
    text, finished = status.describe(_existing(folder))
    print(text)
    return int(not finished)


@app.command(name="report")
def write_report(
    folder: Folder,
    allow_mixed: AllowMixed = False,
    interval: Annotated[
        Literal["t", "bootstrap"], arg(help="over tasks; bootstrap is rliable's, too narrow with few seeds")
    ] = "t",
) -> int:
    """Redraw tables, plots and the page from a results folder alone."""
    return _report(_existing(folder), allow_mixed, interval)


@app.command(name="verify")
def verify_folder(folder: Folder) -> int:
    """Check a results folder against its digests and tables; write nothing. Exit code 1 if it differs."""
    faults = verify.verify(folder)
    print("\n".join(faults) if faults else verify.summary(folder))
    return int(bool(faults))


@app.command(name="list")
def list_names() -> int:
    """List tasks, generators, algorithms, couplings, metrics and suites."""
    sections = {
        "tasks": task_names(),
        "generators": registry.available("generators"),
        "algorithms": registry.available("algorithms"),
        "couplings": [f"{name}: {', '.join(f'{key}={x}' for key, x in of.items())}" for name, of in COUPLINGS.items()],
        "metrics": [f"{metric.name}: {metric.meaning}" for metric in METRICS],
        "suites": suite_names(),
    }
    for section, names in sections.items():
        print(f"{section}:", *names, sep="\n  ")
    return 0


@app.command
def data(
    action: Annotated[Positional[Literal["list", "make", "fetch", "verify"]], arg(help="what to do")],
    name: Annotated[Positional[str | None], arg(metavar="NAME", help="a task, e.g. local/maze2d-umaze")] = None,
    dataset_rows: Annotated[int, arg(metavar="ROWS", help="rows of a generated set (local/, toy/)")] = 100_000,
    data_dir: DataDir = None,
    imports: Imports = (),
    skip_broken_episodes: Annotated[bool, arg(help="use the other episodes of a file, and say how many")] = False,
) -> int:
    """Look after datasets: list them, make local/ sets, fetch d4rl/ and minari/ ones, verify what is there."""
    modules = tuple(chain.from_iterable(imports))
    options = DataOptions(
        data_dir=data_dir, dataset_rows=dataset_rows, skip_broken_episodes=skip_broken_episodes, imports=modules
    )
    if action == "list":
        print(listing.describe(options))
    elif name is None:
        raise SpecError(f"data {action} must be given the NAME of a task, got none")
    elif action == "verify":
        found = examine(name, options)
        print(json.dumps(found, indent=2))
        for sentence in found["contradictions"]:
            say(f"{name}: the data contradict the simulator: {sentence}")
        return int(bool(found["contradictions"]))
    else:
        print(listing.obtain(name, options, action))
    return 0


def main(arguments: list[str]) -> int:
    """Dispatch, and turn errors of the user and of the system into a message and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every locale knows ± and †
            stream.reconfigure(errors="backslashreplace")
    try:
        with listening():
            code: int = app.cli(prog="run_bench.py", description=__doc__, args=arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # `| head`: whoever read has gone
        _drop_output()
        code = 141  # what a shell reports of a tool that SIGPIPE has ended
    except (SpecError, DataError, OSError) as error:  # OSError: a full disk, a folder that cannot be written to
        say(f"error: {error}")
        code = 2 if isinstance(error, SpecError) else 1
    except Stopped as stopped:
        say(f"stopped by {stopped}: finished cells and checkpoints are kept; the same command resumes")
        code = stopped.exit_code
    return code


def _drop_output() -> None:
    """Send what is left to be printed nowhere; else Python complains when it flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


def _report(store: ResultStore, allow_mixed: bool, interval: str = "t") -> int:
    problems = report.report(store, allow_mixed=allow_mixed, interval=interval)
    print(report.score_text(store))
    for problem in problems:
        say(f"problem: {problem}")
    say(f"report: {store.root / 'report' / 'index.html'}")
    return int(bool(problems))


def _existing(folder: Path) -> ResultStore:
    if not folder.is_dir():
        raise SpecError(f"DIR must be a results folder, got {folder}")
    return ResultStore(folder)


def _store(out: Path | None, suite: str) -> ResultStore:
    folder = out or Path("results", Path(suite).stem if suite.endswith(".toml") else suite)
    if folder.is_file():
        raise SpecError(f"--out must be a folder, got {folder}")
    return ResultStore(folder)


def _jobs(jobs: int | None, device: torch.device) -> int:
    if jobs is not None and jobs < 1:
        raise SpecError(f"--jobs must be at least 1, got {jobs}")
    return jobs or (len(os.sched_getaffinity(0)) if device.type == "cpu" and hasattr(os, "sched_getaffinity") else 1)


def _stall_seconds(minutes: float) -> float:
    if not 0 <= minutes <= 60 * 24 * 7:
        raise SpecError(f"--stall-minutes must be between 0 and a week, got {minutes:g}")
    return 60 * minutes


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError("--device cuda needs a GPU that torch can see, found none")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
