"""The page of local sets shows what the audit measured."""

from pathlib import Path

import pandas as pd
import pytest

from tasks.audit import examine
from tasks.base import DataOptions
from tasks.recipes.describe_sets import LEARNED, learned, tables


@pytest.mark.usefixtures("hopper_set")
def test_the_page_shows_what_the_audit_measured(hopper_options: DataOptions) -> None:
    report = examine("local/hopper-random", hopper_options)
    contents, spread = (table.splitlines()[-1].split("|") for table in tables({"hopper-random": report}).split("\n\n"))
    score = 100 * (report["return_mean"] + 20.272305) / (3234.3 + 20.272305)
    assert [cell.strip() for cell in contents[1:6]] == [
        "hopper-random",
        "400",
        str(report["episodes"]),
        f"{report['return_mean']:.1f} ± {report['return_std']:.1f}",
        f"{score:.1f}",
    ]
    assert float(spread[3]) == pytest.approx(report["return_quantiles"]["0.5"], abs=0.05)


def test_the_page_has_what_the_reference_results_say() -> None:
    assert learned(pd.read_csv(LEARNED)) in (Path(__file__).parents[3] / "tasks/DATASETS.md").read_text()


def test_scores_stand_beside_the_behaviour() -> None:
    common = {"task": "local/a", "behaviour": 10.0}
    frame = pd.DataFrame(
        [
            {**common, "algorithm": "td3bc", "none": 14.0, "learns": "holds", "learns_low": 2.0, "learns_high": 6.0},
            {**common, "algorithm": "bc", "none": 9.0, "learns": "not shown", "learns_low": -2.0, "learns_high": 0.5},
        ]
    )
    row = learned(frame).splitlines()[-1].split("|")
    assert [cell.strip() for cell in row[1:-1]] == ["a", "10.0", "9.0 ± 1.2", "**14.0 ± 2.0**"]
