"""The catalogue names exactly what cells record, and METRICS.md shows the catalogue."""

import re
from collections.abc import Iterator

import pytest
import torch

import run_bench
from benchmarks.execution.cell import run_cell
from benchmarks.records import DIVERGED
from benchmarks.suite import cells, load_suite
from metrics.catalogue import METRICS, PAGE, Metric, updated
from tasks.base import load_task

TINY = (
    "updates=2", "evaluate_every=2", "episodes=1", "dataset_rows=500", "fidelity_starts=3", "fidelity_horizon=2",
    "seeds=[0]",
    *(f"{name}.{key}" for name in ("dydiff", "mopo", "ensemble") for key in (
        "rollouts=2", "dynamics.max_updates=2", "dynamics.check_every=1", "dynamics.width=8",
    )),
    "dydiff.rollout_length=2", "dydiff.model.updates=2", "dydiff.reward.max_updates=2", "dydiff.reward.check_every=1",
)  # fmt: skip
EVERY_KIND = {  # of policy, and of what generators say of themselves
    "dydiff": "td3bc",  # deterministic; rounds, a filter
    "mopo": "cql",  # Gaussian
    "ensemble": "dql",  # known by samples only
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[tuple[str, bool]]]:
    """Names of metrics, and whether they have a horizon."""
    found = {(f"{DIVERGED}critic", False)}  # of a seed that is not finite any more
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for generator, algorithm in EVERY_KIND.items():
            (spec,) = cells(
                load_suite("matrix-smoke", [*TINY, f'generators=["{generator}"]', f'algorithms=["{algorithm}"]'])
            )
            records, _ = run_cell(spec, load_task(spec.task, spec.settings.data_options(None)), torch.device("cpu"))
            found |= {(record.metric, record.horizon is not None) for record in records}
        yield found


def describes(metric: Metric, name: str, curve: bool) -> bool:
    parts = re.split(r"(<\w+>|\{[\w,]+\})", metric.name)
    pattern = "".join(
        r"\w+" if part[:1] == "<" else f"({part[1:-1].replace(',', '|')})" if part[:1] == "{" else re.escape(part)
        for part in parts
    )
    return curve == bool(metric.by) and re.fullmatch(pattern, name) is not None


def test_every_recorded_metric_has_one_entry(recorded: set[tuple[str, bool]]) -> None:
    entries = {name: [metric.name for metric in METRICS if describes(metric, *name)] for name in recorded}
    assert not {name: found for name, found in entries.items() if len(found) != 1}


def test_every_entry_is_recorded(recorded: set[tuple[str, bool]]) -> None:
    assert not [metric.name for metric in METRICS if not any(describes(metric, *name) for name in recorded)]


def test_metrics_md_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert updated(text) == text, "METRICS.md is not current: run python -m metrics.catalogue"


def test_a_page_without_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="must have a heading 'Score' with a table of records below it"):
        updated("# Metrics\n\n## Score\n\n## Compounding error\n")


def test_list_shows_every_metric_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert not [metric.name for metric in METRICS if f"  {metric.name}: {metric.meaning}\n" not in listed]
