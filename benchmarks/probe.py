"""What a suite will cost on this device: a few updates, fits, rollouts and simulator steps of every kind, timed.

Nothing is read or written: stand-in data of the task's dimensions begin in states that its simulator resets to, and
models are not trained. What would take too long is timed with fewer rows, seeds and evaluations of the sampler, and
scaled up. No rollout or episode ends early, and fits go on to their last update: estimates are rather too high.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from benchmarks.execution.updates import Stepper, capture_on
from benchmarks.spec import Method, RunSpec
from core.buffer import Buffer, Mixer, Regularise
from core.data import Dataset, Trajectories, Transitions
from core.files import canonical_json
from core.random import Streams
from generators.base import Generator, start_states
from models.cache import FitContext, ModelCache, ModelConfig, describe_model
from tasks.base import Task, load_task
from tasks.simulators.base import Simulator, simulate

__all__ = ["NOT_COUNTED", "CellCost", "FitCost", "Probe", "stand_in"]

NOT_COUNTED = "not counted: reading data, the metrics of rollouts at the end of a cell, reports, and what compile saves"

_ROWS, _EPISODE = 4096, 256  # of the stand-in data
_STEPS = 10  # of the simulator
_RECORD_BYTES = 12  # of a record, compressed: results/reference/demo
_CURVES, _NUMBERS = 39, 35  # metrics of rollouts per seed: results/reference/demo
Answer = TypeVar("Answer")


class CellCost(NamedTuple):
    """Of one cell with all its seeds, pretrained models apart."""

    seconds: float
    size: float  # bytes of its records


class FitCost(NamedTuple):
    """Of one pretrained model for all seeds that are fitted together."""

    seconds: float  # at most: to the last update
    size: float  # bytes in the cache of models
    ends_early: bool  # whether the fit may end by itself before


class Probe:
    """Times every kind of work once, on the widest of some cells' tasks; `budget` is about the seconds of a kind."""

    def __init__(self, specs: list[RunSpec], device: torch.device, budget: float = 0.25) -> None:
        self._device = device
        self._budget = budget
        names = dict.fromkeys(spec.task for spec in specs)
        options = {spec.task: spec.settings.data_options(None) for spec in specs}
        self._tasks = {name: _endless(load_task(name, options[name])) for name in names}
        self._widest = max(self._tasks.values(), key=lambda task: task.simulator.obs_dim + task.simulator.action_dim)
        self._data: dict[str, Dataset] = {}
        self._known: dict[str, Any] = {}

    def cell(self, spec: RunSpec, seeds: int) -> CellCost:
        """Updates, rollouts and evaluations of a cell."""
        task = self._tasks[spec.task]
        update, losses = self._update(spec, seeds)
        evaluations = -(-spec.settings.updates // spec.settings.evaluate_every)
        seconds = spec.settings.updates * update + evaluations * self._evaluate(spec.algorithm, task, spec, seeds)
        records = evaluations * (2 + losses)
        if spec.refreshes:
            generate, infos = self._generate(spec, task, seeds)
            seconds += spec.refreshes * generate
            records += spec.refreshes * infos + _CURVES * spec.settings.fidelity_horizon + _NUMBERS
        return CellCost(seconds, float(seeds * records * _RECORD_BYTES))

    def fit(self, config: ModelConfig, seeds: int) -> FitCost:
        """All updates of a model's fit, models that it builds on apart."""
        return self._once(["fit", describe_model(config), seeds], lambda: self._fit(config, seeds))

    def _fit(self, config: Any, seeds: int) -> FitCost:
        data = self._stand_in(self._widest)
        counted = ["updates"] if config.updates else ["max_updates"]
        counted += ["unroll_updates"] if getattr(config, "unroll", 1) > 1 else []
        short: dict[str, Any] = dict.fromkeys(counted, 1) | ({"check_every": None} if not config.updates else {})

        def spent(few: int, rows: int, **more: int) -> float:
            changed: Any = replace(config, **(short | {"batch_size": rows} | more))
            rng = Streams(range(few), device=self._device)
            needs = [_Untrained(rng).get(need, data) for need in config.needs]
            model = changed.init(*_dims(data), rng)
            return self._timed(lambda: changed.fit(model, data, FitContext(rng), *needs))

        def update(few: int, rows: int, name: str) -> float:
            setup = spent(few, rows)
            more = max(2, min(20, int(self._budget / 20 / max(setup, 1e-3))))
            longer = spent(few, rows, **{name: 1 + more})
            return (longer - setup) / more if longer > setup else longer / (1 + more)  # noise

        seconds = sum(
            getattr(config, name) * self._scaled(partial(update, name=name), seeds, config.batch_size)
            for name in counted
        )
        state = config.init(*_dims(data), Streams((0,))).state_dict()
        size = sum(x.numel() * x.element_size() for x in state.values())
        return FitCost(seconds, float(size * seeds), not config.updates)

    def _update(self, spec: RunSpec, seeds: int) -> tuple[float, int]:
        """(seconds of an update, numbers that it returns)."""
        share = spec.settings.real_fraction if spec.refreshes else 1.0
        key = ["update", spec.algorithm.describe(), seeds, share, spec.settings.regularise]

        def measure() -> tuple[float, int]:
            alone, losses = self._updates(spec.algorithm.config, share, spec.settings.regularise, 1)
            if alone > self._budget / seeds and self._device.type == "cpu":  # so long that it is as long for every seed
                return seeds * alone, losses
            return self._updates(spec.algorithm.config, share, spec.settings.regularise, seeds)

        return self._once(key, measure)

    def _updates(self, algorithm: Any, share: float, regularise: Regularise, seeds: int) -> tuple[float, int]:
        data = self._stand_in(self._widest)
        rng = Streams(range(seeds), device=self._device)
        state = algorithm.init(data, rng.fork("init"))
        buffer = Buffer(seeds, _ROWS, *_dims(data), self._device)
        if share < 1:
            rows = data.train.map(lambda x: x.expand(seeds, *x.shape))
            buffer.add(rows, torch.ones(seeds, _ROWS, dtype=torch.bool, device=self._device))
        mixer = Mixer(algorithm.rows(data), buffer, share, algorithm.batch_size, regularise)
        batches, noise = rng.fork("batches"), rng.fork("noise")
        step = Stepper(algorithm, state, mixer, batches, noise, capture_on(self._device))
        for _ in range(2 if self._device.type == "cpu" else 8):  # a GPU captures its graphs in them
            step()
        pair = self._timed(lambda: [step(), step()])  # some algorithms do more in every second one
        count = 2 * max(1, min(100, int(self._budget / max(pair, 1e-4))))
        return self._timed(lambda: [step() for _ in range(count)]) / count, len(step.losses)

    def _generate(self, spec: RunSpec, task: Task, seeds: int) -> tuple[float, int]:
        """(seconds of a refresh, numbers that come with it)."""
        generator = spec.generator.config
        places = task if not _models(generator) else self._widest
        key = ["generate", spec.generator.describe(), spec.algorithm.describe(), seeds, places.name]
        return self._once(key, lambda: self._refresh(generator, spec.algorithm.config, places, seeds))

    def _refresh(self, generator: Generator, algorithm: Any, task: Task, seeds: int) -> tuple[float, int]:
        data = self._stand_in(task)
        infos = 0

        def spent(few: int, rows: int, config: Any = generator) -> float:
            nonlocal infos
            rng = Streams(range(few), device=self._device)
            policy = algorithm.init(data, rng.fork("init")).policy
            fitted = config.fit(task, data, _Untrained(rng), rng.fork("fit"))
            start = start_states(data, rows, rng.fork("start"))
            made: list[Trajectories] = []
            seconds = self._timed(lambda: made.append(fitted.generate(policy, start, config.rollout_length, rng)))
            infos = len(made[0].info)
            return seconds

        config: Any = generator
        sampler = getattr(config, "sampler", None)
        starts = generator.starts(data)
        if sampler is not None and getattr(config.model, "objective", "diffusion") == "diffusion":
            fast = replace(config, sampler=replace(sampler, steps=1))
            ratio = sampler.evaluations / fast.sampler.evaluations
            if spent(1, 1, fast) * ratio > self._budget / 4:
                return ratio * self._scaled(lambda few, rows: spent(few, rows, fast), seeds, starts), infos
        return self._scaled(spent, seeds, starts), infos

    def _evaluate(self, algorithm: Method, task: Task, spec: RunSpec, seeds: int) -> float:
        """Seconds of an evaluation in which no episode ends early."""
        episodes = spec.settings.episodes
        key = ["evaluate", algorithm.describe(), seeds, task.simulator.physics, episodes]

        def measure() -> float:
            rng = Streams(range(seeds), device=self._device)
            policy = algorithm.config.init(self._stand_in(task), rng.fork("init")).policy
            start = task.simulator.reset(episodes, rng.fork("reset"))

            def spent(steps: int) -> float:
                return self._timed(lambda: simulate(task.simulator, policy, start, steps, rng, greedy=True)) / steps

            first = spent(1)
            return first if first > self._budget / 2 else spent(_STEPS)

        return self._once(key, measure) * task.horizon

    def _scaled(self, measure: Callable[[int, int], float], seeds: int, rows: int) -> float:
        """What `measure(seeds, rows)` would return, from sizes in reach: a line in rows, through the largest two.

        Where one seed with one row takes long already, seeds are taken to cost the same, each.
        """
        few, size, before, smaller = 1, 1, 0.0, 0
        seconds = measure(1, 1)
        if seeds > 1 and seconds < self._budget / 4 / seeds:
            few, seconds = seeds, measure(seeds, 1)
        while size < rows and (not smaller or seconds < self._budget / 4):
            before, smaller = seconds, size
            growth = int(min(max(self._budget / 4 / max(seconds, 1e-6), 2), 64))
            size = min(rows, growth * size)
            seconds = measure(few, size)
        slope = max(seconds - before, 0.0) / (size - smaller)
        return (seconds + slope * (rows - size)) * seeds / few

    def _timed(self, work: Callable[[], Any]) -> float:
        started = self._clock()
        work()
        return self._clock() - started

    def _clock(self) -> float:
        """Seconds: of this process on a CPU, where others may run; of the wall on a GPU, behind all that is queued."""
        if self._device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _once(self, key: list[Any], measure: Callable[[], Answer]) -> Answer:
        name = canonical_json(key)
        if name not in self._known:
            self._known[name] = measure()
        found: Answer = self._known[name]
        return found

    def _stand_in(self, task: Task) -> Dataset:
        if task.simulator.physics not in self._data:
            self._data[task.simulator.physics] = stand_in(task).to(self._device)
        return self._data[task.simulator.physics]


def stand_in(task: Task) -> Dataset:
    """Data of the task's dimensions: start states with a little noise, random actions, episodes of equal length."""
    rng = Streams((0,))
    length = min(task.horizon, _EPISODE)
    obs = task.simulator.observe(task.simulator.reset(1, rng))[0].float().expand(_ROWS, -1)
    obs, next_obs = (obs + 0.01 * rng.normal(*obs.shape)[0] for _ in range(2))
    action = rng.uniform(_ROWS, task.simulator.action_dim)[0] * 2 - 1
    ended = torch.zeros(_ROWS, dtype=torch.bool)
    train = Transitions(obs, action, rng.normal(_ROWS)[0], next_obs, ended)
    first = Trajectories(
        action[None, :length],
        obs[None, : length + 1],
        train.reward[None, :length],
        ended[None, :length],
        ~ended[None, :length],
    )
    state, exact = task.simulator.restore(first.obs[:, :-1])
    episode = (torch.arange(_ROWS) // length).int()
    nothing = obs[:0], state.flatten(0, 1)[:0]
    return Dataset(train, episode, first, state, exact, *nothing, obs.mean(0), obs.std(0) + 1e-3, "stand-in")


@dataclass(frozen=True)
class _Endless:
    """A simulator whose rule ends nothing: an untrained model's rollouts would end at once, and cost too little."""

    simulator: Simulator

    def __getattr__(self, name: str) -> Any:
        return getattr(self.simulator, name)

    def terminated(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return torch.zeros(obs.shape[:-1], dtype=torch.bool, device=obs.device)


def _endless(task: Task) -> Task:
    simulator: Any = _Endless(task.simulator)
    return replace(task, simulator=simulator)


class _Untrained(ModelCache):
    """Models as they are before their fit: neither is anything read nor written."""

    def __init__(self, rng: Streams) -> None:
        self._rng = rng

    def get(self, config: ModelConfig, data: Dataset) -> Any:
        return config.init(*_dims(data), self._rng).eval().requires_grad_(False)


def _models(generator: Generator) -> bool:
    """Whether it has pretrained models, which then make the rollouts; else they may be the simulator's."""
    return any(isinstance(value, ModelConfig) for value in vars(generator).values())


def _dims(data: Dataset) -> tuple[int, int]:
    return data.train.obs.shape[-1], data.train.action.shape[-1]
