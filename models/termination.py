"""Learned ends of episodes: a classifier of steps (s, a, s'), for environments whose termination rule is not known.

MBPO and its successors are told the environment's rule. Where there is none to tell, world models learn it from the
flags of the data by cross-entropy: IRIS (Micheli et al. 2023, arXiv:2209.00588) and DIAMOND (Alonso et al. 2024,
arXiv:2405.12399) do, and draw the ends. We differ on purpose and draw nothing: a rule is a function of the step, and
one that is nearly learned would otherwise have ends scattered over all steps.
"""

from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from core.config import OpenUnit, configuration
from core.data import Dataset
from core.random import Streams
from models.bitwise import pad_rows, softplus
from models.cache import FitContext
from models.nn import MLP, Standardize
from models.training import EarlyStopped, split_rows, train_until_stale

__all__ = ["TerminationConfig", "TerminationModel"]

_RESOLUTION = 0.01  # nats, added to the validation error: where a rule is learned to so much, the fit ends
_CHUNK = 2**18  # rows, of all seeds together, that are classified at a time: memory


@configuration
class TerminationConfig(EarlyStopped):
    """Network and budget of the classifier.

    Ends are rare, at most one row of an episode. Half of every batch are ends, half are other rows, and both kinds have
    the same weight in the validation error: that only adds a constant to the log-odds (case-control sampling: King and
    Zeng 2001, "Logistic Regression in Rare Events Data", Political Analysis 9, section 4). A step is an end where the
    log-odds exceed the threshold by which as many training rows are ends as have the flag. With plain batches and an
    end where p > 1/2, few or no ends are predicted after the same budget, and rollouts survive for too long.
    """

    hidden: tuple[PositiveInt, ...] = (256, 256)
    learning_rate: PositiveFloat = 1e-3
    batch_size: Annotated[int, Field(ge=2)] = 256
    validation: OpenUnit = 0.2
    validation_rows: PositiveInt = 5000  # of either kind, at most
    patience: PositiveInt = 7
    check_every: PositiveInt | None = 250
    max_updates: PositiveInt = 5_000

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> "TerminationModel":
        return TerminationModel(self, obs_dim, action_dim, rng)

    def fit(self, model: "TerminationModel", data: Dataset, context: FitContext) -> dict[str, Float[Tensor, " S"]]:
        """Cross-entropy; the weights of the lowest validation error are kept. Rows of one kind are not learned from.

        Returns `base_rate`, the share of ends among the training rows, and how validation rows are judged, at that
        rate: `predicted_rate`, `accuracy`, `recall` and `precision`, NaN where no end is predicted.
        """
        flags = data.train.terminated
        base = flags.double().mean().expand(len(model.threshold))
        if flags.all() or not flags.any():
            model.threshold.fill_(-torch.inf if flags.all() else torch.inf)
            return {"base_rate": base}
        x = model.inputs(data.train.obs, data.train.action, data.train.next_obs)
        ends, ends_held = self._split(flags, context.rng.fork("ends"))
        others, others_held = self._split(~flags, context.rng.fork("others"))
        model.input.fit(x, torch.cat([ends, others], -1))
        sizes = self.batch_size // 2, self.batch_size - self.batch_size // 2

        def error(ended: Int[Tensor, "S n"], other: Int[Tensor, "S m"]) -> Float[Tensor, " S"]:
            missed = softplus(-model.log_odds(x[ended])).mean(-1)
            return (missed + softplus(model.log_odds(x[other])).mean(-1)) / 2

        def loss(batches: Streams) -> Float[Tensor, " S"]:
            drawn = [
                rows.gather(-1, (batches.uniform64(size) * rows.shape[-1]).long())
                for rows, size in zip((ends, others), sizes, strict=True)
            ]
            return error(*drawn)

        train_until_stale(
            self,
            model,
            loss,
            lambda: error(ends_held, others_held) + _RESOLUTION,
            rows=ends.shape[-1] + others.shape[-1],
            draws=[context.rng.fork("batches")],
            checkpoint=context.checkpoint,
            label="ends of episodes",
        )
        with torch.no_grad():
            model.threshold.copy_(_exceeded_by(int(flags.sum()), model, x))
            found, false = (
                (model.log_odds(x[rows]) > model.threshold[:, None]).double().mean(-1)
                for rows in (ends_held, others_held)
            )
        right = base * found
        predicted = right + (1 - base) * false
        return {
            "base_rate": base,
            "predicted_rate": predicted,
            "accuracy": right + (1 - base) * (1 - false),
            "recall": found,
            "precision": right / predicted,
        }

    def _split(self, kind: Bool[Tensor, " N"], rng: Streams) -> tuple[Int[Tensor, "S n"], Int[Tensor, "S h"]]:
        """(rows to learn from, rows to stop by) of one kind; a single row is both."""
        rows = kind.nonzero()[:, 0]
        learned, held = split_rows(len(rows), self.validation, self.validation_rows, rng)
        return rows[learned if learned.shape[-1] else held], rows[held]


class TerminationModel(nn.Module):
    """One network per seed; takes environment units. What has not been fitted never ends."""

    threshold: Tensor

    def __init__(self, config: TerminationConfig, obs_dim: int, action_dim: int, rng: Streams) -> None:
        super().__init__()
        width = 2 * obs_dim + action_dim
        self.net = MLP((len(rng.seeds),), [width, *config.hidden, 1], rng)
        self.input = Standardize(width, rng)
        self.register_buffer("threshold", torch.full((len(rng.seeds),), torch.inf, device=rng.device))

    def inputs(
        self, obs: Float[Tensor, "*SB O"], action: Float[Tensor, "*SB A"], next_obs: Float[Tensor, "*SB O"]
    ) -> Float[Tensor, "*SB F"]:
        return torch.cat([obs, action, next_obs], -1)

    def log_odds(self, x: Float[Tensor, "S B F"]) -> Float[Tensor, "S B"]:
        """Of an end against none, as if both were equally frequent."""
        return self.net(pad_rows(self.input(x)))[:, : x.shape[1], 0]

    def forward(
        self, obs: Float[Tensor, "S *B O"], action: Float[Tensor, "S *B A"], next_obs: Float[Tensor, "S *B O"]
    ) -> Bool[Tensor, "S *B"]:
        """Whether steps end the episode: what stands in for `Simulator.terminated`."""
        steps = self.inputs(obs, action, next_obs).flatten(1, -2)
        return (self.log_odds(steps) > self.threshold[:, None]).view(obs.shape[:-1])


def _exceeded_by(count: int, model: TerminationModel, x: Float[Tensor, "N F"]) -> Float[Tensor, " S"]:
    """The log-odds that so many rows exceed, for every seed: half-way between two rows."""
    seeds = len(model.threshold)
    parts = [model.log_odds(rows.expand(seeds, -1, -1)) for rows in x.chunk(-(-len(x) * seeds // _CHUNK))]
    highest = torch.cat(parts, -1).topk(count + 1).values
    return highest[:, -2:].mean(-1)
