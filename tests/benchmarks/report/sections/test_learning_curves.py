"""Small multiples: a panel per cell beside real data only."""

from pathlib import Path
from typing import Any

from benchmarks.report.figures.palette import COLOURS
from benchmarks.report.results import Results, collect
from benchmarks.report.sections.learning_curves import SECTION
from benchmarks.store import ResultStore

(PLOT,) = SECTION.figures


def folder(root: Path, build: Any, seeds: int, *generators: str) -> Results:
    """Whose cells score more the later they come; a seed's four evaluations rise by 30."""
    store = ResultStore(root)
    for place, generator in enumerate(generators):
        spec = build.spec("toy/linear", generator, seeds)
        store.finish(spec, build.provenance(seeds), build.evaluations(seeds, 10.0 * place))
    return collect(store)


def test_every_cell_stands_beside_real_data_only(tmp_path: Path, build: Any) -> None:
    results = folder(tmp_path, build, 6, "none", "mopo", "dydiff")
    ((_, _, figure),) = PLOT.pages(results)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == ["dydiff", "mopo"]
    assert [line.get_color() for line in shown[1].lines] == [COLOURS["none"], COLOURS["mopo"]]
    assert shown[0].get_ylim() == shown[1].get_ylim()
    assert "in grey" in PLOT.caption(results)
    assert "band: 95 %" in PLOT.caption(results)
    assert "thin lines" not in PLOT.caption(results)


def test_real_data_only_is_shown_where_nothing_else_is(tmp_path: Path, build: Any) -> None:
    results = folder(tmp_path, build, 3, "none")
    ((_, _, figure),) = PLOT.pages(results)
    assert [ax.get_title() for ax in figure.axes] == ["none"]
    assert len(figure.axes[0].lines) == 4  # its seeds, and their mean
    assert "in grey" not in PLOT.caption(results)
    assert "thin lines: seeds, where there are fewer than 5" in PLOT.caption(results)


def test_a_reader_who_sees_nothing_hears_the_ends(tmp_path: Path, build: Any) -> None:
    """Seeds 0, 1, 2 end at 30, 31, 32; 20 more for the third cell."""
    ((_, alt, _),) = PLOT.pages(folder(tmp_path, build, 3, "none", "mopo", "dydiff"))
    assert alt == "linear: means at the last evaluation from 41.0 (mopo) to 51.0 (dydiff)."


def test_more_cells_than_fit_continue_on_a_second_figure(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    for iterations in range(21):
        spec = build.spec("toy/linear", "dydiff", 1, f"M={iterations}", iterations)
        store.finish(spec, build.provenance(1), build.evaluations(1, 0.0))
    assert [name for name, *_ in PLOT.pages(collect(store))] == ["learning_curves", "learning_curves_2"]
