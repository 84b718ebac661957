"""What the columns and heads of the study's csv files and tables mean; `columns` puts them beside the others."""

from collections.abc import Mapping

__all__ = ["COLUMNS", "TERMS"]

_CHANGE = {
    "change": ("points", "mean over seeds of the score less that of generator none"),
    "low": ("points", "lower end of its 95 % interval"),
    "high": ("points", "upper end of it"),
}
_DATA = ("", "task, and rows to learn from of those that the set has")
_REGIME = ("", "whether comparisons in its regime may judge generators: holds, fails or not shown")
_PER_STEP = "per step, in units of the task's mean on-policy return of a step"
COLUMNS: Mapping[str, dict[str, tuple[str, str]]] = {
    "decomposition": {
        "term": (
            "",
            "change: generator - none; room: simulator - none; errors: generator - simulator; mixing: duplicate - "
            "none; coupling: behaviour terms on all rows - on real rows only",
        ),
        "regime": _REGIME,
        "mean": ("score or return", "mean over seeds of the difference, paired by seed"),
        "low": ("score or return", "lower end of its 95 % Student-t interval"),
        "high": ("score or return", "upper end of it"),
        "p_holm": ("", "of a paired t-test, after Holm over the same term and algorithm; of controls not corrected"),
        "p_equivalent": ("", "of two one-sided paired t-tests that it lies within 5 points, in the same way"),
        "verdict": ("", "helps, hurts, equivalent (within 5 points) or undecided"),
    },
    "predictors": {
        "quantity": ("", "a column of study.csv"),
        "kind": ("", "all: over all cells; within: inside every regime, mean over data sets"),
        "correlation": ("", "Spearman's rank correlation of the quantity with the change in score"),
        "low": ("", "lower end of its 95 % interval over data sets; empty below five of them"),
        "high": ("", "upper end of it"),
        "cells": ("cells", "with the quantity"),
        "clusters": ("data sets", "that they are of"),
    },
    "study": {
        **_CHANGE,
        "data": _DATA,
        "regime": ("", "the cell of generator none that it is compared with"),
        "verdict": ("", "helps, hurts, equivalent (within 5 points) or undecided"),
        "error, h = 1": ("deviations", "open-loop error after one step, median over rollouts, then seeds"),
        "error, h = 10": ("deviations", "the same after ten steps"),
        "error, last step": ("deviations", "the same after the last step of the cell's rollouts"),
        "error, logged actions": ("deviations", "the same under the actions of held-out episodes"),
        "error against nothing moving": ("ratio", "last step's error over that of the prediction that nothing moves"),
        "distance to the policy's states": ("ratio", "sliced Wasserstein distance over that of two on-policy halves"),
        "distance to the policy's actions": ("action", "root mean square distance to the policy's greedy actions"),
        "KL to the policy": ("nats", "of generated actions"),
        "distance to the data": ("ratio", "to the nearest training row, over that of unseen rows of the data"),
        "kNN KL to the data": ("nats", "by nearest neighbours, less that of unseen rows"),
        "surprise to the behaviour": ("nats", "of generated actions, less that of the data's own"),
        "return gap": ("", f"size of generated less on-policy return, {_PER_STEP}"),
        **{f"gap by {part}": ("", f"size of its part by {part}, {_PER_STEP}") for part in (
            "reward", "dynamics", "termination", "feedback",
        )},
        "wrong ends": ("share", "difference of the shares of rollouts alive at the last step, generated and true"),
        "filter's rank correlation": ("", "of generated and true return of rollouts"),
        "value ratio": ("ratio", "size of the critic's values of generated actions over those of recorded ones"),
    },
    "harm": {
        "signature": ("", "a known way for rollouts to go wrong"),
        "rule": ("", "thumb: the usual threshold; fitted: on the first half of the data sets, judged on the other"),
        "threshold": ("", "beyond which the sign shows; empty: none is better than chance on the first half"),
        "cells": ("cells", "in which the signature is defined"),
        "shown": ("cells", "in which it shows"),
        "harmed": ("cells", "whose change has a 95 % interval below 0"),
        "both": ("cells", "in which it shows and that were harmed"),
        "precision": ("share", "of the shown that were harmed"),
        "precision_low": ("share", "lower end of Wilson's 95 % interval"),
        "precision_high": ("share", "upper end of it"),
        "recall": ("share", "of the harmed in which it shows"),
        "recall_low": ("share", "lower end of Wilson's 95 % interval"),
        "recall_high": ("share", "upper end of it"),
        "youden": ("", "recall less the share of the others in which it shows"),
    },
    "levels": {
        **_CHANGE,
        "environment": ("", "the task without its level"),
        "level": ("", "what the behaviour policies are: random, medium-replay, medium, medium-expert or expert"),
        "data": _DATA,
        "nearest": ("ratio", "distance of generated rows to the nearest training row, over that of unseen rows"),
        "surprise": ("nats", "by which generated actions surprise the behaviour more than the data's own do"),
        "knn_kl": ("nats", "KL to the data by nearest neighbours, less that of unseen rows"),
        "regime": _REGIME,
    },
    "distances": {
        "distance": ("", "a column of levels.csv"),
        "regimes": ("", "all, or only those that hold"),
        "kind": ("", "all: over all cells; levels: of each method along its levels, mean over environments"),
        "correlation": ("", "Spearman's rank correlation of the distance with the change in score"),
        "low": ("", "lower end of its 95 % interval over data sets or environments; empty below five of them"),
        "high": ("", "upper end of it"),
        "cells": ("cells", "with the distance"),
        "clusters": ("", "data sets, or environments, that they are of"),
    },
    "bought": {
        **_CHANGE,
        "coupling": ("", "the settings of the coupling in which cells of the folder differ"),
        "regimes": ("regimes", "that hold, over which the row is a mean"),
        "change": ("points", "mean over regimes of the score less that of generator none"),
        "seconds": ("runs of none", "median over the cells of seconds of updates, generation and fits"),
        "seconds_low": ("runs of none", "the least of the cells"),
        "seconds_high": ("runs of none", "the largest of the cells"),
        "flop": ("runs of none", "median over the cells of FLOP of updates, generation and fits"),
        "flop_low": ("runs of none", "the least of the cells"),
        "flop_high": ("runs of none", "the largest of the cells"),
    },
    "converged": {
        "data": _DATA,
        "model": ("", "kind of the pretrained model"),
        "fits": ("fits", "of the cell's seeds"),
        "validation": ("of the model's loss", "error on rows that the model has not learned from, mean over fits"),
        "excess": ("share", "by which it lies above the lowest of equal data, generator and kind"),
    },
    "fits": {
        f"{name}_{number}": (unit, f"{meaning} of the change against generator none, {of}")
        for name, of in (("shared", "all seeds sharing one fit"), ("own", "every seed with a fit of its own"))
        for number, unit, meaning in (
            ("n", "seeds", "seeds"), ("mean", "score or return", "mean"), ("std", "score or return", "deviation"),
        )
    },
}  # fmt: skip
TERMS: Mapping[str, str] = {
    "coupling": "How synthetic rows meet the algorithm; as a term: what behaviour terms on synthetic rows change.",
    "regimes": "Tasks with their rows in which comparisons may judge generators.",
    "room": "simulator − none: what perfect rollouts give.",
    "errors": "generator − simulator: what a generator's rollouts cost beside perfect ones.",
    "mixing": "duplicate − none: what copies of real rows do.",
    "verdicts on errors": "Of the regimes' cells, by the page's rule.",
    "term": "Which cell is subtracted from which.",
    "regime": "Whether comparisons in it may judge generators.",
    "difference, 95 % interval": "Mean over seeds, paired by seed, with its Student-t interval, uncorrected.",
    "quantity": "What was measured of a cell's rollouts.",
    "all cells: correlation": "Spearman's rank correlation with the change in score, over all cells.",
    "within a regime: correlation": "The same between generators of one regime, mean over data sets.",
    "data sets": "Tasks with their rows.",
    "threshold": "Which threshold of the signature is judged.",
    "at": "The threshold.",
    "shows": "Cells in which the signature shows.",
    "harmed": "Cells whose change has a 95 % interval below 0.",
    "both": "Cells in which it shows and that were harmed.",
    "precision": "Share of the cells in which it shows that were harmed.",
    "recall": "Share of the harmed cells in which it shows.",
    "distance to the data": "How the distance of generated rows to the data is measured.",
    "over all cells": "Spearman's rank correlation with the change in score, over every task and method.",
    "over levels": "The same along the levels of one method and environment, mean over environments.",
    "data": "Task, and rows to learn from of those that the set has.",
    "model": "Kind of the pretrained model.",
    "converged": "Variants whose error lies within 5 % of the lowest of the row.",
    "deviation, shared fit": "Standard deviation over seeds of the change, where seeds share one fit of every model.",
    "deviation, own fits": "The same where every seed has fits of its own.",
    "variance ratio": "Variance with own fits over that with a shared one.",
    "difference": "Mean change with own fits less that with the shared one.",
    "Youden": "Recall less the share of the unharmed in which it shows: 1 is perfect, 0 says nothing.",
}
