"""Every metric that a cell can record: name, meaning, unit, which direction is better. `list` and METRICS.md show it.

`python -m metrics.catalogue` writes the tables of METRICS.md again; the text around them is written by hand.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["CATALOGUE", "METRICS", "PAGE", "Metric", "updated"]

PAGE = Path(__file__).with_name("METRICS.md")
_HEADER = "| record | by | unit | better | meaning |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Metric:
    """One line of the catalogue.

    In a name, <x> stands for any word (METRICS.md says which), {a,b} for one of these.
    """

    name: str
    unit: str
    better: Literal["higher", "lower", "zero", ""]  # empty: neither
    meaning: str  # one sentence
    by: Literal["step", "round", "rank", ""] = ""  # what the record's `horizon` counts; empty: not a curve
    source: str = ""


CATALOGUE: dict[str, tuple[Metric, ...]] = {  # by heading of METRICS.md
    "Score": (
        Metric("return", "reward", "higher", "mean undiscounted return of the greedy policy over the episodes"),
        Metric(
            "normalized_score", "points", "higher", source="Fu et al. 2020, arXiv:2004.07219",
            meaning="100 (R - R_min) / (R_max - R_min) with D4RL's reference returns",
        ),
    ),
    "Compounding error": (
        Metric(
            "compounding/<actions>/median", "deviations", "lower", by="step",
            meaning="open loop: generated states against the simulator under the same actions from the same start",
        ),
        Metric(
            "compounding/<actions>/{mean,q10,q90}", "deviations", "lower", by="step",
            meaning="the same, as mean and tenths over the rollouts that have not ended",
        ),
        Metric(
            "compounding/policy/closed", "deviations", "lower", by="step",
            meaning="closed loop: generated states against the policy's own rollout in the simulator from the same "
            "start, median; differs from open loop, because a policy corrects",
        ),
        Metric(
            "compounding/policy/closed_floor", "deviations", "", by="step",
            meaning="the same between two rollouts of the policy with random numbers of their own: where a perfect "
            "generator is; 0 if nothing is random",
        ),
        Metric(
            "compounding/<actions>/local", "deviations", "lower", by="step",
            meaning="one-step error: s_h against one simulator step from the generated s_(h-1) under a_(h-1), median",
        ),
        Metric(
            "compounding/<actions>/floor", "deviations", "", by="step",
            meaning="recorded actions replayed against recorded states: what a perfect model cannot beat (noise, lost "
            "digits)",
        ),
        Metric(
            "compounding/<actions>/chaos", "deviations", "", by="step",
            meaning="simulator against simulator, started one float32 step away: errors below it are rounding",
        ),
        Metric(
            "compounding/<actions>/still", "deviations", "", by="step",
            meaning="error of the prediction that nothing moves: a generator that does not beat it has learned nothing",
        ),
        Metric(
            "compounding/<actions>/alive", "share", "", by="step",
            meaning="generated rollouts that have not ended before this step, of those that are followed until then",
        ),
        Metric(
            "compounding/policy/alive_on_policy", "share", "", by="step",
            meaning="the same share of the policy's own rollouts in the simulator",
        ),
        Metric(
            "compounding/<actions>/capped", "share", "lower", by="step",
            meaning="errors that were cut to the diameter of the data",
        ),
        Metric(
            "compounding/<actions>/not_finite", "share", "lower",
            meaning="generated steps that were cut off as not finite, as they are before training",
        ),
        Metric(
            "compounding/leakage", "deviations", "lower",
            meaning="how far states move when only later actions are replaced; 0 for causal models",
        ),
        Metric(
            "compounding/starts_excluded", "share", "lower",
            meaning="held-out states that do not determine the simulator's state, so that no rollout starts there",
        ),
    ),
    "Policy consistency": (
        Metric(
            "consistency/distance", "action", "lower",
            meaning="root mean square difference between generated actions and the policy's greedy ones in the same "
            "states",
        ),
        Metric(
            "consistency/kl", "nats", "zero",
            meaning="KL divergence between the two: smoothed for deterministic policies, excess cross-entropy for "
            "squashed or clipped Gaussian ones",
        ),
        Metric(
            "consistency/energy", "action", "zero", source="Szekely & Rizzo 2013",
            meaning="excess energy distance between the two, for policies that can only be sampled",
        ),
    ),
    "Distance to the data": (
        Metric(
            "behaviour/excess/<rows>", "nats", "zero",
            meaning="by how much the actions surprise the behaviour policy more than those of unseen rows of the data "
            "do",
        ),
        Metric(
            "behaviour/nearest/<rows>", "deviations", "lower",
            meaning="median distance in state and action to the nearest of 10 000 training rows",
        ),
        Metric(
            "behaviour/knn_kl/<rows>", "nats", "lower", source="Wang, Kulkarni & Verdu 2009",
            meaning="KL divergence between these rows and the training rows by 5th-nearest neighbours",
        ),
    ),
    "Return gap": (
        Metric("returns/generated", "reward", "", "return that the generator promises for h steps", by="step"),
        Metric(
            "returns/replayed", "reward", "", by="step",
            meaning="return that the simulator pays for the same actions, until either of the two rollouts ends",
        ),
        Metric("returns/on_policy", "reward", "", "return of the policy in the simulator", by="step"),
        Metric("returns/gap", "reward", "zero", "generated less on-policy return: the sum of its parts", by="step"),
        Metric(
            "returns/gap_error", "reward", "", by="step",
            meaning="standard error of the gap over the rollouts: a perfect generator is within two of 0",
        ),
        Metric(
            "returns/reward", "reward", "zero", by="step",
            meaning="generated rewards less those of one simulator step from the same states under the same actions; "
            "0: the reward model is right",
        ),
        Metric(
            "returns/dynamics", "reward", "zero", by="step",
            meaning="what actions are paid at generated states less what they are paid at the states they really lead "
            "to; 0: states are right",
        ),
        Metric(
            "returns/termination", "reward", "zero", by="step",
            meaning="what is paid after the true end less what a false end makes one miss; 0: ends are right",
        ),
        Metric(
            "returns/feedback", "reward", "zero", by="step",
            meaning="generated actions replayed in open loop less the policy that sees where it is; 0: the path is "
            "right, or the policy does not care",
        ),
        Metric(
            "returns/unsplit", "reward", "zero", by="step",
            meaning="`reward` and `dynamics` together, where the generated state determines none of the simulator",
        ),
        Metric("returns/used", "share", "higher", "rollouts whose rewards the simulator knows"),
        Metric(
            "filter/{generated,true}_{kept,dropped}", "reward", "",
            meaning="generated and true return of the rollouts that the generator's filter keeps and drops",
        ),
        Metric("filter/rank_correlation", "", "higher", "Spearman's correlation between generated and true return"),
    ),
    "Distance of distributions": (
        Metric(
            "distance/energy", "deviations", "lower", by="step", source="Szekely & Rizzo 2013",
            meaning="2 E norm(x - y) - E norm(x - x') - E norm(y - y') between generated and on-policy states, "
            "unbiased",
        ),
        Metric(
            "distance/wasserstein", "deviations", "lower", by="step", source="Bonneel et al. 2015",
            meaning="sliced 2-Wasserstein distance between the same: root mean square over 8 O random directions",
        ),
        Metric(
            "distance/{energy,wasserstein}_floor", "deviations", "", by="step",
            meaning="the same between two halves of the on-policy rollouts: finite sets of equal distributions are not "
            "at 0",
        ),
    ),
    "Bounds": (
        Metric("bound/gap", "reward", "lower", "size of the return gap without the reward model's part", by="step"),
        Metric("bound/gap_error", "reward", "", "standard error of it over the rollouts", by="step"),
        Metric(
            "bound/autoregressive", "reward", "", by="step",
            meaning="bound on it from errors of one step that grow by the factor `bound/amplification` per step",
        ),
        Metric(
            "bound/non_autoregressive", "reward", "", by="step",
            meaning="bound on it from the closed-loop distance of the states at each step itself",
        ),
        Metric(
            "bound/trivial", "reward", "", by="step",
            meaning="bound on it if all steps but the first are as wrong as can be",
        ),
        Metric(
            "bound/amplification", "per step", "",
            meaning="mean growth of the distance between two on-policy rollouts from starts 1e-4 apart",
        ),
        Metric(
            "bound/steepness", "reward per deviation", "",
            meaning="largest measured slope of the reward of a policy step in the state, under the same random numbers",
        ),
    ),
    "Values": (
        Metric(
            "values/ratio", "", "",
            meaning="mean size of the critic's values of generated actions, divided by that of recorded ones",
        ),
    ),
    "Training": (
        Metric("train/<loss>", "", "", "the algorithm's losses at the evaluation's update"),
        Metric("diverged/<tensor>", "", "", "last record of a seed: at this update the tensor was not finite any more"),
        Metric("generate/not_finite", "share", "lower", "generated steps that were cut off as not finite"),
        Metric("generate/clipped", "share", "lower", "entries of generated states clipped to the data's range"),
        Metric(
            "generate/residual", "action", "lower", by="round",
            meaning="how far a round of the generator moved the actions",
        ),
        Metric("generate/lag", "action", "lower", "how far the last round moved the actions"),
        Metric(
            "generate/kept", "share", "", by="rank",
            meaning="rollouts that the filter keeps, by tenth of the generated return; 1 is the best tenth",
        ),
        Metric("generate/evaluations", "", "lower", "network evaluations per generated transition"),
        Metric("generate/flops", "FLOP", "lower", "additions and multiplications per generated transition"),
    ),
    "Cost": (
        Metric("cost/{fit,generate,update,evaluate,fidelity,total}_seconds", "s", "lower", "wall time by activity"),
        Metric("cost/updates_per_second", "1/s", "higher", "updates of all seeds together, by their own time alone"),
        Metric("cost/generated_rows", "", "", "transitions that were added to the buffer, mean over seeds"),
        Metric("cost/generate_seconds_per_transition", "s", "lower", "time to generate one of them"),
        Metric("cost/model_seconds", "s", "lower", "what the fits of all pretrained models of the cell once took"),
        Metric("cost/peak_memory_mib", "MiB", "lower", "of the device; on a CPU of the whole process"),
        Metric(
            "cost/{evaluations,flops}_per_transition", "", "lower",
            meaning="the last of `generate/evaluations` and `flops`",
        ),
        Metric(
            "cost/{model,generate,update,total}_flop", "FLOP", "lower",
            meaning="additions and multiplications: fits of the seed's models, its generation, its updates, their sum",
        ),
    ),
}  # fmt: skip
METRICS = tuple(metric for metrics in CATALOGUE.values() for metric in metrics)


def updated(page: str) -> str:
    """METRICS.md with the table of every section, the first of its kind below the heading, as the catalogue has it.

    Raises:
        ValueError: the page has no such heading or no table there.
    """
    for section, metrics in CATALOGUE.items():
        before, heading, rest = page.partition(f"\n## {section}\n")
        prose, header, table = rest.partition(_HEADER)
        if not header or "\n## " in prose:
            raise ValueError(f"METRICS.md must have a heading {section!r} with a table of records below it")
        after = re.sub(r"\A(\|.*\n)*", "", table)
        page = before + heading + prose + header + "".join(map(_row, metrics)) + after
    return page


def _row(metric: Metric) -> str:
    meaning = metric.meaning + (f" ({metric.source})" if metric.source else "")
    return f"| `{metric.name}` | {metric.by} | {metric.unit} | {metric.better} | {meaning} |\n"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
