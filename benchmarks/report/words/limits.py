"""What changes the reading of every number: budgets, evaluations, shared models, seeds, data and code."""

from collections.abc import Iterator

from benchmarks.report.comparability import origins
from benchmarks.report.results import Results
from benchmarks.report.score_rows import task_name
from benchmarks.report.scores import FEW_SEEDS
from benchmarks.report.verdict import compares_scores
from benchmarks.report.words.phrases import joined, listed

__all__ = ["limits"]


def limits(results: Results) -> str:
    """One paragraph; empty where no cell has finished."""
    told = list(_limits(results)) if any(cell.done for cell in results.cells) else []
    code = origins(results.cells)
    return f"**Limits:** {'; '.join(told)}. {code}".strip() if told else ""


def _limits(results: Results) -> Iterator[str]:
    cells = [cell for cell in results.cells if cell.done]
    settings = [cell.spec["settings"] for cell in cells]
    tasks = [task_name(results, task) for task in dict.fromkeys(cell.task for cell in cells)]
    seeds = sorted({len(cell.done) for cell in cells})
    few = f" (fewer than {FEW_SEEDS}: an indication only)" if seeds[0] < FEW_SEEDS else ""
    algorithms = joined(list(dict.fromkeys(cell.algorithm for cell in cells)))
    yield f"{algorithms} on {listed(tasks)}, {_either(seeds)} {'seed' if seeds == [1] else 'seeds'} per cell{few}"
    updates = _either(sorted({own["updates"] for own in settings}))
    if not compares_scores(results):
        yield f"rollouts of policies that had up to {updates} updates"
    else:
        yield f"scores of {updates} updates"
        episodes = sorted({own["episodes"] for own in settings})
        yield f"{_either(episodes)} {'episode' if episodes == [1] else 'episodes'} per evaluation"
        shares = sorted({round(100 * own["real_fraction"]) for own in settings})
        yield f"{_either(shares)} % of every batch is real data"
    shared = [own["shared_models"] for own in settings]
    if any(shared):
        which = "" if all(shared) else "in some cells "
        yield f"{which}all seeds of a cell share one pretrained model: the variance of fitting is not in the intervals"
    if compares_scores(results) and any(cell.task.startswith("local/") for cell in cells):
        yield "local/ data are of this project's own recipes: no scores to put beside published D4RL numbers"


def _either(numbers: list[int]) -> str:
    """One number, or the first and the last."""
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
