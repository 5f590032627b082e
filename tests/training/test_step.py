"""The train step: the same losses on every mesh, in bfloat16 too; the clamp; no copies kept."""

import dataclasses
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params
from states import first_state

from clip_jax import CLIPConfig, Compute, ResNetConfig, TextConfig, ViTConfig
from clip_jax.losses import contrastive_loss_reference
from clip_jax.models.clip import CLIP
from clip_jax.parallel.hlo import collectives
from clip_jax.parallel.mesh import MeshConfig, make_mesh, put_batch
from clip_jax.parallel.sharding import path_name
from clip_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from clip_jax.training.state import abstract_state
from clip_jax.training.step import make_train_step

CONFIG = CLIPConfig(
    embed_dim=16,
    image=ViTConfig(image_size=16, patch_size=8, width=16, layers=2, heads=4),
    text=TextConfig(width=16, layers=2, heads=4, context_length=8, vocab_size=40),
)
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, warmup_steps=2)
STEPS = 6


def batch(step, count=16):
    rng = np.random.default_rng(step)
    tokens = rng.integers(1, 38, (count, 8), np.int32)
    tokens[np.arange(count), rng.integers(1, 8, count)] = 39
    return {"images": rng.integers(0, 256, (count, 16, 16, 3), np.uint8), "tokens": tokens}


def setup(mesh, compute=None, optimizer=None):
    model = CLIP(CONFIG, compute or Compute())
    schedule = learning_rate_schedule(OPTIMIZER, STEPS)
    optimizer = optimizer or make_optimizer(OPTIMIZER, STEPS)
    state = first_state(model, optimizer, mesh)
    return model, state, make_train_step(model, optimizer, schedule, mesh)


def losses(devices, shape, **compute):
    mesh = make_mesh(shape, jax.devices()[:devices])
    with jax.default_matmul_precision("highest"):
        _, state, step = setup(mesh, Compute(**compute))
        values = []
        for number in range(STEPS):
            state, metrics = step(state, put_batch(batch(number), mesh))
            values.append(float(metrics["loss"]))
    return values


@pytest.fixture(scope="module")
def on_one_device():
    return losses(1, MeshConfig())


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 4, 1), (2, 2, 2)])
def test_losses_do_not_depend_on_the_mesh(on_one_device, shape):
    np.testing.assert_allclose(losses(8, MeshConfig(*shape)), on_one_device, rtol=2e-5)


def test_unrolled_and_recomputed_steps_give_the_same(on_one_device):
    actual = losses(1, MeshConfig(), unroll=True, remat="full")
    np.testing.assert_allclose(actual, on_one_device, rtol=2e-5)


def test_bfloat16_follows_closely(on_one_device):
    actual = losses(1, MeshConfig(), dtype="bfloat16")
    np.testing.assert_allclose(actual, on_one_device, rtol=0.02)


def test_first_loss_is_the_reference_loss(on_one_device):
    model, state, _ = setup(make_mesh(MeshConfig(), jax.devices()[:1]))
    inputs = batch(0)
    with jax.default_matmul_precision("highest"):
        embedded = model.apply({"params": state.params}, inputs["images"], inputs["tokens"])
        reference = contrastive_loss_reference(*embedded)
    np.testing.assert_allclose(on_one_device[0], reference, rtol=1e-5)


@pytest.mark.parametrize(("direction", "limit"), [(1.0, math.log(100)), (-1.0, 0.0)])
def test_temperature_is_clamped_after_the_update_and_keeps_its_gradient(direction, limit):
    """The optimizer pushes it by 10, out of the bounds, and then back by its gradient's size."""

    def update(gradient, count, params):
        push = jnp.where(count == 0, 10.0, -0.01 * abs(gradient["logit_scale"]))
        return jax.tree.map(jnp.zeros_like, gradient) | {"logit_scale": direction * push}, count + 1

    optimizer = optax.GradientTransformation(lambda params: jnp.zeros((), int), update)
    _, state, step = setup(make_mesh(MeshConfig(), jax.devices()[:1]), optimizer=optimizer)
    state, _ = step(state, batch(0))
    np.testing.assert_allclose(state.params["logit_scale"], limit, rtol=1e-6)
    state, _ = step(state, batch(0))
    assert 0 < float(state.params["logit_scale"]) < math.log(100) - 1e-6


