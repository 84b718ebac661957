"""From evaluations to the numbers of a table: one final score per seed, then intervals over seeds."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import pandas as pd
import torch
from pydantic import AliasPath, BaseModel, Field, PositiveInt, ValidationError

from benchmarks.report.results import LABELS, CellView, Results, once, unfitted
from metrics.intervals import t_interval
from metrics.score import normalized_score
from metrics.statistics import holm, paired_t_test, probability_of_improvement

__all__ = [
    "DIVERGENCE",
    "FEW_SEEDS",
    "LEVEL",
    "adjusted",
    "behaviours",
    "compared",
    "comparisons",
    "estimates",
    "evaluations",
    "finals",
    "paired",
    "paired_with",
    "partners",
    "rule",
    "scores_by_step",
    "undefined",
]

FEW_SEEDS = 5  # below, a cell is marked and never bold
LEVEL = 0.05  # chance of calling any of the comparisons of an algorithm different when none is
WINDOW = 10
DIVERGENCE = (
    "diverged: training stopped being finite; from there on every evaluation of that seed counts as 0, the score of "
    "the uniformly random policy. Where a task has no reference returns, such a seed has no score."
)


def evaluations(results: Results) -> pd.DataFrame:
    """scores.csv: one row per evaluation of every seed, and one row per seed that diverged, failed or is missing."""
    rows = results.metric("return", "normalized_score").assign(status="ok")
    absent = [
        {**cell.labels, "seed": seed, "step": step, "status": "diverged"}
        for cell in results.cells
        for seed, (step, _) in cell.diverged.items()
    ] + [
        {**cell.labels, "seed": seed, "status": status}
        for cell in results.cells
        for status, seeds in (("failed", _or_unknown(cell.failed, cell.error)), ("missing", cell.missing))
        for seed in seeds
    ]
    columns = ["task", "generator", "algorithm", "variant", "seed", "step", "return", "normalized_score", "status"]
    table = pd.concat([rows, pd.DataFrame(absent, columns=columns)]) if absent else rows
    return table[columns].astype({"seed": "Int64", "step": "Int64"}).sort_values(columns[:6], ignore_index=True)


@once
def rule(results: Results) -> str:
    """What the score of a seed is, in a sentence: at which updates, if all cells are evaluated at the same ones."""
    settings = [cell.spec["settings"] for cell in results.cells]
    budgets = {(tuple(_evaluated(own)), own["episodes"]) for own in settings}
    if len(budgets) != 1:
        half = f"over the last half of them where there are fewer than {WINDOW}"
        return f"Score of a seed: mean over its last {WINDOW} evaluations; {half}."
    ((steps, episodes),) = budgets
    counted = [f"{step:,}" for step in steps[-_window(len(steps)) :]]
    each = f"{episodes} episode{'s' * (episodes > 1)}"
    if len(counted) == 1:
        return f"Score of a seed: its evaluation at {counted[0]} updates, {each}."
    if len(counted) == 2:
        return f"Score of a seed: mean of the evaluations at {counted[0]} and {counted[1]} updates, {each} each."
    span = f"at {counted[0]} to {counted[-1]} updates"
    return f"Score of a seed: mean of the last {len(counted)} evaluations, {span}, {each} each."


@once
def scores_by_step(results: Results) -> pd.DataFrame:
    """Every evaluation as `score` in `unit`: normalized if the task has reference returns, else the return.

    Evaluations that a diverged seed would have had are there, too: 0 or, without reference returns, NaN.
    """
    rows = results.metric("return", "normalized_score")
    lost = [
        {"cell_id": cell.cell_id, **cell.labels, "seed": seed, "step": step}
        for cell in results.cells
        for seed, (noticed, _) in cell.diverged.items()
        for step in _evaluated(cell.spec["settings"])
        if step >= noticed
    ]
    if lost:
        rows = pd.concat([rows, pd.DataFrame(lost).assign(normalized_score=0.0)], ignore_index=True)
    scored = rows["task"].isin(results.scored_tasks)
    score = rows["normalized_score"].where(scored, rows["return"])
    unit = scored.map({True: "score", False: "return"})
    return rows.assign(score=score, unit=unit).sort_values("step")


@once
def finals(results: Results) -> pd.DataFrame:
    """One row per finished seed: `final` by the rule, `last`, `best`, and `unit` (score or return).

    NaN where an evaluation that counts is not defined: such a seed has no score.
    """
    rows = scores_by_step(results)
    by_seed = rows.groupby(["cell_id", *LABELS, "unit", "seed"])["score"]
    return by_seed.agg(final=_final, last=lambda x: x.iloc[-1], best="max").reset_index()


def estimates(frame: pd.DataFrame, column: str = "final") -> pd.DataFrame:
    """Per cell: n seeds, and the mean of `column` with its Student-t interval (NaN below two seeds)."""
    rows = {}
    for cell_id, values in frame.groupby("cell_id")[column]:
        x = torch.tensor(values.dropna().to_numpy(), dtype=torch.float64)
        low, high = t_interval(x)
        rows[cell_id] = (len(x), x.mean().item(), low.item(), high.item())
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["n", "mean", "low", "high"])
    return table.astype({"n": "int64", "mean": "float64", "low": "float64", "high": "float64"})  # of no rows, too


@once
def comparisons(results: Results) -> pd.DataFrame:
    """Each cell's score minus that of generator `none`, seed by seed; indexed by cell. `verdict` judges them.

    The partner is the cell of equal task, algorithm and settings; cells without one are left out.
    """
    return compared(paired(results))


def compared(pairs: pd.DataFrame) -> pd.DataFrame:
    """Gains of `paired_with` by cell.

    n, mean, low, high: `estimates` of the gain. std: of the gains, over seeds. better: probability that a run beats a
    run of generator `none`, ties count half. p: two-sided paired t-test. NaN where fewer than two pairs are left.
    """
    rows = {}
    for cell_id, group in pairs.groupby("cell_id"):
        ours, none, gain = (
            torch.tensor(group[column].to_numpy(), dtype=torch.float64) for column in ("final", "final_none", "gain")
        )
        std = gain.std().item() if len(gain) > 1 else math.nan
        better = probability_of_improvement(ours[:, None], none[:, None]).item()
        rows[cell_id] = [*group[[*LABELS, "unit"]].iloc[0], std, better, paired_t_test(gain).item()]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*LABELS, "unit", "std", "better", "p"])
    table = table.join(estimates(pairs, "gain"))
    return table[[*LABELS, "unit", "n", "mean", "low", "high", "std", "better", "p"]]


def adjusted(p: pd.Series, family: pd.Series) -> pd.Series:
    """p by cell after Holm's correction within each family; NaN stays, and counts for no correction."""
    found = p.copy()
    for _, own in p.dropna().groupby(family):
        found.loc[own.index] = holm(torch.tensor(own.to_numpy(), dtype=torch.float64)).numpy()
    return found


