"""What the columns of the csv files and the heads of the tables mean: one dictionary of each."""

import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.report.tables import study

__all__ = ["COLUMNS", "TERMS", "defined", "terms", "to_columns"]

_P_HOLM = "p of the change after Holm's correction for all comparisons of the algorithm that count; none of the ceiling"
_VERDICT = "helps, hurts, equivalent (within 5 points) or undecided, by the rule of METRICS.md"
_ERROR = "open-loop error at the last step of the cell's rollouts, median over rollouts, then seeds"
_ACTIONS = "policy: the learning policy's; logged: those of the held-out episode"
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
    "mean": ("score or return", "mean over seeds"),
    "low": ("score or return", "lower end of the 95 % interval over seeds; empty below two seeds"),
    "high": ("score or return", "upper end of the 95 % interval over seeds"),
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
        "mean": (
            "score or return",
            "mean over seeds of the change: score less that of generator none with the same seed",
        ),
        "low": ("score or return", "lower end of the 95 % Student-t interval of the change"),
        "high": ("score or return", "upper end of it"),
        "std": ("score or return", "standard deviation of the change over seeds"),
        "better": ("share", "probability that a run beats a run of generator none, ties count half; no p-value"),
        "p": ("", "of a two-sided paired t-test that the change is 0, uncorrected"),
        "p_holm": ("", _P_HOLM),
        "p_equivalent": ("", "of two one-sided paired t-tests that the change lies within 5 points, after Holm"),
        "seeds_needed": ("seeds", "would show a difference of 5 points with power 80 % and the spread seen here"),
        "verdict": ("", _VERDICT),
    },
    "answer": {
        "change": ("points", "mean over seeds of the change: score less that of generator none with the same seed"),
        "low": ("points", "lower end of the 95 % Student-t interval of the change"),
        "high": ("points", "upper end of it"),
        "seeds": ("seeds", "seeds with a pair"),
        "p_holm": ("", _P_HOLM),
        "verdict": ("", _VERDICT),
        "error": ("deviations", _ERROR),
        "steps": ("steps", "the last step of the generator's own rollouts"),
        "distance": ("action", "root mean square distance of generated actions to the learning policy's"),
        "price": ("runs of none", "seconds of updates, generation and fits, over those of generator none"),
        "signs": ("", "signs of failure, the signatures of the section Diagnostics that show"),
    },
    "ablation": {
        "fields": ("", "the fields that cells of the group differ in, joined by x"),
        "values": ("", "their values"),
        "gain_mean": ("score or return", "mean over seeds of the change against generator none"),
        "gain_low": ("score or return", "lower end of its 95 % interval"),
        "gain_high": ("score or return", "upper end of it"),
        "p_holm": ("", _P_HOLM),
        "verdict": ("", _VERDICT),
        "level_with_best": ("", "highest mean of its group; level with it, within 5 points; or open"),
        "p_level": ("", "of the two one-sided paired t-tests behind it, after Holm's correction for the group"),
        "error": ("deviations", _ERROR),
        "lag": ("action", "how far the last round of the generator moved the actions"),
    },
    "compute": {
        "series": ("", "what the variants have in common that differ in the length of the fits alone; empty: nothing"),
        "actions": ("", _ACTIONS),
        "n": ("fits", "fits of the models, one per seed, with a positive error"),
        "train_flop": ("FLOP", "of fitting all pretrained models of the cell, for one seed"),
        "transition_flop": ("FLOP", "of generating a transition"),
        "error": ("deviations", "open-loop error after so many steps, median over rollouts, geometric mean over fits"),
        "low": ("deviations", "lower end of the 95 % interval over fits, of the mean of logarithms"),
        "high": ("deviations", "upper end of it"),
    },
    "scaling": {
        "series": ("", "as in compute.csv"),
        "actions": ("", _ACTIONS),
        "budgets": ("cells", "lengths of the fits"),
        "fits": ("seeds", "with an error at every budget"),
        "flop_from": ("FLOP", "of training, at the smallest budget"),
        "flop_to": ("FLOP", "of training, at the largest budget"),
        "exponent": ("", "b of error = a FLOP^-b, a line in logarithms through all budgets; mean over fits"),
        "low": ("", "lower end of its 95 % interval over fits"),
        "high": ("", "upper end of it"),
        "last_exponent": ("", "b through the two largest budgets alone"),
        "last_low": ("", "lower end of its 95 % interval over fits"),
        "last_high": ("", "upper end of it"),
        "below": (
            "",
            "whether the error is below the ensemble's at the largest FLOP that both have; empty: none",
        ),
        "crossing": ("FLOP", "of training, from which on it is as at the end; empty: the curves do not cross"),
        "crossing_low": ("FLOP", "lower end of where 95 % of the resamples that agree cross"),
        "crossing_high": ("FLOP", "upper end of it"),
        "share": ("share", "resamples of whole fits with the same order at the end and as well a crossing or none"),
        "common_from": ("FLOP", "least that both have"),
        "common_to": ("FLOP", "largest that both have"),
    },
    "compounding": {
        "actions": ("", _ACTIONS),
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
    "diagnostics": {
        "signature": ("", "a known way for rollouts to go wrong"),
        "number": ("", "what it looks at: a ratio, a share, a correlation or nats"),
        "threshold": ("", "beyond which it shows"),
        "shows": ("", "True: the number is on the wrong side of the threshold"),
    },
    "returns": {},
    "cost": {
        "value": (
            "of the metric",
            "mean over seeds; model_seconds_shared: divided among the cells that use them; price_multiple and "
            "flop_multiple: run_seconds and total_flop over those of generator none",
        )
    },
    "regime": {
        "behaviour": ("score or return", "mean score of the episodes that the data hold"),
        "none": ("score or return", "mean score of generator none"),
        "room": ("score or return", "the interval of a control that changes nothing lies within this"),
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
                ("mean", "score or return", "mean over seeds"),
                ("low", "score or return", "lower end of the 95 % interval"),
                ("high", "score or return", "upper end of the 95 % interval"),
            )
        },
    },
    **study.COLUMNS,
}
COLUMNS["equal_compute"] = COLUMNS["improvements"] | {
    "mean": ("score or return", "mean over seeds of the change: score less that of `against` with the same seed"),
    "better": ("share", "probability that a run beats a run of `against`, ties count half; no p-value"),
    "against": ("", "variant of generator none that is subtracted: the better use of equal FLOP, for a use its base"),
    "flop": ("FLOP", "additions and multiplications of one seed's fits, generation and updates, mean over seeds"),
    "flop_against": ("FLOP", "those of `against`"),
}