RESNET = dataclasses.replace(CONFIG, image=ResNetConfig(32, width=4, layers=(1, 2, 1, 1), heads=4))


def resnet_run(mesh, rates=()):
    """The state before and after two steps, and their losses."""
    model = CLIP(RESNET)
    optimizer = make_optimizer(dataclasses.replace(OPTIMIZER, rates=rates), STEPS)
    schedule = learning_rate_schedule(OPTIMIZER, STEPS)
    state = first_state(model, optimizer, mesh)
    before = jax.tree.map(np.asarray, state)
    step, values = make_train_step(model, optimizer, schedule, mesh, rates=rates), []
    with jax.default_matmul_precision("highest"):
        for number in range(2):
            inputs = batch(number)
            inputs["images"] = np.random.default_rng(9).integers(0, 256, (16, 32, 32, 3), np.uint8)
            state, metrics = step(state, put_batch(inputs, mesh))
            values.append(float(metrics["loss"]))
    return before, state, values


def test_a_resnet_trains_alike_on_one_device_and_on_eight():
    """Batch statistics are global; the running ones are part of the state."""
    before, one, losses_of_one = resnet_run(make_mesh(MeshConfig(), jax.devices()[:1]))
    _, eight, losses_of_eight = resnet_run(make_mesh(MeshConfig(2, 2, 2)))
    np.testing.assert_allclose(losses_of_eight, losses_of_one, rtol=2e-5)
    for old, a, b in zip(
        *map(jax.tree.leaves, (before.batch_stats, one.batch_stats, eight.batch_stats)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
        assert not np.allclose(old, a)


def test_a_frozen_tower_stays_as_it_is():
    """LiT: neither the image tower's parameters nor its running statistics move."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    before, after, _ = resnet_run(mesh, rates=(("^image/", 0.0),))
    jax.tree.map(np.testing.assert_array_equal, before.batch_stats, after.batch_stats)
    jax.tree.map(np.testing.assert_array_equal, before.params["image"], after.params["image"])
    moved = jax.tree.map(
        lambda old, new: bool((old != new).any()), before.params["text"], after.params["text"]
    )
    assert moved["projection"]
    moments = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(after.opt_state)]
    assert any("/text/" in name for name in moments)
    assert not any("/image/" in name for name in moments)


def test_every_step_draws_other_patches():
    """At a learning rate of 0, one batch gives another loss at the next step, the same again."""
    image = dataclasses.replace(CONFIG.image, patch_dropout=0.5)
    model, mesh = CLIP(dataclasses.replace(CONFIG, image=image)), make_mesh(MeshConfig(8))
    optimizer = optax.set_to_zero()
    step = make_train_step(model, optimizer, optax.constant_schedule(0.0), mesh)
    inputs, values = put_batch(batch(0), mesh), []
    for _ in range(2):
        state = first_state(model, optimizer, mesh)
        for _ in range(2):
            state, metrics = step(state, inputs)
            values.append(float(metrics["loss"]))
    assert values[0] != values[1]
    assert values[:2] == values[2:]


def test_a_frozen_tower_reads_all_patches():
    """It runs as in evaluation: nothing is drawn, and one batch gives one loss."""
    image = dataclasses.replace(CONFIG.image, patch_dropout=0.5)
    model, mesh = CLIP(dataclasses.replace(CONFIG, image=image)), make_mesh(MeshConfig(8))
    optimizer, rates = optax.set_to_zero(), (("^image/", 0.0),)
    step = make_train_step(model, optimizer, optax.constant_schedule(0.0), mesh, rates=rates)
    inputs, values = put_batch(batch(0), mesh), []
    state = first_state(model, optimizer, mesh)
    for _ in range(2):
        state, metrics = step(state, inputs)
        values.append(float(metrics["loss"]))
    assert values[0] == values[1]


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted():
    """Without it, the run would have gone the same way, learning rates included."""
    mesh = make_mesh(MeshConfig(2, 2, 2))
    _, state, step = setup(mesh)
    state, _ = step(state, put_batch(batch(0), mesh))
    before = jax.tree.map(np.asarray, state)
    nan = jax.device_put(jnp.float32(jnp.nan), state.params["logit_scale"].sharding)
    state = state.replace(params=state.params | {"logit_scale": nan})
    state, metrics = step(state, put_batch(batch(1), mesh))
    assert (int(metrics["skipped_updates"]), int(metrics["skipped_in_a_row"])) == (1, 1)
    scale = jax.device_put(before.params["logit_scale"], nan.sharding)
    state = state.replace(params=state.params | {"logit_scale": scale})
    after = jax.tree.map(np.asarray, state)
    assert (before.step, after.step) == (1, 2)
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    jax.tree.map(np.testing.assert_array_equal, after.opt_state, before.opt_state)
    state, metrics = step(state, put_batch(batch(1), mesh))
    rate = learning_rate_schedule(OPTIMIZER, STEPS)(1)
    assert (int(metrics["skipped_updates"]), int(metrics["skipped_in_a_row"])) == (1, 0)
    assert float(metrics["learning_rate"]) == float(rate)


def test_old_state_is_given_up_and_the_new_one_stays_in_place():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    _, state, step = setup(mesh)
    before = jax.tree.map(lambda leaf: leaf.sharding, state)
    after, _ = step(state, put_batch(batch(0), mesh))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert jax.tree.map(lambda leaf: leaf.sharding, after) == before


def casts(jaxpr):
    """Shape -> how many arrays of it a program casts to bfloat16; a loop's body counts once."""
    found = Counter()
    for equation in jaxpr.eqns:
        if equation.params.get("new_dtype") == jnp.bfloat16:
            found[equation.invars[0].aval.shape] += 1
        for inner in jaxprs_in_params(equation.params):
            found += casts(inner)
    return found


@pytest.mark.parametrize("unroll", [False, True])
def test_every_matrix_is_cast_once_a_step(unroll):
    """The backward pass has what the forward pass cast; the last block runs by itself."""
    image = ViTConfig(16, 4, width=48, layers=3, heads=4)  # no activation has its matrices' shapes
    model = CLIP(dataclasses.replace(CONFIG, image=image), Compute(dtype="bfloat16", unroll=unroll))
    optimizer, mesh = make_optimizer(OPTIMIZER, STEPS), make_mesh(MeshConfig(), jax.devices()[:1])
    step = make_train_step(model, optimizer, learning_rate_schedule(OPTIMIZER, STEPS), mesh)
    found = casts(jax.make_jaxpr(step)(abstract_state(model, optimizer, mesh), batch(0)).jaxpr)
    assert (found[48, 192], found[192, 48], found[48, 16]) == (2, 2, 1)


def test_what_is_split_over_fsdp_is_gathered_and_not_the_batch():
    """Of 1,024 pairs, the first layer's activations alone are larger than all parameters."""
    mesh = make_mesh(MeshConfig(fsdp=8))
    model = CLIP(CONFIG, Compute(unroll=True))
    optimizer = make_optimizer(OPTIMIZER, STEPS)
    state = abstract_state(model, optimizer, mesh)
    schedule = learning_rate_schedule(OPTIMIZER, STEPS)
    inputs = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch(0, 1024).items()}
    step = make_train_step(model, optimizer, schedule, mesh).lower(state, inputs).compile()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params)) * 4
    texts = 1024 * CONFIG.embed_dim * 4
    gathered = sum(c.bytes for c in collectives(step.as_text()) if c.kind == "all-gather")
    assert gathered <= parameters + texts
    exchanged = {c.kind for c in collectives(step.as_text())}
    assert exchanged <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_what_is_split_over_tensor_stays_split():
    """Heads above all: the texts, for the loss, are all that is gathered."""
    mesh = make_mesh(MeshConfig(data=4, tensor=2))
    model, optimizer = CLIP(CONFIG, Compute()), make_optimizer(OPTIMIZER, STEPS)
    inputs = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch(0, 1024).items()}
    step = make_train_step(model, optimizer, learning_rate_schedule(OPTIMIZER, STEPS), mesh)
    text = step.lower(abstract_state(model, optimizer, mesh), inputs).compile().as_text()
    exchanged = [c for c in collectives(text) if c.kind not in ("all-reduce", "reduce-scatter")]
    assert [(c.kind, c.bytes) for c in exchanged] == [("all-gather", 1024 * CONFIG.embed_dim * 4)]
