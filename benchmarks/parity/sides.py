"""The jobs of a comparison.

Theirs: one process for each seed, then one that judges what they wrote. Ours: of policies the ordinary command line,
all seeds in one program, which judges as it trains; of models one process for each seed.
"""

import hashlib
import json
import sys
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.parity.export import Exported, export
from benchmarks.parity.jobs import Job
from benchmarks.parity.plan import PEERS, Comparison
from benchmarks.peers import NotThereError
from benchmarks.store import ResultStore
from core.files import canonical_json, write_text

__all__ = ["Plan", "Scores", "planned", "suite"]

Scores = dict[tuple[int, int], float]  # by (seed, update)
STARTS, LENGTH = 256, 32  # held-out windows on which models are judged


@dataclass
class Plan:
    """A comparison with its jobs, by task; without any where the peer is not there."""

    comparison: Comparison
    work: Path
    not_there: str | None = None
    commit: str | None = None
    exported: dict[str, Exported] = field(default_factory=dict)
    theirs: dict[str, list[Job]] = field(default_factory=dict)
    ours: dict[str, list[Job]] = field(default_factory=dict)
    lockstep: dict[str, Job] = field(default_factory=dict)  # the peer's first updates, to be repeated
    kept: dict[str, str] = field(default_factory=dict)  # tasks of which all numbers are known: what was asked
    repeated: dict[str, str] = field(default_factory=dict)  # tasks whose first updates are known: what was asked

    @property
    def training(self) -> list[Job]:
        """Of both sides, task by task; all of ours in one program take longest, so they begin."""
        return [job for task in self.theirs for job in self.ours[task] + self.theirs[task]]

    def asked(self, task: str) -> str:
        """A digest of what a task's numbers depend on: both sides' jobs, and how they are judged."""
        comparison = self.comparison
        jobs = [dict(job.asked) for job in self.theirs[task] + self.ours[task]]
        judged = {"episodes": comparison.episodes, "steps": comparison.steps, **self._method(task)}
        return _digest([jobs, judged])

    def asked_in_lockstep(self, task: str) -> str:
        """A digest of what the first updates depend on."""
        return _digest([dict(self.lockstep[task].asked), self._method(task)])

    def keep(self, known: Mapping[str, Any]) -> None:
        """Tasks whose numbers are all in the comparison's json file have no jobs any more; first updates likewise."""
        for task in [task for task in self.theirs if known.get("asked", {}).get(task) == self.asked(task)]:
            self.kept[task] = self.asked(task)
            del self.theirs[task], self.ours[task]
        asked = known.get("asked_in_lockstep", {})
        for task in [task for task in self.lockstep if asked.get(task) == self.asked_in_lockstep(task)]:
            self.repeated[task] = self.asked_in_lockstep(task)
            del self.lockstep[task]

    def judging(self, ended: Container[str]) -> Iterator[Job]:
        """What can be judged of the jobs that have ended and has not been."""
        found = [self.compared(task) for task in self.lockstep]
        for task in self.theirs:
            if all(job.name in ended for job in self.ours[task] + self.theirs[task]):
                found.append(self.judged(task))
        yield from (job for job in found if job is not None and job.name not in ended)

    def compared(self, task: str) -> Job | None:
        """Repeats the peer's first updates, once they have been recorded."""
        recorded = self.lockstep[task]
        if not recorded.finished:
            return None
        asked = {"kind": "lockstep", **self._method(task), "recorded": dict(recorded.asked)}
        return self._judge("compared", task, asked, {"file": str((recorded.folder / "lockstep.npz").absolute())})

    def judged(self, task: str) -> Job | None:
        """Judges what a task's jobs have finished; of policies only the peer's, of models both."""
        sides = {"theirs": self.theirs[task], "ours": self.ours[task] if self.comparison.kind == "model" else []}
        done = {side: [job for job in jobs if job.finished] for side, jobs in sides.items()}
        if not any(done.values()):
            return None
        asked = {
            "kind": self.comparison.kind,
            **self._method(task),
            "episodes": self.comparison.episodes,
            "steps": self.comparison.steps,
            **{side: [dict(job.asked) for job in jobs] for side, jobs in done.items()},
        }
        places: dict[str, Any] = {"windows": str(self.exported[task].windows.absolute())}
        for side, jobs in done.items():
            places[f"{side}_folders"] = [str(job.folder.absolute()) for job in jobs]
        return self._judge("judged", task, asked, places)

    def _method(self, task: str) -> dict[str, Any]:
        comparison = self.comparison
        settings = comparison.fields("ours", task)
        return {"method": comparison.method, "settings": settings, "task": task, "rows": comparison.rows}

    def _judge(self, verb: str, task: str, asked: dict[str, Any], places: dict[str, Any]) -> Job:
        command = [sys.executable, "-m", "benchmarks.parity.judge", "{job}", "{folder}"]
        return Job(f"{verb}-{self.comparison.name}-{task}", command, asked, places, self.work)


