"""One update: towers, loss, gradient, AdamW, and the clamp of the temperature."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clip_jax.losses import contrastive_loss
from clip_jax.models.clip import CLIP
from clip_jax.parallel.mesh import batch_sharding
from clip_jax.training.optimizer import Rates, rate_factors
from clip_jax.training.state import TrainState, abstract_state

Step = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]

MAX_LOG_SCALE = math.log(100)


def make_train_step(
    model: CLIP,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
    seed: int = 0,
    rates: Rates = (),
) -> Step:
    """A jitted (state, batch) -> (state, metrics) on the mesh; the old state is given up.

    batch: {"images": uint8 [N, size, size, 3], "tokens": int32 [N, T]}, N the global batch, sharded
    over the data axes; T may differ from call to call, each new one being compiled once.
    seed: of what is drawn in the towers (patch dropout), anew for every step.
    rates: those of OptimizerConfig; what they freeze costs no backward pass, and an image tower
    that is frozen altogether runs as in evaluation.
    """

    apply: Callable[..., Any] = model.apply

    def loss_of(
        params: Any, state: TrainState, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, Any]:
        factors = rate_factors(params, rates)
        params = jax.tree.map(lambda p, f: p if f else jax.lax.stop_gradient(p), params, factors)
        (image, text, scale), updated = apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch["images"],
            batch["tokens"],
            train=any(jax.tree.leaves(factors["image"])),
            mutable="batch_stats",
            rngs={"dropout": jax.random.fold_in(jax.random.key(seed), state.step)},
        )
        loss = contrastive_loss(image, text, scale, mesh=mesh)
        return loss, updated.get("batch_stats", {})

    def train_step(
        state: TrainState, batch: dict[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        (loss, batch_stats), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            state.params, state, batch
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # After the update: clamped in the forward pass, the temperature would lose its gradient.
        params["logit_scale"] = jnp.clip(params["logit_scale"], 0, MAX_LOG_SCALE)
        metrics = {
            "loss": loss,
            "logit_scale": jnp.exp(state.params["logit_scale"]),
            "learning_rate": schedule(state.step),
            "gradient_norm": optax.global_norm(gradient),
        }
        return TrainState(state.step + 1, params, batch_stats, opt_state), metrics

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, optimizer, mesh))
    return jax.jit(
        train_step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )
