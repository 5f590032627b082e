"""Matrices are cast once a step, wherever they are used, and their gradients stay float32."""

import dataclasses
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from states import first_state, keep_gradient

from clip_jax import CLIPConfig, Compute, ResNetConfig, TextConfig, VideoConfig, ViTConfig
from clip_jax.models.clip import CLIP
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.parallel.sharding import path_name
from clip_jax.training import embedding
from clip_jax.training.casting import MATRICES
from clip_jax.training.state import abstract_state
from clip_jax.training.step import make_train_step

CONFIG = CLIPConfig(
    embed_dim=24,
    image=ViTConfig(16, 4, width=48, layers=3, heads=4),
    text=TextConfig(width=40, layers=4, heads=4, context_length=8, vocab_size=52),
)
RESNET = dataclasses.replace(
    CONFIG, image=ResNetConfig(32, width=4, layers=(1, 1, 1, 1), heads=4, frozen_statistics=True)
)
VIDEOS = dataclasses.replace(CONFIG, video=VideoConfig(2, "beside", layers=2, heads=4))
PAIRS = 16


def batch(config):
    rng, shape = np.random.default_rng(0), (PAIRS, *config.input_shape)
    tokens = rng.integers(1, 50, (PAIRS, 8), np.int32)
    tokens[np.arange(PAIRS), rng.integers(1, 8, PAIRS)] = 51
    return {"images": rng.integers(0, 256, shape, np.uint8), "tokens": tokens}


def make_step(config, mesh, remat="none", micro_batch=None):
    model = CLIP(config, Compute(dtype="bfloat16", remat=remat))
    schedule = optax.constant_schedule(0.0)
    step = make_train_step(model, keep_gradient(), schedule, mesh, micro_batch=micro_batch)
    return model, step


def conversions(jaxpr):
    """Shape -> how many arrays of it are cast to bfloat16, in this program and those inside it."""
    found = Counter()
    for equation in jaxpr.eqns:
        if equation.params.get("new_dtype") == jnp.bfloat16:
            found[equation.invars[0].aval.shape] += 1
        for inner in jax.core.jaxprs_in_params(equation.params):
            found += conversions(inner)
    return found


@pytest.mark.parametrize("micro_batch", [None, 4])
@pytest.mark.parametrize("remat", ["none", "full"])
def test_every_matrix_is_cast_once(remat, micro_batch):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    model, step = make_step(CONFIG, mesh, remat, micro_batch)
    state = abstract_state(model, keep_gradient(), mesh)
    found = conversions(jax.make_jaxpr(step)(state, batch(CONFIG)).jaxpr)
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    matrices = {path_name(p): leaf.shape for p, leaf in leaves if MATRICES.search(path_name(p))}
    assert len(matrices) == 11
    for name, shape in matrices.items():
        assert found[shape] == [*matrices.values()].count(shape), name
        if "blocks" in name:
            assert found[shape[1:]] == 0, name


@pytest.mark.parametrize("micro_batch", [None, 4])
@pytest.mark.parametrize("config", [CONFIG, RESNET, VIDEOS], ids=["vit", "resnet", "videos"])
def test_loss_and_gradient_are_those_of_casts_in_place(config, micro_batch, monkeypatch):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    results = []
    for _ in range(2):
        model, step = make_step(config, mesh, micro_batch=micro_batch)
        state, metrics = step(first_state(model, keep_gradient(), mesh), batch(config))
        results.append((metrics["loss"], state.opt_state))
        monkeypatch.setattr(embedding, "in_place", lambda copies, params: params)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(results[0]))
    jax.tree.map(np.testing.assert_array_equal, *results)
