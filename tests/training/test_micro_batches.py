"""Micro-batches give the update of the whole batch, at less memory and one reduction a step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from states import first_state

from clip_jax import CLIPConfig, Compute, ResNetConfig, TextConfig, VideoConfig, ViTConfig
from clip_jax.losses.sigmoid import sigmoid
from clip_jax.models.clip import CLIP
from clip_jax.parallel.hlo import collectives
from clip_jax.parallel.mesh import MeshConfig, batch_shards, make_mesh, put_batch
from clip_jax.training.lengths import LengthGroups
from clip_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from clip_jax.training.state import abstract_state
from clip_jax.training.step import make_train_step

VIT = CLIPConfig(
    embed_dim=16,
    image=ViTConfig(16, 4, width=16, layers=2, heads=4, patch_dropout=0.5),
    text=TextConfig(width=16, layers=2, heads=4, context_length=8, vocab_size=40),
)
RESNET = dataclasses.replace(
    VIT, image=ResNetConfig(32, width=4, layers=(1, 1, 1, 1), heads=4, frozen_statistics=True)
)
VIDEOS = dataclasses.replace(VIT, video=VideoConfig(2, "beside", layers=2, heads=4))
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, warmup_steps=2)
PAIRS, STEPS = 64, 20


def batch(number, config, pairs=PAIRS):
    rng, shape = np.random.default_rng(number), (pairs, *config.input_shape)
    tokens = rng.integers(1, 38, (pairs, 8), np.int32)
    tokens[np.arange(pairs), rng.integers(1, 8, pairs)] = 39
    return {"images": rng.integers(0, 256, shape, np.uint8), "tokens": tokens}


def keep_gradient():
    """An optimizer whose state is the last gradient and whose updates are nothing."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda gradient, state, params: (jax.tree.map(jnp.zeros_like, gradient), gradient),
    )


def gradient(config, mesh, pairs=None, **options):
    model, optimizer = CLIP(config), keep_gradient()
    step = make_train_step(model, optimizer, optax.constant_schedule(0.0), mesh, **options)
    with jax.default_matmul_precision("highest"):
        state, metrics = step(
            first_state(model, optimizer, mesh), put_batch(pairs or batch(0, config), mesh)
        )
    return metrics["loss"], state.opt_state


@functools.cache
def whole_gradient(config, **options):
    """Loss and gradient of the whole batch in one pass on one device."""
    return gradient(config, one_device(), **options)


def check(actual, expected):
    """Leaf by leaf within 1e-5 of its norm, and of a millionth of the whole gradient's."""
    expected = jax.tree.map(np.asarray, expected)
    floor = 1e-6 * sum(np.linalg.norm(leaf) ** 2 for leaf in jax.tree.leaves(expected)) ** 0.5
    for (path, there), here in zip(
        jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(actual), strict=True
    ):
        here = np.asarray(here)
        assert np.linalg.norm(here - there) <= 1e-5 * np.linalg.norm(there) + floor, path


def one_device():
    return make_mesh(MeshConfig(), jax.devices()[:1])


@pytest.mark.parametrize(
    ("config", "shape", "micro_batch"),
    [
        (VIT, (1, 1, 1), 8),
        (VIT, (1, 1, 1), 1),
        (VIT, (1, 1, 2), 8),
        (VIT, (2, 2, 2), 2),
        (RESNET, (4, 1, 1), 2),
        (VIDEOS, (4, 1, 1), 2),
    ],
)
def test_the_gradient_is_that_of_the_whole_batch(config, shape, micro_batch):
    """Dropped patches included: they are drawn for the batch, not for its parts."""
    mesh = make_mesh(MeshConfig(*shape), jax.devices()[: np.prod(shape)])
    expected_loss, expected = whole_gradient(config)
    loss, actual = gradient(config, mesh, micro_batch=micro_batch)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    check(actual, expected)


def test_the_sigmoid_loss_too():
    config = dataclasses.replace(VIT, initial_logit_scale=10.0, initial_logit_bias=-10.0)
    options = {"objective": sigmoid}
    expected_loss, expected = whole_gradient(config, **options)
    loss, actual = gradient(config, make_mesh(MeshConfig(4, 1, 2)), micro_batch=4, **options)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    check(actual, expected)


@pytest.mark.parametrize(("shape", "micro_batch"), [((4, 1, 1), None), ((2, 2, 2), 4)])
def test_captions_in_groups_by_length_too(shape, micro_batch):
    mesh = make_mesh(MeshConfig(*shape), jax.devices()[: np.prod(shape)])
    expected_loss, expected = whole_gradient(VIT)
    pairs = batch(0, VIT)
    share = PAIRS // batch_shards(mesh)
    groups = LengthGroups((share // 4, share // 4, share // 2), (5, 7, 8))
    pairs |= groups.arrange(pairs["tokens"])
    loss, actual = gradient(VIT, mesh, pairs, micro_batch=micro_batch)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    check(actual, expected)


def make_step(mesh, compute=None, **options):
    model, optimizer = CLIP(VIT, compute or Compute()), make_optimizer(OPTIMIZER, STEPS)
    schedule = learning_rate_schedule(OPTIMIZER, STEPS)
    return model, optimizer, make_train_step(model, optimizer, schedule, mesh, **options)


def losses(mesh, **options):
    model, optimizer, step = make_step(mesh, **options)
    state, values = first_state(model, optimizer, mesh), []
    with jax.default_matmul_precision("highest"):
        for number in range(STEPS):
            state, metrics = step(state, put_batch(batch(number, VIT), mesh))
            values.append(float(metrics["loss"]))
    return values


def test_twenty_steps_give_the_losses_of_single_passes():
    expected = losses(one_device())
    np.testing.assert_allclose(losses(one_device(), micro_batch=8), expected, rtol=1e-5)


def compiled(mesh, pairs, **options):
    model, optimizer, step = make_step(mesh, **options)
    shapes = {
        name: jax.ShapeDtypeStruct(rows.shape, rows.dtype)
        for name, rows in batch(0, VIT, pairs).items()
    }
    return step.lower(abstract_state(model, optimizer, mesh), shapes).compile()


def test_micro_batches_save_memory():
    whole, parts = (
        compiled(one_device(), 2048, **options).memory_analysis().temp_size_in_bytes
        for options in ({}, {"micro_batch": 128})
    )
    assert parts < whole / 4


def test_gradients_are_reduced_once_a_step():
    """However many micro-batches there are: a collective in a loop over them would count more."""
    text = compiled(make_mesh(MeshConfig(2, 4)), 512, micro_batch=8).as_text()
    assert {c.times for c in collectives(text) if c.devices > 1} == {1}


def test_statistics_of_parts_are_refused():
    """But those of a locked tower stay as they are."""
    resnet = dataclasses.replace(
        RESNET, image=dataclasses.replace(RESNET.image, frozen_statistics=False)
    )
    options = {"seed": 0, "micro_batch": 8}
    schedule, mesh = optax.constant_schedule(0.0), one_device()
    with pytest.raises(ValueError, match="normalise by their own statistics"):
        make_train_step(CLIP(resnet), keep_gradient(), schedule, mesh, **options)
    locked = (("^image/", 0.0),)
    make_train_step(CLIP(resnet), keep_gradient(), schedule, mesh, rates=locked, **options)
