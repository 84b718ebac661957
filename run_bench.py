"""RolloutBench: which way of generating synthetic rollouts helps offline RL, why, and at what price?"""

import io
import json
import shlex
import sys
import tempfile
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from benchmarks import packing, report
from benchmarks.arguments import (
    Address,
    AllowMixed,
    Cells,
    DataDir,
    Device,
    Engine,
    Folder,
    GpusPerCell,
    Imports,
    Jobs,
    Judged,
    Out,
    Overrides,
    Seeds,
    StallMinutes,
    Suite,
    Take,
    Tracker,
    cells_at_a_time,
    chosen_device,
    chosen_tracker,
    existing,
    results_folder,
    stall_seconds,
)
from benchmarks.audit import regression, reproduce, status, verify
from benchmarks.equal_compute import equal_cells
from benchmarks.execution import matrix, plan
from benchmarks.execution.cell import as_in_cells
from benchmarks.execution.provenance import command_line
from benchmarks.execution.ray_engine import on_ray
from benchmarks.probe import Probe
from benchmarks.report.study.judged import judged_cells, where_judged
from benchmarks.spec import COUPLINGS
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite, matching, suite_names
from core import registry
from core.errors import DataError, SpecError
from core.interrupt import Stopped, listening
from core.progress import drop_output, say
from metrics.catalogue import METRICS
from tasks import listing
from tasks.audit import examine
from tasks.base import DataOptions, task_names

app = SubcommandApp()


@app.command
def run(
    suite: Suite,
    overrides: Overrides = (),
    seeds: Seeds = None,
    device: Device = "auto",
    jobs: Jobs = None,
    engine: Engine = "local",
    address: Address = None,
    gpus_per_cell: GpusPerCell = 0.0,
    stall_minutes: StallMinutes = 30.0,
    only_failed: Annotated[bool, arg(help="cells whose last run failed, nothing else")] = False,
    judged: Judged = False,
    some: Cells = None,
    tracker: Tracker = "none",
    data_dir: DataDir = None,
    imports: Imports = (),
    take: Take = None,
    out: Out = None,
    allow_mixed: AllowMixed = False,
) -> int:
    """Run the cells of a suite that are not there yet, write the report, and print the score table.

    Exit code 0 when every cell has finished, 1 when one has failed, a seed diverged or cells cannot be compared, 2 when
    the suite or a value is not valid. SIGTERM and SIGUSR1 save what is running and end with 75, Ctrl-C with 130: the
    same command resumes.
    """
    chosen = chosen_tracker(tracker)
    changes, modules = list(chain.from_iterable(overrides)), list(chain.from_iterable(imports))
    specs = cells(load_suite(suite, changes, seeds, modules), data_dir)
    place = chosen_device(device)
    at_a_time = cells_at_a_time(jobs, place)
    stall = stall_seconds(stall_minutes)
    store = results_folder(out, suite)
    if take is not None:
        say(f"taken from {take}: {store.take(existing(take, '--take'), specs)} finished cells")
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
    if some is not None:
        specs = matching(specs, some)
    if only_failed:
        specs = [spec for spec in specs if store.failed(spec)]
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
    store = results_folder(out, suite)
    specs = where_judged(specs, store) if judged else specs
    if not probe:
        print(plan.describe(specs, store))
        return 0
    place = chosen_device(device)
    as_in_cells(place)
    cores = f"CPU core (a cell takes one; {cells_at_a_time(None, place)} here)"
    name = "GPU, one cell at a time" if place.type == "cuda" else cores
    print(plan.describe(specs, store, Probe(specs, place), name))
    return 0


@app.command(name="equal_compute")
def run_equal_compute(
    folder: Folder,
    at_most: Annotated[int | None, arg(metavar="N", help="updates that generator none gets at most")] = None,
    device: Device = "auto",
    jobs: Jobs = None,
    stall_minutes: StallMinutes = 30.0,
    data_dir: DataDir = None,
    allow_mixed: AllowMixed = False,
) -> int:
    """Give generator none the FLOP of the dearest generator of a finished folder, and compare again.

    It gets them twice: as further updates, and as wider networks. The cells are added to the folder and run like those
    of `run`, with its exit codes; the report then says which of the two helps none more, and holds the generators
    against that. The same command resumes.
    """
    store = existing(folder)
    place = chosen_device(device)
    at_a_time = cells_at_a_time(jobs, place)
    stall = stall_seconds(stall_minutes)
    specs = equal_cells(store, at_most)
    options = [] if at_most is None else ["--at-most", str(at_most)]
    store.extend(specs, shlex.join(["run_bench.py", "equal_compute", folder.name, *options]))
    failed = matrix.run_missing(specs, store, place, data_dir, partial(matrix.local, jobs=at_a_time), stall=stall)
    return _report(store, allow_mixed) or int(failed > 0)


@app.command(name="reproduce")
def reproduce_cell(
    cell: Annotated[Positional[Path], arg(metavar="CELL", help="a finished cell, DIR/<cell_id>")],
    device: Device = "auto",
    data_dir: DataDir = None,
) -> int:
    """Run a finished cell once more, write nothing, and say which numbers differ. Exit code 0 when none does."""
    place = chosen_device(device)
    as_in_cells(place)
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
    text, finished = status.describe(existing(folder))
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
    return _report(existing(folder), allow_mixed, interval)


@app.command(name="verify")
def verify_folder(folder: Folder) -> int:
    """Check a results folder against its digests and tables; write nothing. Exit code 1 if it differs."""
    faults = verify.verify(folder)
    print("\n".join(faults) if faults else verify.summary(folder))
    return int(bool(faults))


@app.command(name="pack")
def pack_folder(
    folder: Folder,
    out: Annotated[Path | None, arg(metavar="DIR", help="leave DIR alone and write there")] = None,
    lean: Annotated[
        bool, arg(help="delete all but scores and last measurements, of these the middle of most curves")
    ] = False,
    judged: Annotated[bool, arg(help="only cells in regimes that hold; needs --out")] = False,
) -> int:
    """Put the finished cells of a results folder into a few small files, which every command reads like the others.

    A cell then takes about a third of its bytes, with --lean a seventh to a tenth. Without --lean no number is lost.
    """
    store = existing(folder)
    dropped = store.pack(ResultStore(out or folder), lean, judged_cells(store) if judged else None)
    print(f"packed into {(out or folder) / packing.FOLDER}; left out: {dropped} numbers")
    return 0


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
        drop_output()
        code = 141  # what a shell reports of a tool that SIGPIPE has ended
    except SpecError as error:
        say(f"error: {error}")
        code = 2
    except (DataError, OSError) as error:  # of the system: a full disk, a folder that cannot be written to
        say(f"error: {error}")
        code = 1
    except Stopped as stopped:
        say(f"stopped by {stopped}: finished cells and checkpoints are kept; the same command resumes")
        code = stopped.exit_code
    return code


def _report(store: ResultStore, allow_mixed: bool, interval: str = "t") -> int:
    problems = report.report(store, allow_mixed=allow_mixed, interval=interval)
    print(report.score_text(store))
    for problem in problems:
        say(f"problem: {problem}")
    say(f"report: {store.root / 'report' / 'index.html'}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
