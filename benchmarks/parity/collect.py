"""What has finished of a comparison, as one json value: numbers of both sides, commits, speeds, what is missing."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from benchmarks.parity.jobs import Job
from benchmarks.parity.sides import Plan, records

__all__ = ["collected"]

_ROOT = Path(__file__).resolve().parents[2]


def collected(plan: Plan, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """None if nothing has finished. What is `known` of the tasks that the plan has kept stays.

    `values` are (side, task, seed, what, unit, update, value); update is None for what is not a curve. `lockstep` are
    (task, network, how far it has moved, how far both sides are apart, the same as median, p of the initial law).
    `asked` is what was asked of each task whose numbers are all there, `asked_in_lockstep` of each whose first updates
    are.
    """
    values = [row for row in known.get("values", []) if row[1] in plan.kept]
    lockstep = [row for row in known.get("lockstep", []) if row[0] in plan.repeated]
    kept = {"theirs": plan.kept, "ours": plan.kept, "judge": plan.kept, "lockstep": plan.repeated}
    about: dict[str, Any] = {
        side: {task: said for task, said in known.get("about", {}).get(side, {}).items() if task in tasks}
        for side, tasks in kept.items()
    }
    for task in plan.theirs:
        values += _judged(plan, _values(plan.judged(task)), task)
        if plan.comparison.kind == "policy":
            values += _ours(plan, task, about)
    for task in plan.lockstep:
        lockstep += [(task, *network) for network in _values(plan.compared(task))]
    judges = {task: [each for each in [plan.judged(task)] if each] for task in plan.theirs}
    repeats = {task: [each for each in [plan.compared(task), job] if each] for task, job in plan.lockstep.items()}
    for side, jobs in (("theirs", plan.theirs), ("ours", plan.ours), ("judge", judges), ("lockstep", repeats)):
        for task, each in jobs.items():
            about[side].setdefault(task, {})["seconds"] = {job.name: job.seconds for job in each if job.finished}
            if found := [json.loads(file.read_text(encoding="utf-8")) for job in each for file in _facts(job)]:
                about[side][task]["facts"] = _without_paths(found[0], each[0])
    if not values and not lockstep and not plan.not_there and not _failures(plan):
        return None
    comparison = plan.comparison
    return {
        "title": comparison.title,
        "kind": comparison.kind,
        "control": comparison.control,
        "peer": comparison.peer,
        "peer_commit": plan.commit,
        "not_there": plan.not_there,
        "purpose": list(comparison.purpose),
        "budget": {"updates": comparison.updates, "every": comparison.every, "seeds": comparison.seeds},
        "failed": _failures(plan),
        "asked": plan.kept | {task: plan.asked(task) for task in plan.theirs if _complete(plan, task)},
        "asked_in_lockstep": plan.repeated
        | {task: plan.asked_in_lockstep(task) for task in plan.lockstep if _finished(plan.compared(task))},
        "waiting": [job.name for job in plan.training if not job.finished and job.failure is None],
        "values": values,
        "lockstep": lockstep,
        "lockstep_updates": next(
            (job.asked["lockstep"] for job in plan.lockstep.values()), known.get("lockstep_updates")
        ),
        "about": about,
    }


def _complete(plan: Plan, task: str) -> bool:
    """Whether nothing of a task is missing."""
    return all(map(_finished, [*plan.theirs[task], *plan.ours[task], plan.judged(task)]))


def _finished(job: Job | None) -> TypeGuard[Job]:
    return job is not None and job.finished


def _values(judge: Job | None) -> list[Any]:
    """What a judge has written, if there is one that has finished."""
    if not _finished(judge):
        return []
    found: list[Any] = json.loads((judge.folder / "values.json").read_text(encoding="utf-8"))
    return found


def _judged(plan: Plan, content: list[Any], task: str) -> list[tuple[str, str, int, str, str, int | None, float]]:
    if plan.comparison.kind == "policy":
        return [("theirs", task, seed, "score", "points", step, score) for seed, step, score in content]
    return [(side, task, seed, what, unit, None, value) for side, seed, what, unit, value in content]


def _ours(plan: Plan, task: str, about: dict[str, Any]) -> list[tuple[str, str, int, str, str, int | None, float]]:
    (job,) = plan.ours[task]
    if not job.finished:
        return []
    scores, origin = records(job)
    kept = ("commit", "dirty", "versions", "physics", "cpu", "cores", "dataset_sha256")
    about["ours"].setdefault(task, {})["provenance"] = {name: origin.get(name) for name in kept}
    return [("ours", task, seed, "score", "points", step, score) for (seed, step), score in scores.items()]


def _facts(job: Job) -> list[Any]:
    file = job.folder / "facts.json"
    return [file] if job.finished and file.is_file() else []


def _failures(plan: Plan) -> dict[str, str]:
    judges = [*map(plan.compared, plan.lockstep), *map(plan.judged, plan.theirs)]
    jobs = [*plan.lockstep.values(), *plan.training, *judges]
    said = [(job, job.failure) for job in jobs if job is not None and not job.finished]
    return {job.name: _without_paths(text, job) for job, text in said if text is not None}


def _without_paths(value: Any, job: Job) -> Any:
    """Names in place of this machine's paths."""
    places = {str(path): f"<{name}>" for name, path in job.places.items() if isinstance(path, str)}
    places |= {str(job.folder.absolute()): "<folder>", str(job.out.absolute()): "<work>", str(_ROOT): "<ours>"}
    places |= {sys.prefix: "<python>", sys.base_prefix: "<python>"}
    text = json.dumps(value)
    for path in sorted(places, key=len, reverse=True):
        text = text.replace(path, places[path])
    return json.loads(text)
