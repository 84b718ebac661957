"""Every generator beside real data only: what it adds to the score, seed by seed."""

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.aggregates import compared_algorithms, complete, method
from benchmarks.report.figures.style import BASELINE, bars, bars_height, line_styles, panel_list, plain
from benchmarks.report.regime import void
from benchmarks.report.results import Results
from benchmarks.report.score_rows import DAGGER, INTERVAL, by_generator, notes
from benchmarks.report.scores import FEW_SEEDS, LEVEL, RULE, paired
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Table
from benchmarks.report.verdict import resolution, verdicts
from metrics.intervals import improvement_interval
from metrics.statistics import probability_of_improvement

__all__ = ["SECTION", "improvement_table"]


def improvement_table(results: Results) -> Table:
    """Rows: tasks x algorithms x variants; columns: generators, minus `none`."""
    compared = verdicts(results)
    caption = (
        f"Score minus that of generator none with the same seed, algorithm and settings. {RULE} {INTERVAL} P: "
        "probability that a run beats one of generator none, ties count half. Bold: at least "
        f"{FEW_SEEDS} seeds and p < {LEVEL} in a paired t-test, after Holm's correction for all comparisons of the "
        f"algorithm. {resolution(compared)} {DAGGER} {notes(results)} {void(results)}"
    ).strip()
    table = Table("improvement", "Improvement over real data only", caption)
    return by_generator(results, table, compared, _nonzero, sign="+", skip="none")


def _nonzero(row: pd.DataFrame) -> set[str]:
    """The cells that differ from generator none by more than chance."""
    return set(row.index[(row["n"] >= FEW_SEEDS) & (row["p_holm"] < LEVEL)])


def _figure(results: Results, algorithms: list[str]) -> Figure:
    """One panel per algorithm: chance that a run beats a run on real data only."""
    styles = line_styles(results)
    pairs = paired(results)
    figure, axes = panel_list(len(algorithms), 2, height=bars_height(styles))
    for ax, algorithm in zip(axes, algorithms, strict=True):
        none = complete(pairs, algorithm, "final_none")
        rows = {}
        for key, scores in complete(pairs, algorithm, "final").items():
            low, high = improvement_interval(scores, none[key], **method(results))
            rows[key] = [probability_of_improvement(scores, none[key]).item(), low.item(), high.item()]
        bars(ax, styles, rows)
        ax.axvline(0.5, color=BASELINE, linestyle="--", linewidth=1.2)
        ax.set(
            title=plain(algorithm, 48),
            xlim=(-0.03, 1.03),
            xticks=[0, 0.25, 0.5, 0.75, 1],
            xlabel="P(beats real data only)",
        )
    return figure


SECTION = Section(
    "improvement",
    "Improvement over real data only",
    "help",
    frames={"improvements": verdicts},
    tables=[improvement_table],
    figures=[
        Plot(
            "improvement",
            lambda _: (
                "Chance that a run beats a run of the same task on real data only, mean over tasks, ties count half."
                " Bar: 95 % interval, by the method that the table over all tasks names. It says how often, not by "
                "how much. Who lacks a task on which any generator has a pair is left out."
            ),
            lambda *_: "",
            "improvements",
            rows=lambda results: compared_algorithms(paired(results)),
            figure=_figure,
        )
    ],
)