def defined(file: str, column: str) -> tuple[str, str]:
    """Unit and meaning of a column of a csv file, named without suffix; empty where there is no definition."""
    return COLUMNS.get(file, {}).get(column) or _SHARED.get(column, ("", ""))


def to_columns(files: Iterable[Path]) -> str:
    """columns.md: a line for every column of these csv files."""
    lines = [
        "# Columns of the csv files",
        "",
        "An empty field is not defined. Scores are D4RL-normalized, or returns where a task has no reference returns.",
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


_CHANGE = "Score less that of generator none with the same seed, algorithm and settings: the mean over seeds."
_VERDICTS = (
    "Helps or hurts: p after Holm below .05 and at least 5 seeds. Equivalent: two one-sided tests say that the change "
    "lies within 5 points. Else the generator and real data only cannot be told apart."
)
_SCORE = "D4RL-normalized: 0 as the random policy, 100 as the expert; undiscounted return where marked (return)."
_LAST_ERROR = (
    "Open-loop error at the last step of the generator's own rollouts, in standard deviations of the data: median over "
    "rollouts, then seeds."
)
_PRICE = "Seconds of updates, generation and fits of models, in runs on real data only."
TERMS: dict[str, str] = {  # by head of a table
    "generator": "Where the synthetic rollouts come from. none: real data only.",
    "task": "Collection and dataset. local/: made by this project's recipes.",
    "algorithm": "Offline RL algorithm that learns from real and synthetic rows.",
    "variant": "The fields in which cells of equal task, generator and algorithm differ.",
    "change": _CHANGE,
    "change against none": _CHANGE,
    "change, 95 % interval": f"{_CHANGE} In brackets its Student-t interval, uncorrected.",
    "verdict": _VERDICTS,
    "p after Holm": "Of a paired t-test, after Holm's correction for all comparisons of the algorithm.",
    "wins": "Share of the pairs with a run on real data only in which a run scores more, ties count half; no test.",
    "error at the last step": _LAST_ERROR,
    "error, last step": _LAST_ERROR,
    "off the policy": "Root mean square distance of generated actions to those of the learning policy.",
    "price": _PRICE,
    "runs of none": _PRICE,
    "signs of failure": "Signatures of known failures that show; see Diagnostics.",
    "level with best": "Highest mean of the values that were varied, or within 5 points of it by two one-sided tests.",
    "lag, last round": "How far actions moved in the last round of the generator's last call.",
    "score": f"{_SCORE} Mean of the last evaluations, then over seeds.",
    "last": f"{_SCORE} Of the last evaluation.",
    "best (oracle selection)": "Score of the best evaluation: it takes the environment to choose it.",
    "behaviour": "Mean score of the episodes that the data hold.",
    "none": "Score of real data only.",
    "none − behaviour": "What real data alone learn more than the mean episode of the data.",
    "duplicate − none": "What copies of real rows change: it must be nothing.",
    "simulator − none": "What perfect rollouts add.",
    "these comparisons": "Whether all three conditions hold, so that scores may judge generators.",
    "what to change": "Advice where a condition does not hold.",
    "mean": "Mean over tasks of the mean over seeds.",
    "median": "Median over tasks of the mean over seeds.",
    "IQM": "Interquartile mean: mean of the middle half of the runs of all tasks.",
    "optimality gap": "Mean shortfall from a score of 100, in parts of 100; lower is better.",
    "seeds": "Seeds with a result.",
    "budgets": "Lengths of the fits of a generator's models.",
    "FLOP of training": "Additions and multiplications of fitting all models of a cell, for one seed.",
    "fits": "Seeds whose models were fitted at every budget.",
    "tasks": "Tasks with reference returns.",
    "cells": "Cells that the row is the mean of.",
    "dataset type": "What collections of offline data call the policies behind them.",
    "error": "Open loop: generated states against the simulator under the same actions. Closed loop: against the "
    "policy's own rollout from the same start. In standard deviations of the data.",
    "starts excluded": "Held-out states that do not determine the simulator's state.",
    "actions": "policy: the learning policy's own; logged: those of the held-out episode.",
    "b": "Exponent of the power law h^b fitted to the error; 1: errors add up.",
    "lambda": "Rate of the exponential exp(lambda h) fitted to the error; above 0 as the better law: errors amplify.",
    "better law": "The law with the smaller residual.",
    "one step": "Error of one step from the generated states, in standard deviations of the data.",
    "leakage": "How far states move when only later actions are replaced; 0 for causal models.",
    "capped": "Share of errors that were cut to the diameter of the data.",
    "alive": "Share of generated rollouts that have not ended before the last step.",
    "alive in the simulator": "The same share of the policy's own rollouts in the simulator.",
    "distance": "Root mean square distance of generated actions to the policy's greedy ones in the same states.",
    "KL": "KL divergence of generated actions to the policy, in nats.",
    "energy": "Excess energy distance of generated actions to the policy's, where it can only be sampled.",
    "lag": "How far the last round of a generator that works in rounds moved the actions.",
    "surprise": "Nats by which generated actions surprise the behaviour policy more than the data's own do.",
    "surprise, on-policy": "The same of what the policy does in the simulator.",
    "nearest": "Distance in state and action to the nearest training row, in multiples of that of unseen rows.",
    "nearest, on-policy": "The same of what the policy does in the simulator.",
    "kNN KL": "KL divergence to the data by nearest neighbours, less that of unseen rows.",
    "kNN KL, on-policy": "The same of what the policy does in the simulator.",
    "steps": "The last step of the generator's own rollouts.",
    "generated": "Sum of rewards that the generator promises.",
    "on-policy": "What the policy earns in the simulator from the same starts in as many steps.",
    "gap": "Generated less on-policy return.",
    "its standard error": "Of the gap of one seed, over its rollouts.",
    "of it reward, by design": "Part of the gap that is the generator's penalty on the reward.",
    "reward": "Generated rewards less those of one simulator step from the same states under the same actions.",
    "dynamics": "Actions paid at generated states, less at replayed ones.",
    "termination": "Steps counted behind a true end, less steps missed behind a false one.",
    "feedback": "Actions replayed in open loop, less the policy acting on the state it is in.",
    "unsplit": "Reward and dynamics together, where the generated state determines none of the simulator.",
    "kept": "True return of the rollouts that the filter keeps.",
    "dropped": "True return of the rollouts that the filter drops.",
    "rank correlation": "Of generated and true return of rollouts.",
    "energy distance": "Between generated and on-policy states at the last step.",
    "its floor": "The same between two halves of the on-policy states.",
    "signature": "Name of a known failure.",
    "number": "What the signature looks at.",
    "what it says": "The signature in a sentence.",
    "run, s": "Seconds of updates, generation and fits of all pretrained models, whichever cell fitted them.",
    "FLOP in all, TFLOP": "10^12 additions and multiplications of one seed's fits, generation and updates.",
    "FLOP of none": "FLOP in all over those of generator none with equal settings.",
    "fit of models, s": "Seconds that all pretrained models of the cell once took, whenever that was.",
    "the same, shared": "Each fit divided by the number of cells of the folder that use it.",
    "updates/s": "Updates of all seeds together, by their own time alone.",
    "generate, s per 1000 rows": "Seconds to generate 1000 transitions, those that were masked included.",
    "network evaluations per row": "Evaluations of networks per generated transition.",
    "against": "What is subtracted: generator none as it was or, for generators, its better use of equal FLOP.",
    "MFLOP per row": "Million additions and multiplications per generated transition.",
    "peak memory, MiB": "Of the device; on a CPU of the process. MiB = 2^20 bytes.",
    "seconds of this cell alone": "With evaluation and metrics, without models that another cell had fitted before.",
    "method": "Generator and algorithm, or a published method.",
    "source": "Who published the score.",
    "rule": "Which evaluations count.",
    **study.TERMS,
}
_PATTERNS = {  # of heads that name a step, a task or a field
    r"b(, last step)?, h = \d+": "Exponent of error = a FLOP^−b of training; last step: of the two largest budgets.",
    r"beside the \w+, h = \d+": "Whose error is lower at the largest FLOP that both have, and from where on.",
    r"h = \d+": "Error at this step of the rollouts.",
    r"seeds for \d+ points": "Seeds that would show such a difference with power 80 % and the spread seen here.",
    r"change, .*": TERMS["change"],
    r"validation, .*": "Error on rows that the model has not learned from, above the lowest of the row.",
    r"[\w.]+ \(.\)|\w+[._][\w.]+": "A field that was varied, with the papers' symbol for it.",
    r"(\w+(-\w+)+|\w+/[\w/-]+)‡?( \(return\))?( · .*)?": TERMS["score"],
}


def terms(heads: Iterable[str]) -> dict[str, str]:
    """What these heads of tables mean, in alphabetical order; without those that are not known."""
    found = {}
    for head in sorted(set(heads), key=str.lower):
        meaning = TERMS.get(head) or next((x for form, x in _PATTERNS.items() if re.fullmatch(form, head)), None)
        if meaning:
            found[head] = meaning
    return found
