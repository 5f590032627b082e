"""What a train step holds: counted by hand; measured here, and by the TPU compiler where it is."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from clip_jax import CLIPConfig, TextConfig, VideoConfig, ViTConfig
from clip_jax.errors import InputError
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.training.assemble import build_model
from clip_jax.training.config import DataConfig, TrainConfig
from clip_jax.training.footprint import (
    abstract_batch,
    held_bytes,
    measure,
    shortfall,
    vocabulary_size,
)
from clip_jax.training.optimizer import OptimizerConfig, make_optimizer, trained_towers
from clip_jax.training.state import abstract_state, init_state

RECIPE = TrainConfig(
    model=CLIPConfig(
        embed_dim=16,
        image=ViTConfig(image_size=16, patch_size=8, width=32, layers=2, heads=4),
        text=TextConfig(width=32, layers=2, heads=4, context_length=8),
    ),
    data=DataConfig(train="wds:nowhere", vocab_size=64),
    optimizer=OptimizerConfig(warmup_steps=1),
    steps=10,
    batch_size=16,
    dry_run="here",
)


def state_of(mesh, config=RECIPE):
    model = build_model(config, vocabulary_size(config), mesh)
    optimizer = make_optimizer(config.optimizer, config.steps)
    return (
        abstract_state(model, optimizer, mesh),
        init_state(model, optimizer, mesh, seed=0),
    )


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_held_bytes_are_those_of_a_real_state(shape):
    """Compared with the shards of one device's arrays."""
    mesh = make_mesh(MeshConfig(*shape))
    abstract, real = state_of(mesh)
    held = held_bytes(abstract, abstract_batch(RECIPE, mesh))
    device = jax.devices()[0]

    def bytes_on_device(tree):
        shards = [s for leaf in jax.tree.leaves(tree) for s in leaf.addressable_shards]
        return sum(shard.data.nbytes for shard in shards if shard.device == device)

    pairs = 16 // (shape[0] * shape[1])
    assert held == {
        "parameters": bytes_on_device(real.params),
        "optimizer state": bytes_on_device(real.opt_state),
        "batch": pairs * (16 * 16 * 3 + 8 * 4),
        "batches ahead": 2 * pairs * (16 * 16 * 3 + 8 * 4),
    }


def test_a_step_is_measured_on_these_devices():
    """Nothing is read: the recipe's data does not exist."""
    config = dataclasses.replace(RECIPE, mesh=MeshConfig(2, 2, 2))
    found = measure(config)
    assert found.mesh == {"data": 2, "fsdp": 2, "tensor": 2}
    float_images = 4 * 16 * 16 * 3 * np.float32().nbytes  # of one device, standardised
    assert sum(found.held.values()) + float_images < found.needed < 2**30 < found.memory
    assert found.fits
    gathered = 16 * 16 * np.float32().nbytes
    assert gathered in [c.bytes for c in found.collectives if c.kind == "all-gather"]
    assert all(c.devices > 1 for c in found.collectives)


@pytest.mark.parametrize(
    ("rules", "trained"),
    [
        ((), {"image", "text"}),
        ((("^image/", 0.0),), {"text"}),
        ((("^image/", 0.1), ("", 0.0)), {"image"}),
        ((("", 0.0),), set()),
    ],
)
def test_frozen_towers_are_told_apart(rules, trained):
    params = {"image": {"a": 1}, "text": {"b": 2}, "logit_scale": 3}
    assert trained_towers(params, rules) == trained


def test_a_model_of_videos_has_their_frames_in_its_batch_and_its_own_part_trained():
    video = VideoConfig(3, "inside", layers=1, heads=4)
    config = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, video=video))
    mesh = make_mesh(MeshConfig(data=8))
    assert abstract_batch(config, mesh)["images"].shape == (16, 3, 16, 16, 3)
    state, _ = state_of(mesh, config)
    assert trained_towers(state.params, ()) == {"image", "text", "video"}
    assert trained_towers(state.params, (("^(image|text)/", 0.0),)) == {"video"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 12}, "batch_size 12 is not divisible by the 8 parts"),
        ({"mesh": MeshConfig(3)}, "does not fit 8 devices"),
        (
            {"optimizer": OptimizerConfig(warmup_steps=1, rates=(("^nothing/", 0.0),))},
            "fits no parameter",
        ),
    ],
)
def test_what_training_would_refuse_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        measure(dataclasses.replace(RECIPE, **changes))


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, 64),
        ({"init_from": "hf://some/model"}, 49408),
        ({"data": DataConfig(vocab_size=64, tokenizer="merges.txt")}, 49408),
    ],
)
def test_the_vocabulary_is_the_recipe_s(changes, size):
    assert vocabulary_size(dataclasses.replace(RECIPE, **changes)) == size


@pytest.mark.parametrize(
    ("message", "needed", "there"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (90.19G) exceeds available HBM (15.75G).",
            90.19,
            15.75,
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (4.61T) exceeds available HBM (15.75G).",
            4.61 * 1024,
            15.75,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 17.50G of 15.75G hbm. Exceeded hbm capacity by 1.75G.",
            17.5,
            15.75,
        ),
    ],
)
def test_the_compiler_s_complaint(message, needed, there):
    assert shortfall(message) == pytest.approx((needed * 2**30, there * 2**30), abs=1)


def test_any_other_complaint_is_passed_on():
    with pytest.raises(InputError, match="cannot be compiled: INTERNAL: something"):
        shortfall("INTERNAL: something\nmore of it")


# --- with the TPU compiler


def test_a_step_is_measured_on_a_tpu(tpu):
    found = measure(dataclasses.replace(RECIPE, dry_run="tpu:v5e-4", mesh=MeshConfig(fsdp=2)))
    assert found.fits
    assert math.prod(found.mesh.values()) == 4
    float_images = 4 * 16 * 16 * 3 * np.float32().nbytes
    assert sum(found.held.values()) + float_images < found.needed < found.memory == 2**34
    assert found.cycles > 0
    assert {"all-gather", "all-reduce"} <= {c.kind for c in found.collectives}


def test_a_step_that_is_too_large_for_a_tpu(tpu):
    """The images alone are 18 GB."""
    large = dataclasses.replace(RECIPE.model.image, image_size=256)
    model = dataclasses.replace(RECIPE.model, image=large)
    found = measure(
        dataclasses.replace(RECIPE, model=model, batch_size=90_000, dry_run="tpu:v5e-1")
    )
    assert not found.fits
    assert found.memory == pytest.approx(15.75 * 2**30)
    assert found.needed > found.held["batch"] > 17e9
    assert found.collectives == ()