@once
def paired(results: Results) -> pd.DataFrame:
    """Finished seeds whose cell's partner has finished the same seed: `final_none` and `gain` beside `final`.

    Without cells whose batches are all real: they train the same policy as `none`.
    """
    trained = {cell.cell_id for cell in results.cells if cell.mixes}
    return paired_with(results, {cell: none for cell, none in partners(results).items() if cell in trained})


def paired_with(results: Results, partner: Mapping[str, str]) -> pd.DataFrame:
    """`paired` with any other cell: `partner` by cell."""
    final = finals(results)
    pairs = final.assign(partner=final["cell_id"].map(partner).astype("object")).merge(
        final[["cell_id", "seed", "final"]],
        left_on=["partner", "seed"],
        right_on=["cell_id", "seed"],
        suffixes=("", "_none"),
    )
    return pairs.assign(gain=pairs["final"] - pairs["final_none"]).dropna(subset="gain")


def partners(results: Results) -> dict[str, str]:
    """By cell, the cell of generator `none` with equal task, algorithm and settings; without cells that have none.

    `none` fits no models: where it did not run with the cell's `shared_models`, that with the other value is its own.
    """

    def contexts(cell: CellView) -> list[str]:
        parts, settings = [cell.spec["task"], cell.spec["algorithm"]], cell.spec["settings"]
        return [repr([*parts, own]) for own in (settings, unfitted(settings))]

    none = {key: cell.cell_id for cell in results.cells if cell.generator == "none" for key in contexts(cell)}
    others = {cell.cell_id: contexts(cell) for cell in results.cells if cell.generator != "none"}
    found = {cell_id: next((none[key] for key in keys if key in none), None) for cell_id, keys in others.items()}
    return {cell_id: partner for cell_id, partner in found.items() if partner is not None}


