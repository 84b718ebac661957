"""Which cells are worth running, or looking at: those in regimes that hold, by controls that have run already."""

from collections.abc import Iterable

from benchmarks.report.regime import counted, judged
from benchmarks.report.results import collect, unfitted
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from core.errors import SpecError
from core.files import canonical_json

__all__ = ["judged_cells", "where_judged"]


def where_judged(specs: Iterable[RunSpec], store: ResultStore) -> list[RunSpec]:
    """The cells whose task, algorithm and settings are those of a regime of the folder that holds.

    How rows are fitted is no part of a regime: cells with a fit for every seed count where those that share one do.

    Raises:
        SpecError: there is none.
        DataError: a file of the folder is torn or was edited; names it.
    """
    holding = {_context(regime.none.spec) for regime in counted(collect(store)) if regime.verdict == "holds"}
    found = [spec for spec in specs if _context(spec.describe()) in holding]
    if not found:
        rule = f"needs a regime of this suite that holds in {store.root} (run its controls there first)"
        raise SpecError(f"--judged {rule}, got {len(holding)} that hold, none of them of this suite")
    return found


def judged_cells(store: ResultStore) -> set[str]:
    """The cells of the folder whose regime holds, those of generator none among them.

    Raises:
        SpecError: no regime holds.
        DataError: a file of the folder is torn or was edited; names it.
    """
    results = collect(store)
    found = {regime.none.cell_id for regime in counted(results) if regime.verdict == "holds"}
    if not found:
        raise SpecError(f"--judged needs a regime that holds in {store.root}, got none")
    return found | {cell_id for cell_id, verdict in judged(results).items() if verdict == "holds"}


def _context(described: object) -> str:
    spec: dict[str, dict[str, object]] = described  # type: ignore[assignment]
    return canonical_json([spec["task"], spec["algorithm"], unfitted(spec["settings"])])
