"""A fitted, smoothed density of the data's actions, for data whose behaviour policy was not recorded."""

from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from core.config import OpenUnit, configuration
from core.data import Dataset
from core.random import Streams
from models.actors import gaussian_log_prob
from models.bitwise import silu, softplus
from models.cache import FitContext
from models.nn import MLP, Standardize
from models.training import EarlyStopped, split_rows, train_until_stale

__all__ = ["BehaviourConfig", "BehaviourModel"]


@configuration
class BehaviourConfig(EarlyStopped):
    """A mixture density network. Source: Bishop 1994, "Mixture density networks" (Aston University, NCRG/94/004).

    Noise of deviation `smoothing` is added to the actions that it learns from, and no component is narrower: where
    actions are cut at the edge of their box, they have no density without.
    """

    smoothing: PositiveFloat  # in action units
    components: PositiveInt = 8
    hidden: tuple[PositiveInt, ...] = (128, 128)
    learning_rate: PositiveFloat = 2e-3
    batch_size: PositiveInt = 256
    validation: OpenUnit = 0.1
    validation_rows: PositiveInt = 2000
    patience: PositiveInt = 3
    check_every: PositiveInt = 250  # updates, however many rows there are: the budget is a thousand
    max_updates: PositiveInt = 1000

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> "BehaviourModel":
        return BehaviourModel(self, obs_dim, action_dim, rng)

    def fit(self, model: "BehaviourModel", data: Dataset, context: FitContext) -> None:
        """Maximum likelihood; the weights of the best validation likelihood are kept."""
        obs = data.train.obs
        action = data.train.action
        train, validation = split_rows(len(obs), self.validation, self.validation_rows, context.rng.fork("split"))
        model.units.fit(obs, train)
        blur = self.smoothing * context.rng.fork("holdout").normal(validation.shape[-1], action.shape[-1])

        def surprise(batches: Streams, noise: Streams) -> Float[Tensor, " S"]:
            rows = train.gather(-1, (batches.uniform64(self.batch_size) * train.shape[-1]).long())
            drawn = self.smoothing * noise.normal(self.batch_size, action.shape[-1])
            return -model.log_prob(obs[rows], action[rows] + drawn).mean(-1)

        train_until_stale(
            self,
            model,
            surprise,
            lambda: (-model.log_prob(obs[validation], action[validation] + blur).mean(-1)).exp(),  # errors are positive
            rows=train.shape[-1],
            draws=[context.rng.fork("batches"), context.rng.fork("noise")],
            checkpoint=context.checkpoint,
            label="behaviour density",
        )


class BehaviourModel(nn.Module):
    """One network per seed; takes environment units."""

    def __init__(self, config: BehaviourConfig, obs_dim: int, action_dim: int, rng: Streams) -> None:
        super().__init__()
        self.components = config.components
        self.floor = config.smoothing
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
        """Log-density of an action with noise, of the deviation that the model was fitted with.

        Raises:
            ValueError: another deviation is asked for.
        """
        if std != self.floor:
            raise ValueError(f"std must be the smoothing of the fit, {self.floor}, got {std}")
        return self.log_prob(obs, action)

    def log_prob(self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S B"]:
        """Log-density of an action with noise, with gradients."""
        split: Tensor = self.net(self.units(obs)).unflatten(-1, (self.components, -1))
        weight = split[..., 0]
        (mean, spread) = split[..., 1:].chunk(2, -1)
        std = self.floor * (1 + softplus(spread))
        each = gaussian_log_prob(action[..., None, :].expand_as(mean), mean, std.log())
        return (weight.log_softmax(-1) + each).logsumexp(-1)