@once
def behaviours(results: Results) -> dict[str, float]:
    """By cell, the mean score of the episodes its data hold, in the unit of `finals`; only where its runs tell.

    That is `return_mean` on the card of the data, normalised. Where episodes are pieces of one stream (in maze2d the
    way to one of the navigator's goals: so many that timed out cannot each have lasted the horizon), it is what as
    many steps of the stream as an evaluation has earn. Data collected in another environment, or under another time
    limit, than policies are scored in have no such score: their returns are returns of another task.
    """
    found = {}
    for cell in results.cells:
        for run in cell.runs:
            with suppress(ValidationError):  # a run of an older version, or that failed before it knew its data
                found[cell.cell_id] = _Data.model_validate(run).score(cell.task in results.scored_tasks)
    return {cell_id: score for cell_id, score in found.items() if math.isfinite(score)}


class _Data(BaseModel):
    """What a finished run says of its data."""

    mean: float = Field(validation_alias=AliasPath("dataset", "return_mean"))
    episodes: int = Field(validation_alias=AliasPath("dataset", "episodes"))
    timeouts: int = Field(validation_alias=AliasPath("dataset", "timeouts"))
    rows: PositiveInt = Field(validation_alias=AliasPath("dataset", "rows"))
    horizon: PositiveInt
    score_range: tuple[float, float] | None
    collected_in: Any = Field(None, validation_alias=AliasPath("dataset", "collected_in"))  # if not where scored

    def score(self, normalised: bool) -> float:
        """Of the mean return; NaN where the data are not of the scored environment, or no range is known but needed."""
        if self.collected_in is not None:
            return math.nan
        whole = self.timeouts * self.horizon <= self.rows
        earned = self.mean if whole else self.mean * self.episodes / self.rows * self.horizon
        if not normalised:
            return earned
        mean = torch.tensor(earned, dtype=torch.float64)
        return normalized_score(mean, self.score_range).item() if self.score_range else math.nan


def undefined(results: Results) -> list[str]:
    """A line for every seed that finished without a score, because an evaluation that counts is not defined."""
    without = finals(results).query("final.isna()")
    cells = {cell.cell_id: cell for cell in results.cells}
    return [
        f"undefined: {cells[cell_id].name}, seed {seed}: no score, an evaluation that counts has no return"
        for cell_id, seed in zip(without["cell_id"].tolist(), without["seed"].tolist(), strict=True)
        if seed not in cells[cell_id].diverged
    ]


def _evaluated(settings: Mapping[str, Any]) -> list[int]:
    """The updates after which a run evaluates."""
    updates = settings["updates"]
    every = settings["evaluate_every"]
    return [*range(every, updates, every), updates]


def _final(scores: pd.Series) -> float:
    """By the `rule`."""
    return float(scores.tail(_window(len(scores))).mean(skipna=False))


def _window(evaluations: int) -> int:
    """How many of them count."""
    return WINDOW if evaluations >= WINDOW else max(1, evaluations // 2)


def _or_unknown(seeds: Iterable[int], error: str | None) -> list[int | None]:
    return list(seeds) or ([None] if error is not None else [])
