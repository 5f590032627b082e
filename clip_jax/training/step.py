"""One update: towers, loss, gradient, AdamW, and the clamp of the temperature."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clip_jax.losses.contrastive import contrastive
from clip_jax.losses.outputs import Loss
from clip_jax.models.clip import CLIP
from clip_jax.parallel.mesh import BATCH_AXES, batch_sharding
from clip_jax.parallel.sharding import whole_over
from clip_jax.training.embedding import Batch, make_embed
from clip_jax.training.optimizer import Rates, rate_factors
from clip_jax.training.state import TrainState, abstract_state

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]

MAX_LOG_SCALE = math.log(100)


def make_train_step(
    model: CLIP,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
    *,
    seed: int = 0,
    rates: Rates = (),
    objective: Loss = contrastive,
    micro_batch: int | None = None,
) -> Step:
    """A jitted (state, batch) -> (state, metrics) on the mesh; the old state is given up.

    A step whose loss or gradient is not finite changes nothing but the step's number and `health`.
    batch: {"images": uint8 [N, size, size, 3], "tokens": int32 [N, T]}, N the global batch, sharded
    over the data axes; or "tokens" in groups and their "order", as LengthGroups.arrange makes them.
    Lengths may differ from call to call, new ones being compiled once.
    seed: of what is drawn in training (patch dropout), anew for every step.
    rates: those of OptimizerConfig; what they freeze costs no backward pass, and an image tower
    that is frozen altogether runs as in evaluation.
    objective: what is minimised; it has to fit what the model makes.
    micro_batch: pairs that a device embeds at once, dividing its share of the batch; by default all
    of them. The update is the same; ValueError for a ResNet whose statistics are not frozen.
    """
    target = abstract_state(model, optimizer, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    gathered = whole_over(BATCH_AXES, shardings.params)
    factors = rate_factors(target.params, rates)
    train_image = any(jax.tree.leaves(factors["image"]))
    embed = make_embed(model, mesh, train_image, micro_batch)

    def loss_of(params: Any, state: TrainState, batch: Batch) -> tuple[jax.Array, Any]:
        params = jax.tree.map(lambda p, f: p if f else jax.lax.stop_gradient(p), params, factors)
        # Left to itself, the partitioner keeps split parameters and gathers the batch instead.
        params = jax.lax.with_sharding_constraint(params, gathered)
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs, batch_stats = embed(variables, batch, key)
        with jax.named_scope("loss"):
            loss, terms = objective(outputs, params, mesh)
        return loss, (terms, batch_stats)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        (loss, (terms, batch_stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            state.params, state, batch
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # After the update: clamped in the forward pass, the temperature would lose its gradient.
        params["logit_scale"] = jnp.clip(params["logit_scale"], 0, MAX_LOG_SCALE)
        gradient_norm = optax.global_norm(gradient)
        health = state.health.after(loss, gradient_norm)
        metrics = {
            "loss": loss,
            **terms,
            "logit_scale": jnp.exp(state.params["logit_scale"]),
            "learning_rate": schedule(state.step - state.health.skipped),
            "gradient_norm": gradient_norm,
            "loss_spikes": health.spikes,
            "skipped_updates": health.skipped,
            "skipped_in_a_row": health.skipped_in_a_row,
        }
        updated = TrainState(state.step + 1, params, batch_stats, opt_state, health)
        skipped = state.replace(step=state.step + 1, health=health)
        finite = health.skipped_in_a_row == 0
        return jax.tree.map(partial(jnp.where, finite), updated, skipped), metrics

    return jax.jit(
        train_step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )
