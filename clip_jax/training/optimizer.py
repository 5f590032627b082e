"""AdamW as the paper uses it."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax

from clip_jax.errors import InputError
from clip_jax.parallel.sharding import path_name

Rates = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay (paper, section 2.5 and table 18)."""

    learning_rate: float = 5e-4
    """Peak learning rate."""
    warmup_steps: int = 2000
    """Steps of linear warm-up from 0."""
    weight_decay: float = 0.2
    """Decoupled decay of matrices; gains, biases and the log-temperature have none."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.98
    """Decay of the second moment (paper: 0.98 for ViTs, 0.999 for ResNets)."""
    epsilon: float = 1e-6
    """Added to the root of the second moment (paper: 1e-6 for ViTs, 1e-8 for ResNets)."""
    clip_norm: float | None = None
    """Scale gradients down to this global norm if theirs is larger; by default never (paper)."""
    first_moment: Literal["float32", "bfloat16"] = "float32"
    """Type in which the first moment is kept; bfloat16 saves two bytes a parameter."""
    rates: Rates = ()
    """Pairs of a regular expression and a factor of the learning rate, for parameters in whose path
    it is found; the first such pair counts. 0 freezes: "^image/" 0 is LiT's locked image tower."""


# Gains, biases and single vectors; everything else is a matrix and decays.
NO_DECAY = re.compile(r"(scale|bias|class_embedding)$")


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up from 0 to the peak, then half a cosine to 0 at the last step."""
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, decay_steps=steps
    )


def decay_mask(params: Any) -> Any:
    """True for every parameter that decays."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not NO_DECAY.search(path_name(path)), params
    )


def rate_factors(params: Any, rates: Rates) -> Any:
    """The factor of the learning rate of every parameter, by OptimizerConfig.rates."""

    def factor(path: tuple[Any, ...], _: Any) -> float:
        name = path_name(path)
        return next((factor for rule, factor in rates if re.search(rule, name)), 1.0)

    return jax.tree_util.tree_map_with_path(factor, params)


def trained_towers(params: Any, rates: Rates) -> frozenset[str]:
    """The parts of forward_flops that `rates` do not freeze altogether."""
    factors = rate_factors(params, rates)
    parts = ("image", "text", "video", "decoder")
    return frozenset(part for part in parts if any(jax.tree.leaves(factors.get(part))))


def check_rates(params: Any, rates: Rates) -> None:
    """Raise InputError for a rule that is found in no parameter's path: it would do nothing."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for rule, _ in rates:
        if not any(re.search(rule, name) for name in names):
            raise InputError(
                f"optimizer.rates: {rule!r} fits no parameter; their paths are such as {names[0]}"
            )


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW over the whole run's schedule, of clipped gradients if the config says so.

    Frozen parameters have no moments.
    """
    schedule = learning_rate_schedule(config, steps)

    def adamw(factor: float) -> optax.GradientTransformation:
        if factor == 0:
            return optax.set_to_zero()
        return optax.adamw(
            lambda count: factor * schedule(count),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            mu_dtype=config.first_moment,
            weight_decay=config.weight_decay,
            mask=decay_mask,
        )

    factors = {1.0, *(factor for _, factor in config.rates)}
    update = adamw(1.0)
    if config.rates:
        update = optax.multi_transform(
            {factor: adamw(factor) for factor in factors},
            lambda tree: rate_factors(tree, config.rates),
        )
    if config.clip_norm is None:
        return update
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
