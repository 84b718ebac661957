"""Run what is missing of the comparisons, and draw the page: `python -m benchmarks.parity --peers DIR`.

Every job leaves files in the folder `--work`; the same command resumes. For each comparison that has numbers there is
one json file in the folder `--out`, and its README.md is drawn from these files alone. A task all of whose numbers are
in that file is not run again, whatever `--work` holds: so a long comparison can be spread over machines and days.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.parity.collect import collected
from benchmarks.parity.jobs import Job, Outcome, run_all
from benchmarks.parity.page.table import draw
from benchmarks.parity.plan import Comparison, chosen, smoke
from benchmarks.parity.sides import planned
from core.errors import SpecError
from core.files import write_json
from core.interrupt import Stopped

__all__ = ["Options", "main"]


@dataclass(frozen=True)
class Options:
    """Parity with the authors' own code, on the same file."""

    peers: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None  # checkouts; default: $ROLLOUTBENCH_PEERS
    only: str | None = None  # names of comparisons, separated by commas; default: all but controls
    controls: bool = False  # those that ask for the cause of a difference, too
    python: Annotated[Path, tyro.conf.arg(metavar="PYTHON")] = Path(sys.executable)  # interpreter of the peers
    work: Path = Path("results/parity-work")  # files of the jobs
    out: Path = Path("results/parity")  # the page, and what it is drawn from
    jobs: int = 2  # processes at a time, one thread each
    minutes: float | None = None  # then no job starts, and those that run are stopped; 0: only draw the page
    lockstep: bool = False  # only the first updates and the parts of models, with equal weights and draws: minutes
    smoke: bool = False  # tiny budgets, the first comparison unless --only says which: does it run?
    again: bool = False  # run what the json files of --out hold, too
    any_commit: bool = False  # take checkouts at other commits than the drivers were written for


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all jobs have finished, 1 when one has failed or waits or a peer is not there.

    130 after Ctrl-C, 75 after another signal: the same command resumes.
    """
    options = tyro.cli(Options, prog="python -m benchmarks.parity", args=arguments)
    try:
        wanted = chosen(options.only or ("td3bc" if options.smoke else None), options.controls)
    except SpecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        return run([smoke(each) for each in wanted] if options.smoke else wanted, options)
    except Stopped as stopped:
        print(f"stopped by {stopped}: finished jobs are kept; the same command resumes", file=sys.stderr)
        return stopped.exit_code


def run(comparisons: Sequence[Comparison], options: Options) -> int:
    """First updates, trainings, judging as soon as both sides of a task have ended; then the page."""
    elsewhere = os.environ.get("ROLLOUTBENCH_PEERS")
    folder = options.peers or (Path(elsewhere) if elsewhere else None)
    work = options.work / "smoke" if options.smoke else options.work
    plans = [planned(each, folder, work, str(options.python), options.any_commit) for each in comparisons]
    out = work / "page" if options.smoke else options.out
    files = {plan.comparison.name: out / f"{plan.comparison.name}.json" for plan in plans}
    known = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}
    for plan in plans if not options.again else ():
        plan.keep(known.get(plan.comparison.name, {}))
    issued = set[str]()

    def judging(outcomes: Mapping[str, Outcome]) -> Iterator[Job]:
        for job in (job for plan in plans for job in plan.judging({*outcomes, *issued})):
            issued.add(job.name)
            yield job

    jobs = [job for plan in plans for job in plan.lockstep.values()]
    jobs += [] if options.lockstep else [job for plan in plans for job in plan.training]
    outcomes = run_all({job.name: job for job in jobs}.values(), options.jobs, options.minutes, judging)
    for plan in plans:
        before = known.get(plan.comparison.name, {})
        found = collected(plan, before)
        if found is not None and (found["values"] or not before.get("values")):  # a reason replaces no numbers
            write_json(files[plan.comparison.name], found)
        if plan.not_there:
            print(f"{plan.comparison.name}: left out, needs {plan.not_there}")
    print(draw(out))
    return int(any(plan.not_there for plan in plans) or not {"failed", "waiting"}.isdisjoint(outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
