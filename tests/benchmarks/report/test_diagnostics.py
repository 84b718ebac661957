import math
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.report.diagnostics import SIGNATURES, Signature, diagnostics_table
from benchmarks.report.results import collect
from benchmarks.spec import Method, RunSpec, Settings
from benchmarks.store import Record, ResultStore
from generators.none import RealOnly

HEALTHY = {
    "compounding/policy/median/1": 0.9,
    "compounding/policy/still/1": 1.0,
    "compounding/policy/median/10": 0.4,
    "compounding/policy/still/10": 1.0,
    "compounding/policy/alive/10": 0.9,
    "compounding/policy/lived/10": 1.0,
    "distance/wasserstein/10": 0.2,
    "distance/wasserstein_floor/10": 0.1,
    "filter/rank_correlation": 0.8,
    "values/ratio": 1.5,
    "consistency/kl": 0.1,
    "behaviour/nearest/heldout": 0.5,
    "behaviour/nearest/made": 0.6,
    "behaviour/nearest/lived": 0.5,
    "generate/residual/1": 0.2,
    "generate/residual/2": 0.1,
}
SICK = {
    "nothing learned": ({"compounding/policy/median/10": 0.7}, 0.7),
    "off the policy's path": ({"distance/wasserstein/10": 0.5}, 5.0),
    "not the policy's actions": ({"consistency/kl": 2.5}, 2.5),
    "off the data": ({"behaviour/nearest/made": 2.0}, 4.0),
    "narrow data": ({"behaviour/nearest/lived": 5.0}, 10.0),
    "wrong ends": ({"compounding/policy/alive/10": 0.3}, 0.7),
    "filter misled": ({"filter/rank_correlation": -0.1}, -0.1),
    "values blow up": ({"values/ratio": 9.0}, 9.0),
    "rounds do not settle": ({"generate/residual/2": 0.3}, 1.5),
}


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.name)
def test_a_signature_is_seen_in_the_sick_and_not_in_the_healthy_or_the_unknown(signature: Signature) -> None:
    change, number = SICK[signature.name]
    sick = pd.Series(HEALTHY | change)
    assert signature.number(sick) == pytest.approx(number)
    assert signature.seen(number)
    assert not signature.seen(signature.number(pd.Series(HEALTHY)))
    unknown = signature.number(pd.Series({"return": 1.0}))
    assert math.isnan(unknown)
    assert not signature.seen(unknown)


def test_the_table_names_cell_number_and_sentence(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    spec = RunSpec("toy/linear", Method("none", RealOnly()), Method("bc", RealOnly()), Settings(), (0, 1))
    early = [Record(seed, 100, "generate/residual/2", 50.0) for seed in (0, 1)]
    last = [
        Record(seed, 300, name, value + seed * (name == "values/ratio"))
        for seed in (0, 1)
        for name, value in (HEALTHY | {"values/ratio": 4.0}).items()
    ]
    store.finish(spec, {"seeds": [0, 1], "status": "done"}, early + last)
    table = diagnostics_table(collect(store))
    assert [[entry.text for entry in row] for row in table.rows] == [
        [
            "toy/linear (return)",
            "bc",
            "none",
            "values blow up",
            "4.5",
            "The critic's values of generated actions are 4.5 times the size of its values of recorded ones.",
        ]
    ]
