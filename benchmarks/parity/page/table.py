"""The page of parity: one table, one figure for each family, drawn from the json files in its folder alone."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from tabulate import tabulate

from benchmarks.parity.compare import Row, Unit, row
from benchmarks.parity.lockstep import Network
from benchmarks.parity.page import figures
from benchmarks.parity.plan import COMPARISONS, NOT_COMPARED, PEERS
from core.files import write_text

_Sides = dict[str, dict[int, float]]  # value by side and seed

__all__ = ["Line", "draw", "lines", "page"]

_PAGE = """# Parity with the authors' own code

Does each method do what its authors' code does? Both sides learn from the same file, for the same number of updates,
with the published settings, and one judge looks at both: policies are evaluated in one simulator from the same start
states, rollouts of models by the same functions. Drawn by `python -m benchmarks.parity --minutes 0` from the json files
in this folder; run by `make parity PEERS=DIR`, the controls by `make parity PEERS=DIR CONTROLS=1`. None of the peers'
code is in this repository.

"equivalent": two one-sided Welch tests reject, at 5 %, that the means differ by more than the margin: 5 points of the
normalised score, a factor of 1.1 of an error, 0.05 of a correlation. "differs": the 95 % interval leaves out zero (a
factor of one), as one row in twenty does by chance where nothing differs. "cannot be told apart": neither. Seeds to
tell: so many on each side would show, with a power of 80 %, that two sides which are the same and scatter as these do
are equivalent; what few seeds cannot tell, the lockstep below asks in another way. A score is the mean of the later
half of a seed's checkpoints; that of the whole curve, which varies less between seeds, was added after the first rows
had been seen. Every checkpoint by itself: [checkpoints.csv](checkpoints.csv).
"""


class Line(NamedTuple):
    """One comparison of one number on one task."""

    comparison: str
    task: str
    update: int | None  # None: not a curve, or a mean of it
    row: Row


def lines(name: str, found: Mapping[str, Any]) -> Iterator[Line]:
    """All that a comparison's file says: checkpoint by checkpoint, then the means of a curve's later half and whole."""
    sides: dict[tuple[str, str, Unit, int | None], _Sides] = defaultdict(lambda: {"theirs": {}, "ours": {}})
    for side, task, seed, what, unit, update, value in found["values"]:
        sides[task, what, unit, update][side][seed] = value
    for (task, what, unit, update), both in sides.items():
        if all(both.values()):
            yield Line(name, task, update, row(what, unit, *(list(both[side].values()) for side in ("theirs", "ours"))))
    curves = dict.fromkeys(key[:3] for key in sides if key[3] is not None)
    for task, what, unit in curves:
        updates = sorted(key[3] for key in sides if key[:3] == (task, what, unit) and key[3] is not None)
        points = [sides[task, what, unit, update] for update in updates]
        whole = [point for point in points if all(point.values())]
        for called, part in ((what, whole[len(points) // 2 :]), (f"{what} of the whole curve", whole)):
            if part:
                yield Line(name, task, None, row(called, unit, *(_means(part, side) for side in ("theirs", "ours"))))


def _means(points: Sequence[_Sides], side: str) -> list[float]:
    """Of every seed that has all points."""
    seeds = set.intersection(*(set(point[side]) for point in points))
    return [fmean(point[side][seed] for point in points) for seed in sorted(seeds)]


def draw(out: Path) -> str:
    """Write README.md, the csv files and the figures; returns the table as text."""
    known = [each.name for each in COMPARISONS]
    files = sorted(out.glob("*.json"), key=lambda file: known.index(file.stem) if file.stem in known else len(known))
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    if not found:
        return "nothing has finished yet"
    every = [line for name, content in found.items() for line in lines(name, content)]
    _write(
        out / "checkpoints.csv",
        ["comparison", "task", "update", *Row._fields],
        ([line.comparison, line.task, line.update, *line.row] for line in every if line.update is not None),
    )
    networks = ([name, *network] for name, content in found.items() for network in content["lockstep"])
    _write(out / "lockstep.csv", ["comparison", "task", *Network._fields], networks)
    drawn = list(figures.draw_all(out, found, every))
    write_text(out / "README.md", page(found, every, drawn))
    return tabulate(list(_table(found, every)), _HEADS, disable_numparse=True)


def _tabulated(rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, _HEADS, tablefmt="github", disable_numparse=True)


def _write(file: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    write_text(file, text.getvalue())


_CONTROLS = """## Controls: where does a difference come from?

