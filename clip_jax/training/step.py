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
from clip_jax.training.state import TrainState, abstract_state

Step = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]

MAX_LOG_SCALE = math.log(100)


def make_train_step(
    model: CLIP,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
) -> Step:
    """A jitted (state, batch) -> (state, metrics) on the mesh; the old state is given up.

    batch: {"images": uint8 [N, size, size, 3], "tokens": int32 [N, T]}, N the global batch, sharded
    over the data axes; T may differ from call to call, each new one being compiled once.
    """

    apply: Callable[..., Any] = model.apply

    def loss_of(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        image, text, scale = apply({"params": params}, batch["images"], batch["tokens"])
        return contrastive_loss(image, text, scale, mesh=mesh)

    def train_step(
        state: TrainState, batch: dict[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        loss, gradient = jax.value_and_grad(loss_of)(state.params, batch)
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
        return TrainState(state.step + 1, params, opt_state), metrics

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, optimizer, mesh))
    return jax.jit(
        train_step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )
