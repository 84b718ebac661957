"""The page of local sets shows what the audit measured."""

import pytest

from tasks.audit import examine
from tasks.base import DataOptions
from tasks.recipes.describe_sets import tables


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
