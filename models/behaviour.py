"""A fitted density of the data's actions, smoothed: what stands in for policies that nobody recorded."""

from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from core.config import STRICT, Count, Inner, Positive
from core.data import Dataset
from core.random import Streams
from models.actors import gaussian_log_prob
from models.bitwise import silu, softplus
from models.nn import MLP, Standardize
from models.training import split_rows, train_until_stale

__all__ = ["BehaviourConfig", "BehaviourModel"]


@dataclass(frozen=True, config=STRICT)
class BehaviourConfig:
    """A mixture density network. Source: Bishop 1994, "Mixture density networks" (Aston University, NCRG/94/004).

    Noise of deviation `smoothing` is added to the actions that it learns from, and no component is narrower: where
    actions are cut at the edge of their box, they have no density without.
    """

    smoothing: Positive  # in action units
    components: Count = 8
    hidden: tuple[Count, ...] = (128, 128)
    learning_rate: Positive = 2e-3
    batch_size: Count = 256
    holdout: Inner = 0.1
    holdout_rows: Count = 2000
    patience: Count = 3
    check_every: Count = 250
    max_updates: Count = 1000

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> "BehaviourModel":
        """An untrained model."""
        return BehaviourModel(self, obs_dim, action_dim, rng)

    def fit(self, model: "BehaviourModel", data: Dataset, rng: Streams) -> None:
        """Maximum likelihood; the weights of the best hold-out likelihood are kept."""
        obs, action = data.train.obs, data.train.action
        train, holdout = split_rows(len(obs), self.holdout, self.holdout_rows, rng.fork("split"))
        model.units.fit(obs, train)
        blur = self.smoothing * rng.fork("holdout").normal(holdout.shape[-1], action.shape[-1])

        def surprise(batches: Streams, noise: Streams) -> Float[Tensor, " S"]:
            rows = train.gather(-1, (batches.uniform64(self.batch_size) * train.shape[-1]).long())
            drawn = self.smoothing * noise.normal(self.batch_size, action.shape[-1])
            return -model.log_prob(obs[rows], action[rows] + drawn).mean(-1)

        train_until_stale(
            model,
            surprise,
            lambda: (-model.log_prob(obs[holdout], action[holdout] + blur).mean(-1)).exp(),  # errors are positive
            draws=[rng.fork("batches"), rng.fork("noise")],
            learning_rate=self.learning_rate,
            updates=self.max_updates,
            check_every=self.check_every,
            patience=self.patience,
            label="behaviour density",
        )


class BehaviourModel(nn.Module):
    """One network per seed; takes environment units."""

    def __init__(self, config: BehaviourConfig, obs_dim: int, action_dim: int, rng: Streams) -> None:
        super().__init__()
        self.components, self.floor = config.components, config.smoothing
        self.units = Standardize(obs_dim, rng)
        self.net = MLP(
            (len(rng.seeds),),
            [obs_dim, *config.hidden, config.components * (1 + 2 * action_dim)],
            rng,
            activation=silu,
        )

    def smoothed_log_prob(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"], std: float
    ) -> Float[Tensor, "S B"]:
        """Log-density of an action with noise; the only deviation it knows is the one it was fitted with.

        Raises:
            ValueError: another deviation is asked for.
        """
        if std != self.floor:
            raise ValueError(f"std must be the smoothing of the fit, {self.floor}, got {std}")
        return self.log_prob(obs, action)

    def log_prob(self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S B"]:
        """The same, with gradients."""
        split: Tensor = self.net(self.units(obs)).unflatten(-1, (self.components, -1))
        weight, (mean, spread) = split[..., 0], split[..., 1:].chunk(2, -1)
        std = self.floor * (1 + softplus(spread))
        each = gaussian_log_prob(action[..., None, :].expand_as(mean), mean, std.log())
        return (weight.log_softmax(-1) + each).logsumexp(-1)
