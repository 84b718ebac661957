"""Published scores on the same D4RL files beside ours; no other section reads them."""

import math
from functools import cache
from pathlib import Path

import pandas as pd

from benchmarks.report.results import Results
from benchmarks.report.score_rows import no_score
from benchmarks.report.scores import estimates, finals, rule
from benchmarks.report.section import Section
from benchmarks.report.tables.table import Entry, Table, as_number
from benchmarks.report.verdict import compares_scores

__all__ = ["SECTION", "published_table"]

_FILE = Path(__file__).with_name("published_scores.csv")
_NAMES = {"td3bc": ["TD3+BC"], "cql": ["CQL"], "iql": ["IQL"], "bc": ["BC", "10% BC"]}  # ours -> theirs
_METHODS = {"mopo": ["MOPO", "COMBO", "MOBILE", "RAMBO"], "trajectory": ["Diffuser"]}  # generators of ours


def published_table(results: Results) -> Table:
    """One row per cell on a d4rl/ task, and one per published score of its algorithm or generator on the same file."""
    final = finals(results)
    estimate = estimates(final.assign(final=final["final"].where(final["unit"] == "score")))  # returns are no scores
    known = _published()
    rows = []
    shown = results.cells if compares_scores(results) else ()
    for task in dict.fromkeys(cell.task for cell in shown if cell.task.startswith("d4rl/")):
        cells = [cell for cell in results.cells if cell.task == task and cell.cell_id in estimate.index]
        for cell in cells:
            n, mean, low, high = (float(estimate[name][cell.cell_id]) for name in ("n", "mean", "low", "high"))
            what = f"{cell.generator} + {cell.algorithm}" + ("" if cell.variant == "default" else f" ({cell.variant})")
            spread = "" if math.isnan(low) else f" ± {(high - low) / 2:.1f}"
            score = Entry(f"{mean:.1f}{spread}", value=mean, cell_id=cell.cell_id) if n else no_score(cell)
            rows.append([Entry(task), Entry(what), Entry("this run"), score, as_number(n, "{:.0f}"), Entry("ours")])
        wanted = {
            name for cell in cells for name in (*_NAMES.get(cell.algorithm, []), *_METHODS.get(cell.generator, []))
        }
        theirs = known[(known["dataset"] == task.partition("/")[2]) & known["short"].isin(sorted(wanted))]
        for row in theirs.to_dict("records"):
            spread = "" if math.isnan(row["std"]) else f" (std {row['std']:.1f})"
            rows.append(
                [
                    Entry(task),
                    Entry(row["short"]),
                    Entry(row["source"]),
                    Entry(f"{row['mean']:.1f}{spread}", value=row["mean"]),
                    as_number(row["n_seeds"], "{:.0f}"),
                    Entry(row["rule"]),
                ]
            )
    caption = (
        f"Ours: mean and half the 95 % interval, or why there is none (—: not defined). {rule(results)} Theirs: as "
        "published, with the standard deviation over seeds where it was stated; rule: which evaluations count (last, "
        "best of training, or not stated). The dataset's version is part of its name. Budgets, evaluation and physics "
        "differ, so differences of several points mean little; scores of the best evaluation are not comparable with "
        "the last ones."
    )
    head = ["task", "method", "source", "score", "seeds", "rule"]
    return Table("published", "Published scores on the same data", caption, head, rows, data="scores")


@cache
def _published() -> pd.DataFrame:
    table = pd.read_csv(_FILE)
    return table.assign(short=table["algorithm"].str.rpartition("/ ")[2].str.replace(r" \(.*", "", regex=True))


SECTION = Section("published", "Published scores", "details", tables=[published_table])
