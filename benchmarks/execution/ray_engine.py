"""The same cells as Ray tasks, from one machine to a cluster: data first, then pretrained models, then cells.

Results folder and cache must be on a disk that all nodes share; nothing else has to survive: a task
whose worker or node dies is given to another one, which resumes from its checkpoint. So is one that gives no sign of
life, for its worker then ends.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch

from benchmarks.execution.cell import as_in_cells, model_cache
from benchmarks.execution.matrix import Engine, Job, Outcome
from benchmarks.execution.plan import needed_models
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from core.errors import DataError, SpecError
from core.files import canonical_json
from core.interrupt import Stopped, listening
from core.progress import Channel, relay, say, showing
from models.cache import ModelConfig, describe_model
from tasks.base import load_task

__all__ = ["on_ray"]

_RETRIES = 5  # of a task whose worker or node has died
_GRACE = 120.0  # seconds for saving when the driver stops
_PASSED_ON = ("ROLLOUTBENCH_", "D4RL_", "MINARI_", "PYTHONPATH")  # prefixes of environment variables


def on_ray(address: str | None, gpus_per_cell: float, jobs: int | None) -> Engine:
    """On the cluster at `address` ("auto": the one this machine belongs to), else on one that is started here.

    Raises:
        SpecError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise SpecError("--engine ray needs the extra `ray`: pip install -c constraints.txt -e .[ray]") from None

    def run(todo: list[Job], store: ResultStore) -> int:
        passed_on = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        here = {} if address else {"num_cpus": jobs, "include_dashboard": False, "object_store_memory": 2**27}
        environment = {"env_vars": {**passed_on, "OMP_NUM_THREADS": "1"}}
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level="warning", **here)
        try:
            device = torch.device("cuda" if gpus_per_cell else "cpu")
            placed = [replace(job, root=job.root.absolute(), device=device) for job in todo]
            return _run(ray, placed, store, {"num_cpus": 1.0, "num_gpus": gpus_per_cell})
        finally:
            ray.shutdown()

    return run


def _run(ray: Any, todo: list[Job], store: ResultStore, resources: Mapping[str, float]) -> int:
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    beside_us = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    channel = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": beside_us})  # no other node can take it down
    failed = 0
    started = datetime.now(UTC)
    remote = ray.remote(max_retries=_RETRIES, **resources)
    data = remote(_data)
    fit = remote(_fit)
    cell = remote(_cell)
    upstream: dict[str, Any] = {}  # tasks that cells depend on, by all that determines them
    pending: dict[Any, Job] = {}
    with showing(channel):
        try:
            for job in todo:
                source = [job.spec.task, str(job.spec.settings.data_options(job.data_dir))]
                if (key := canonical_json(source)) not in upstream:
                    upstream[key] = data.remote(job, channel)
                before = [upstream[key]]
                for config in _models(job.spec):
                    seeds = [list(job.spec.seeds), job.spec.settings.shared_models]
                    if (key := canonical_json([*source, describe_model(config), *seeds])) not in upstream:
                        upstream[key] = fit.remote(job, config, channel, *before)
                    before.append(upstream[key])
                pending[cell.remote(job, channel, *before)] = job
            while pending:
                (done,), _ = ray.wait(list(pending), num_returns=1)
                failed += _ended(ray, done, pending.pop(done), store, started)
        except Stopped:
            for task in (*upstream.values(), *pending):
                ray.cancel(task)
            ray.wait(list(pending), num_returns=max(len(pending), 1), timeout=_GRACE)
            raise
    return failed


def _models(spec: RunSpec) -> list[ModelConfig]:
    """Those that can be fitted before the cell; none where the data cannot be read: the cell reports it."""
    with suppress(DataError, SpecError):
        return needed_models(spec)
    return []


def _ended(ray: Any, task: Any, job: Job, store: ResultStore, started: datetime) -> bool:
    """Whether the cell failed."""
    try:
        return bool(ray.get(task) == Outcome.FAILED)
    except ray.exceptions.RayError as error:
        reason = f"{type(error).__name__}: {error}"
        here = replace(job, device=torch.device("cpu"))
        line = here.fail(store, started, f"Ray gave the cell up: {reason}\n")
        say(f"{job.label}: FAILED: {line}")
        return True


def _data(job: Job, channel: Channel) -> None:
    """Download or make the data set of a cell."""
    _prepare(job, channel)
    with suppress(Exception), job.watch():  # the cell itself reports what is wrong
        load_task(job.spec.task, job.spec.settings.data_options(job.data_dir)).dataset()


def _fit(job: Job, config: ModelConfig, channel: Channel, *before: None) -> None:
    """Fit one of a cell's pretrained models, after those that it builds on."""
    _prepare(job, channel)
    with suppress(Exception), job.watch():
        if config not in needed_models(job.spec):  # the data are here now: their environment has a rule
            return
        task = load_task(job.spec.task, job.spec.settings.data_options(job.data_dir))
        model_cache(job.spec, job.device, job.models_folder).get(config, task.dataset()[0].to(job.device))


def _cell(job: Job, channel: Channel, *before: None) -> Outcome:
    """Run it; a cell that a process outside of Ray runs is waited for."""
    _prepare(job, channel)
    with listening():  # Ray cancels by SIGINT: there is time to save
        if held := job.held():
            say(f"{job.label}: {held}")
        while (outcome := job.run()) is Outcome.HELD:
            pass
    return outcome


def _prepare(job: Job, channel: Channel) -> None:
    relay(channel)
    as_in_cells(job.device)