The same code of theirs, made more like ours step by step, or with more seeds.
"""
_NOTHING = "**No training has been judged on both sides yet.** What can be said before: the first updates, below."
_HEADS = (
    "method",
    "beside",
    "task",
    "quantity",
    "theirs",
    "ours",
    "difference [95 %]",
    "p (not equivalent)",
    "seeds to tell",
    "verdict",
)


def page(found: Mapping[str, Any], every: Sequence[Line], drawn: Sequence[tuple[str, str]]) -> str:
    """The page, in Markdown."""
    first, controls = (
        list(_table(found, [line for line in every if found[line.comparison]["control"] is control]))
        for control in (False, True)
    )
    tables = [_tabulated(first) if first else _NOTHING, ""]
    tables += [_CONTROLS, _tabulated(controls), ""] if controls else []
    shown = [part for name, alt in drawn for part in (f"![{alt}]({name}.svg)", "")]
    notes = [f"- **{content['title']}**: {text}" for content in found.values() for text in content["purpose"]]
    parts = [_PAGE, *tables, *shown, *_lockstep(found)]
    parts += ["## Budgets", "", *budgets, ""] if (budgets := list(_budgets(found))) else []
    parts += ["## What differs on purpose, or was found to differ", "", *notes, ""] if notes else []
    parts += ["## Versions", "", *_versions(found), ""]
    parts += ["## Left out", "", *_missing(found), *(f"- {title}: {why}" for title, why in NOT_COMPARED), ""]
    return "\n".join(parts)


_LOCKSTEP = """## The first updates, in lockstep