def planned(comparison: Comparison, peers: Path | None, work: Path, python: str, any_commit: bool) -> Plan:
    """The jobs of both sides; files that they need are written."""
    plan = Plan(comparison, work)
    try:
        checkout, plan.commit = PEERS[comparison.peer].find(peers, any_commit)
    except NotThereError as error:
        plan.not_there = str(error).removeprefix("not there: needs ")
        return plan
    for task in comparison.tasks:
        exported = export(task, work / "data", comparison.rows, STARTS, LENGTH)
        plan.exported[task] = exported
        plan.theirs[task] = [_theirs(plan, task, seed, checkout, python) for seed in range(comparison.runs(task))]
        if comparison.kind == "policy":
            plan.ours[task] = [_command_line(plan, task)]
        else:
            plan.ours[task] = [_model(plan, task, seed) for seed in range(comparison.runs(task))]
        if comparison.lockstep:
            alone = plan.theirs[task][0]
            asked = {**alone.asked, "lockstep": min(comparison.lockstep, comparison.updates)}
            plan.lockstep[task] = replace(alone, name=f"lockstep-{comparison.name}-{task}", asked=asked)
    return plan


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def suite(comparison: Comparison, task: str) -> dict[str, Any]:
    """What our command line is given: one task, no generator, one algorithm with published settings."""
    return {
        "tasks": [f"local/{task}"],
        "generators": ["none"],
        "algorithms": [comparison.method],
        "seeds": list(range(comparison.runs(task))),
        "updates": comparison.updates,
        "evaluate_every": comparison.every,
        "episodes": comparison.episodes,
        "dataset_rows": comparison.rows,
        "real_fraction": 1.0,
        "compile": "auto",
        comparison.method: comparison.fields("ours", task),
    }


def records(done: Job) -> tuple[Scores, dict[str, Any]]:
    """(normalised scores, provenance) of a finished run of our command line."""
    (cell,) = ResultStore(done.folder / "results").cells()
    scores = {
        (record.seed, record.step): record.value
        for record in cell.records
        if record.metric == "normalized_score" and record.value is not None
    }
    return scores, cell.runs[-1]


def _theirs(plan: Plan, task: str, seed: int, checkout: Path, python: str) -> Job:
    """Which interpreter and where the checkout lies changes no number."""
    comparison, exported = plan.comparison, plan.exported[task]
    asked = {
        "peer": comparison.peer,
        "commit": plan.commit,
        **_asked(comparison, task, seed, exported),
        "settings": comparison.fields("theirs", task),
    }
    places = {"checkout": checkout, "data": exported.file, "windows": exported.windows}
    command = [python, "-m", f"benchmarks.parity.drivers.{PEERS[comparison.peer].driver}", "{job}", "{folder}"]
    absolute = {name: str(path.absolute()) for name, path in places.items()}
    name = f"theirs-{comparison.runs_of or comparison.name}-{task}-seed{seed}"
    return Job(name, command, asked, absolute, plan.work)


def _model(plan: Plan, task: str, seed: int) -> Job:
    comparison, exported = plan.comparison, plan.exported[task]
    asked = _asked(comparison, task, seed, exported) | {
        "rows": comparison.rows,
        "settings": comparison.fields("ours", task),
    }
    command = [sys.executable, "-m", "benchmarks.parity.ours", "{job}", "{folder}"]
    places = {"windows": str(exported.windows.absolute())}
    return Job(f"ours-{comparison.method}-{task}-seed{seed}", command, asked, places, plan.work)


def _asked(comparison: Comparison, task: str, seed: int, exported: Exported) -> dict[str, Any]:
    judged = {"windows": [STARTS, LENGTH]} if comparison.kind == "model" else {}
    return judged | {
        "method": comparison.method,
        "task": task,
        "seed": seed,
        "updates": comparison.updates,
        "every": comparison.every,
        "sha256": exported.sha256,
    }


def _command_line(plan: Plan, task: str) -> Job:
    """All seeds in one program, as everywhere; killed, it resumes by itself."""
    table = suite(plan.comparison, task)
    name = f"ours-{plan.comparison.name}-{task}"
    file = plan.work / "suites" / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, _toml(table))
    command = [sys.executable, "run_bench.py", "run", str(file.absolute()), "--device", "cpu", "--jobs", "1"]
    command += ["--out", str((plan.work / name / "results").absolute())]
    return Job(name, command, {"suite": table, "sha256": plan.exported[task].sha256}, {}, plan.work)


def _toml(table: dict[str, Any]) -> str:
    """JSON's numbers, texts and lists are TOML's, too."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{name} = {json.dumps(inner)}" for name, inner in value.items())]
    return "\n".join(lines) + "\n"
