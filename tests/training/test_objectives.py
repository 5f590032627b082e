"""Every objective: the same on every mesh, in groups by length and in micro-batches."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from states import first_state

from clip_jax import CLIPConfig, TextConfig, ViTConfig
from clip_jax.losses.caption import caption
from clip_jax.losses.sigmoid import sigmoid
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import BagOfWordsConfig, CBOWConfig, DecoderConfig, ResNetConfig
from clip_jax.parallel.mesh import MeshConfig, make_mesh, put_batch
from clip_jax.training.assemble import build_step
from clip_jax.training.config import TrainConfig
from clip_jax.training.lengths import LengthGroups
from clip_jax.training.objectives import OBJECTIVES, Objective
from clip_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from clip_jax.training.step import make_train_step

PLAIN = CLIPConfig(
    embed_dim=16,
    image=ViTConfig(image_size=16, patch_size=8, width=24, layers=1, heads=2),
    text=TextConfig(width=16, layers=1, heads=2, context_length=8, vocab_size=40),
)
CAPTIONER = replace(PLAIN, text=replace(PLAIN.text, read="none"), decoder=DecoderConfig(1))
MODELS = {
    "contrastive": replace(PLAIN, text=CBOWConfig(16, 8, 40), projection="mlp"),
    "bag_of_words": replace(PLAIN, text=BagOfWordsConfig(8, 40)),
    "caption": CAPTIONER,
    "coca": replace(
        PLAIN,
        image=replace(PLAIN.image, pool_queries=5, pool_heads=2),
        text=replace(PLAIN.text, read="class"),
        decoder=DecoderConfig(1),
    ),
}
BY_LENGTH = ("caption", "coca")
STEPS = 3


def batch(step, grouped):
    rng = np.random.default_rng(step)
    tokens, lengths = rng.integers(1, 38, (16, 8), np.int32), rng.integers(3, 9, 16)
    lengths[::8], lengths[1::8], lengths[2::8] = 4, 5, 6  # what the groups below hold
    tokens[np.arange(16), lengths - 1] = 39
    tokens[np.arange(8) >= lengths[:, None]] = 0
    captions = LengthGroups((3, 5), (6, 8)).arrange(tokens) if grouped else {"tokens": tokens}
    return {"images": rng.integers(0, 256, (16, 16, 16, 3), np.uint8), **captions}


def losses(objective, devices, shape, grouped=False, micro_batch=None):
    model, mesh = CLIP(MODELS[objective]), make_mesh(shape, jax.devices()[:devices])
    config = OptimizerConfig(learning_rate=1e-2, warmup_steps=1)
    optimizer = make_optimizer(config, STEPS)
    schedule = learning_rate_schedule(config, STEPS)
    loss = OBJECTIVES[objective].loss
    options = {"objective": loss, "micro_batch": micro_batch}
    with jax.default_matmul_precision("highest"):
        state = first_state(model, optimizer, mesh)
        step = make_train_step(model, optimizer, schedule, mesh, **options)
        values = []
        for number in range(STEPS):
            state, metrics = step(state, put_batch(batch(number, grouped), mesh))
            values.append([float(metrics[name]) for name in sorted(metrics) if "loss" in name])
    return values


@pytest.fixture(scope="module", params=MODELS)
def on_one_device(request):
    return request.param, losses(request.param, 1, MeshConfig())


def test_the_losses_are_the_same_on_every_mesh_and_in_groups(on_one_device):
    """Those of later steps depend on the gradients of those before."""
    objective, expected = on_one_device
    found = losses(objective, 8, MeshConfig(1, 2, 4), grouped=objective in BY_LENGTH)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_the_losses_are_the_same_in_micro_batches(on_one_device):
    objective, expected = on_one_device
    found = losses(objective, 2, MeshConfig(), micro_batch=4)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_captions_in_groups_are_refused_in_micro_batches():
    with pytest.raises(ValueError, match="come with their images in micro-batches"):
        losses("caption", 2, MeshConfig(), grouped=True, micro_batch=4)


@pytest.mark.parametrize(
    ("model", "micro_batch", "groups"),
    [(PLAIN, 8, 3), (CAPTIONER, None, 3), (CAPTIONER, 8, 1), (MODELS["contrastive"], None, 1)],
)
def test_captions_are_cut_into_groups_where_that_helps(model, micro_batch, groups):
    assert TrainConfig(model, micro_batch=micro_batch).most_groups == groups


def test_one_more_objective_is_a_function_and_a_line(monkeypatch):
    """SigLIP's loss beside captions, in the whole step as a recipe makes it."""

    def both(outputs, params, mesh):
        told, _ = sigmoid(outputs, params, mesh)
        written, _ = caption(outputs, params, mesh)
        return told + written, {"told": told, "written": written}

    monkeypatch.setitem(OBJECTIVES, "both", Objective(both, MODELS["coca"].makes))
    model = replace(MODELS["coca"], initial_logit_bias=-1.0)
    config = TrainConfig(model, objective="both", steps=3000)
    mesh, model = make_mesh(MeshConfig()), CLIP(config.model)
    optimizer = make_optimizer(config.optimizer, config.steps)
    step = build_step(config, model, optimizer, mesh)
    _, metrics = step(first_state(model, optimizer, mesh), put_batch(batch(0, False), mesh))
    assert metrics["loss"] == pytest.approx(metrics["told"] + metrics["written"])
    assert metrics["gradient_norm"] > 0


def test_a_decoder_reads_the_places_of_a_resnet():
    """Each place of an image matters to what its captions' tokens become."""
    config = replace(CAPTIONER, image=ResNetConfig(64, 4, (1, 1, 1, 1), heads=4))
    model, rng = CLIP(config), np.random.default_rng(0)
    images = rng.normal(size=(2, 64, 64, 3)).astype(np.float32)
    tokens = batch(0, grouped=False)["tokens"][:2]
    variables = jax.jit(partial(init_variables, model))(jax.random.key(0))

    @jax.jit
    def total(images):
        _, seen = model.apply(variables, images, method="view")
        assert seen.shape == (2, 4, 128)
        return (model.apply(variables, tokens, seen, method="read")[1] ** 2).sum()

    gradient = np.abs(jax.grad(total)(images)).reshape(2, 2, 32, 2, 32, 3).sum(axis=(2, 4, 5))
    assert (gradient > 0).all()
