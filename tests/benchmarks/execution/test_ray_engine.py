"""The same cells on Ray: equal numbers, on one machine, on two nodes, and when one of them dies midway."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import run_bench

ray = pytest.importorskip("ray", reason="needs the extra `ray`")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

SUITE = ["run", "matrix-smoke"]
SET = [
    "--set",
    'generators=["none","ensemble","dydiff"]',
    'algorithms=["td3bc","bc"]',
    "updates=60",
    "evaluate_every=30",
]
SET += ["fidelity_starts=8", "ensemble.dynamics.max_updates=40", "ensemble.rollouts=50"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(run_bench.__file__).parent))
    monkeypatch.chdir(tmp_path)


def run(out: str, *options: str) -> int:
    return run_bench.main([*SUITE, "--out", out, *options, *SET])


def tables(out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(out, "report").glob("*.csv") if path.name != "cost.csv"}


@pytest.fixture
def cluster() -> Iterator[tuple[Any, Any]]:
    """Two nodes with a core each; the second can be killed."""
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 2**27}
    nodes = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    second = nodes.add_node(**size)
    yield nodes, second
    ray.shutdown()
    nodes.shutdown()


def test_every_engine_gives_the_same_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = {"one": ["--jobs", "1"], "two": ["--jobs", "2"], "ray": ["--engine", "ray", "--jobs", "2"]}
    for name, options in engines.items():
        monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(Path(f"cache-{name}").absolute()))
        assert run(name, *options) == 0
    assert tables("one").keys() >= {"scores.csv", "compounding.csv", "consistency.csv"}
    assert tables("one") == tables("two") == tables("ray")


def test_a_node_that_dies_midway_costs_time_only(cluster: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, second = cluster
    monkeypatch.setenv("ROLLOUTBENCH_CHECKPOINT_SECONDS", "0.1")
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(Path("cache-torn").absolute()))
    killed = []

    def kill() -> None:
        """When two cells run at once, one of them runs there."""
        while len(list(Path("torn").glob("*/LEASE"))) < 2:
            time.sleep(0.05)
        time.sleep(1)
        nodes.remove_node(second, allow_graceful=False)
        killed.append(len(list(Path("torn").glob("*/DONE"))))

    watcher = threading.Thread(target=kill, daemon=True)
    watcher.start()
    assert run("torn", "--engine", "ray", "--address", nodes.address) == 0
    watcher.join(10)
    assert killed
    assert killed[0] < 6
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(Path("cache-whole").absolute()))
    assert run("whole", "--jobs", "2") == 0
    assert tables("torn") == tables("whole")


def test_a_cell_that_fails_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from generators.none import RealOnly\nclass Broken(RealOnly):\n    def fit(self, *arguments):\n        {}\n"
    (tmp_path / "broken_on_ray.py").write_text(code.format("raise ArithmeticError('fell over')"), encoding="utf-8")
    (tmp_path / "dying_on_ray.py").write_text(code.format("import os; os._exit(9)"), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)]))
    monkeypatch.syspath_prepend(str(tmp_path))
    plug_ins = 'generators=["none", "broken_on_ray:Broken", "dying_on_ray:Broken"]'
    methods = ["--set", plug_ins, 'algorithms=["bc"]', "updates=20", "evaluate_every=20"]
    assert run_bench.main([*SUITE, "--out", "out", "--engine", "ray", "--jobs", "2", *methods]) == 1
    errors = sorted(path.read_text(encoding="utf-8").splitlines()[-1] for path in Path("out").glob("*/error.txt"))
    assert len(errors) == 2
    assert "fell over" in errors[0]
    assert "Ray gave the cell up" in "".join(errors)
    assert len(list(Path("out").glob("*/DONE"))) == 1


def test_a_cell_that_hangs_is_recorded_with_its_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six workers try it, each for a few seconds."""
    code = (
        "import time\nfrom generators.none import RealOnly\nclass Hanging(RealOnly):\n    def fit(self, *arguments):\n"
    )
    (tmp_path / "hanging_on_ray.py").write_text(f"{code}        time.sleep(900)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)]))
    monkeypatch.syspath_prepend(str(tmp_path))
    methods = ["--set", 'generators=["none", "hanging_on_ray:Hanging"]', 'algorithms=["bc"]', "updates=20"]
    options = ["--out", "out", "--engine", "ray", "--jobs", "2", "--stall-minutes", "0.1"]
    assert run_bench.main([*SUITE, *options, *methods, "evaluate_every=20"]) == 1
    (error,) = (path.read_text(encoding="utf-8") for path in Path("out").glob("*/error.txt"))
    assert "hanging_on_ray.py" in error
    assert "no sign of life for 0.1 min" in error
    assert len(list(Path("out").glob("*/DONE"))) == 1
