"""What the columns of the csv files and the heads of the tables mean: one dictionary of each."""

from collections.abc import Iterable
from pathlib import Path

__all__ = ["COLUMNS", "TERMS", "defined", "to_columns"]

_SHARED = {  # column: unit and meaning, in every file
    "task": ("", "task: collection/dataset"),
    "generator": ("", "where synthetic rollouts come from; none: real data only"),
    "algorithm": ("", "offline RL algorithm"),
    "variant": ("", "what tells cells of equal task, generator and algorithm apart; default: nothing"),
    "seed": ("", "seed of the run; empty: a failure before any seed was known"),
    "step": ("updates", "updates of the algorithm before the evaluation; of a diverged seed, when it was noticed"),
    "horizon": ("steps", "steps since the rollout's start; of generate/residual rounds; empty: no curve"),
    "metric": ("", "name of the record; METRICS.md has its meaning and unit"),
    "value": ("of the metric", "value of the record"),
    "unit": ("", "unit of the scores: score (D4RL-normalized) or return (the task has no reference returns)"),
    "n": ("seeds", "seeds with a result"),
    "mean": ("unit", "mean over seeds"),
    "low": ("unit", "lower end of the 95 % interval over seeds; empty below two seeds"),
    "high": ("unit", "upper end of the 95 % interval over seeds"),
}
COLUMNS: dict[str, dict[str, tuple[str, str]]] = {  # by csv file, without suffix: what is not shared, or otherwise
    "scores": {
        "return": ("reward", "mean undiscounted return of the evaluation's episodes"),
        "normalized_score": ("score", "the return, 0 and 100 at D4RL's reference returns; empty: the task has none"),
        "status": (
            "",
            "ok: an evaluation; diverged: training stopped being finite at this step, later evaluations count as 0; "
            "failed: the run stopped with an error; missing: planned, not run",
        ),
    },
    "aggregate": {
        "metric": ("", "mean, median, iqm (interquartile mean) or optimality_gap (mean shortfall from 100, over 100)"),
        "value": ("score", "over all tasks with reference returns and the seeds that all of them have"),
        "low": ("score", "lower end of the 95 % interval over seeds, tasks fixed"),
        "high": ("score", "upper end of it"),
        "n_seeds": ("seeds", "seeds per task"),
        "n_tasks": ("tasks", "tasks with reference returns"),
        "interval": ("", "method of the interval: t or bootstrap"),
    },
    "improvements": {
        "mean": ("unit", "mean over seeds of the change: score less that of generator none with the same seed"),
        "low": ("unit", "lower end of the 95 % Student-t interval of the change"),
        "high": ("unit", "upper end of it"),
        "std": ("unit", "standard deviation of the change over seeds"),
        "better": ("share", "probability that a run beats a run of generator none, ties count half; no p-value"),
        "p": ("", "of a two-sided paired t-test that the change is 0, uncorrected"),
        "p_holm": ("", "p after Holm's correction for all comparisons of the algorithm; empty for the ceiling"),
        "p_equivalent": ("", "of two one-sided paired t-tests that the change lies within 5 points, after Holm"),
        "seeds_needed": ("seeds", "would show a difference of 5 points with power 80 % and the spread seen here"),
        "verdict": ("", "helps, hurts, equivalent (within 5 points) or undecided, by the rule of METRICS.md"),
    },
    "ablation": {
        "fields": ("", "the fields that cells of the group differ in, joined by x"),
        "values": ("", "their values"),
        "gain_mean": ("unit", "mean over seeds of the change against generator none"),
        "gain_low": ("unit", "lower end of its 95 % interval"),
        "gain_high": ("unit", "upper end of it"),
        "error": ("deviations", "open-loop error at the last step of the cell's rollouts, median over rollouts, seeds"),
        "lag": ("action", "how far the last round of the generator moved the actions"),
        "robust": ("", "True: not worse than the best of its group by more than chance"),
        "failure": ("", "True: worse than generator none by more than chance"),
    },
    "compounding": {
        "actions": ("", "policy: the learning policy's; logged: those of the held-out episode"),
        "median": ("deviations", "open-loop error, median over rollouts"),
        "mean": ("deviations", "open-loop error, mean over rollouts"),
        "q10": ("deviations", "open-loop error, lowest tenth of the rollouts"),
        "q90": ("deviations", "open-loop error, highest tenth of the rollouts"),
        "closed": ("deviations", "closed-loop error, against the policy's own rollout from the same start, median"),
        "closed_floor": ("deviations", "the same between two rollouts of the policy"),
        "local": ("deviations", "error of one step from the generated state, median"),
        "floor": ("deviations", "recorded actions replayed against recorded states: no model can do better"),
        "chaos": ("deviations", "simulator against simulator, started one float32 step away"),
        "still": ("deviations", "error of the prediction that nothing moves"),
        "alive": ("share", "generated rollouts that have not ended before this step"),
        "alive_on_policy": ("share", "the policy's own rollouts in the simulator that have not ended before this step"),
        "capped": ("share", "errors cut to the diameter of the data"),
    },
    "consistency": {},
    "returns": {},
    "cost": {
        "value": ("of the metric", "mean over seeds; model_seconds_shared: divided among the cells that use them")
    },
    "regime": {
        "behaviour": ("unit", "mean score of the episodes that the data hold"),
        "none": ("unit", "mean score of generator none"),
        "room": ("unit", "the interval of a control that changes nothing lies within this"),
        "verdict": ("", "the weakest of the three conditions: holds, not shown or fails"),
        "learns": ("", "verdict on none - behaviour: real data alone learn more than the data's mean episode"),
        "control": ("", "verdict on duplicate - none: copies of real rows change nothing"),
        "ceiling": ("", "verdict on simulator - none: perfect rollouts help"),
        **{
            f"{name}_{number}": (unit, f"{meaning} of {difference}")
            for name, difference in (
                ("learns", "none - behaviour"),
                ("control", "duplicate - none"),
                ("ceiling", "simulator - none"),
            )
            for number, unit, meaning in (
                ("n", "seeds", "seeds"),
                ("mean", "unit", "mean over seeds"),
                ("low", "unit", "lower end of the 95 % interval"),
                ("high", "unit", "upper end of the 95 % interval"),
            )
        },
    },
}


def defined(file: str, column: str) -> tuple[str, str]:
    """Unit and meaning of a column of a csv file, named without suffix."""
    own = COLUMNS[file]
    return own[column] if column in own else _SHARED[column]


def to_columns(files: Iterable[Path]) -> str:
    """columns.md: a line for every column of these csv files."""
    lines = [
        "# Columns of the csv files",
        "",
        "One row per line of a file; empty: not defined. unit as unit: what the column of that name says.",
        "",
        "|file|column|unit|meaning|",
        "|---|---|---|---|",
    ]
    for path in files:
        with path.open(encoding="utf-8") as file:
            columns = file.readline().rstrip("\n").split(",")
        for column in columns:
            unit, meaning = defined(path.stem, column)
            lines.append(f"|{path.name}|{column}|{unit}|{meaning}|")
    return "\n".join([*lines, ""])


TERMS: dict[str, str] = {}