Both begin with the same weights, get the same batches and draw the same random numbers (every normal one 0.3, every
uniform one 0.6; SynthER's noise differs from row to row), all in double precision: so the terms of the losses, the
optimisers, the targets and what changes as training goes on are compared. Of the network that is farthest apart: how
far its weights have moved and how far both sides are apart afterwards, as root mean square and as median. A term that
differs leaves them about as far apart as they have moved; roundings about 1e-16. Law: are the weights that each side
draws for its own start of one law? The smallest p of Kolmogorov-Smirnov tests, one for each weight matrix and bias of
each network, after Bonferroni. All networks, and the mean and deviation by which states are normalised:
[lockstep.csv](lockstep.csv). Not seen by this: what begins later, whether draws are as independent as they should be,
and how batches are drawn.
"""


_SAME = 1e-9  # of the way that weights have moved
_READ = """In {same} of {count} both sides are apart by less than {share:g} of the way that they have moved: up to there
both programs compute the same, and what scores of few seeds cannot tell is left to what comes later, or to the seeds.
"""

_PARTS = """Of the diffusion models the parts are compared, too: the same network on the same rows, the loss of the same
noise, the sampler from the same latents with the same noise, and the units of the rows. SynthER's training above keeps
our average of the weights on both sides. DyDiff's network is another one on purpose: its loss and sampler are given a
denoiser that is no network. Root mean squares of what theirs says and of the difference:
"""


def _lockstep(found: Mapping[str, Any]) -> Iterator[str]:
    updates = list[tuple[str, ...]]()
    distances = list[tuple[float, float]]()  # how far moved, how far apart
    parts = list[tuple[str, ...]]()
    for content in found.values():
        who = content["title"], content["peer"]
        for task in dict.fromkeys(task for task, *_ in content["lockstep"]):
            networks = [rest for of, *rest in content["lockstep"] if of == task]
            if content["kind"] == "model":
                said = [network for network in networks if network[4] is None]
                parts += [(*who, task, name, f"{size:.2g}", f"{apart:.1e}") for name, size, apart, *_ in said]
            networks = [network for network in networks if network[4] is not None]
            if not networks:
                continue
            name, *far, _ = max(networks, key=lambda network: network[2])
            law = min(1.0, len(networks) * min(p for *_, p in networks))
            distances.append((far[0], far[1]))
            numbers = [*(f"{x:.1e}" for x in far), f"{law:.2f}"]
            updates.append((*who, task, str(content["lockstep_updates"]), name, *numbers))
    if updates or parts:
        yield _LOCKSTEP
    if updates:
        updated = ("method", "beside", "task", "updates", "farthest network", "moved", "apart", "median", "law, p")
        yield from (tabulate(updates, updated, tablefmt="github", disable_numparse=True), "")
        same = sum(apart < _SAME * moved for moved, apart in distances)
        yield _READ.format(same=same, count=len(distances), share=_SAME)
    if parts:
        heads = ("method", "beside", "task", "part", "size", "apart")
        yield from (_PARTS, tabulate(parts, heads, tablefmt="github", disable_numparse=True), "")


def _table(found: Mapping[str, Any], every: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    for line in every:
        if line.update is None:
            content = found[line.comparison]
            yield (content["title"], content["peer"], line.task, line.row.what, *_cells(line.row))


def _cells(row: Row) -> tuple[str, ...]:
    digits = 1 if row.unit == "points" else 2 if row.unit == "correlation" else 3
    sides = [
        f"{_number(mean, digits)} ± {_number(std, digits)} (n = {n})"
        for mean, std, n in ((row.theirs, row.theirs_std, row.theirs_n), (row.ours, row.ours_std, row.ours_n))
    ]
    digits = min(digits, 2)
    sign = "× " if row.unit == "ratio" else ""
    interval = f"[{_number(row.low, digits)}, {_number(row.high, digits)}]"
    p = f"{row.p_equivalent:.3f}" if row.p_equivalent >= 0.001 else "< 0.001" if row.p_equivalent >= 0 else "–"
    return (*sides, f"{sign}{_number(row.difference, digits)} {interval}", p, str(row.deciding or "–"), row.verdict)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if value == value else "–"


def _budgets(found: Mapping[str, Any]) -> Iterator[str]:
    """What each comparison cost, and all of them: a job that several share is counted once."""
    counted: dict[str, float] = {}
    without = 0.0  # the controls
    for content in sorted(found.values(), key=itemgetter("control")):
        budget = content["budget"]
        theirs, ours, judge, lockstep = (
            {
                name: took
                for task in content["about"].get(side, {}).values()
                for name, took in task.get("seconds", {}).items()
            }
            for side in ("theirs", "ours", "judge", "lockstep")
        )
        if not theirs or not ours:
            continue
        minutes = f"{sum(ours.values()) / 60:.0f} min with its evaluations"
        yield (
            f"- {content['title']}: at least {budget['seeds']} seeds, {budget['updates']:,} updates, a checkpoint "
            f"every {budget['every']:,}; one thread each, theirs {sum(theirs.values()) / 60:.0f} min, ours "
            f"{'those above' if ours.keys() <= counted.keys() else minutes}"
        )
        counted |= theirs | ours | judge | lockstep
        without = without if content["control"] else sum(counted.values())
    for what, seconds in (("all but the controls", without), ("all", sum(counted.values()))):
        if seconds:
            hours = seconds / 3600
            yield f"- {what}, with judging: {hours:.1f} core hours, so {hours / 2:.1f} hours on two cores"


def _versions(found: Mapping[str, Any]) -> Iterator[str]:
    peers = {content["peer"]: content["peer_commit"] for content in found.values() if content["peer_commit"]}
    for name, commit in peers.items():
        url = PEERS[name].url if name in PEERS else name
        yield f"- {name}: [{url}](https://github.com/{url}) at `{commit[:12]}`"
    for side in ("ours", "judge", "lockstep", "theirs"):
        tasks = [task for content in found.values() for task in content["about"].get(side, {}).values()]
        runs = [task.get("provenance") or task["facts"] for task in tasks if "provenance" in task or "facts" in task]
        for commit, dirty in sorted({(run["commit"], bool(run["dirty"])) for run in runs if "commit" in run}):
            yield f"- {side}: `{str(commit)[:12]}`{' with changes' if dirty else ''}"
        for text in sorted({json.dumps(run["versions"], sort_keys=True) for run in runs if "versions" in run}):
            yield f"- {side}: {', '.join(f'{name} {version}' for name, version in json.loads(text).items())}"
        for text in sorted(
            {f"{run['cpu']}, {run['cores']} cores; {run['physics']}" for run in runs if "physics" in run}
        ):
            yield f"- {side}: {text}"


def _missing(found: Mapping[str, Any]) -> Iterator[str]:
    for content in found.values():
        if content["not_there"]:
            yield f"- {content['title']} of {content['peer']}: needs {content['not_there']}"
        for name, said in content["failed"].items():
            yield f"- {name} failed:\n\n  ```\n" + "\n".join(f"  {text}" for text in said.splitlines()) + "\n  ```\n"
        if content["waiting"]:
            yield f"- {content['title']}: {len(content['waiting'])} jobs have not run yet"
