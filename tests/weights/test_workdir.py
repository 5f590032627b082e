"""A workdir's checkpoint read as a model: parameters and running statistics, without the rest."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from clip_jax import VideoConfig
from clip_jax.errors import InputError
from clip_jax.models.clip import CLIP
from clip_jax.models.config import BagOfWordsConfig, CBOWConfig, DecoderConfig, TextConfig
from clip_jax.models.presets import PRESETS
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.training.checkpoints import Checkpoints
from clip_jax.training.config import CheckpointConfig
from clip_jax.training.state import abstract_state
from clip_jax.weights.workdir import (
    checksum,
    config_from_json,
    config_to_json,
    is_workdir,
    read_model,
)


def save(workdir: Path, name: str, seed: int = 0):
    """A checkpoint of made-up numbers, written on 8 devices; its state."""
    mesh, rng = make_mesh(MeshConfig(2, 2, 2)), np.random.default_rng(seed)
    state = jax.tree.map(
        lambda leaf: jax.device_put(rng.normal(size=leaf.shape).astype(leaf.dtype), leaf.sharding),
        abstract_state(CLIP(PRESETS[name]), optax.adamw(1e-3), mesh),
    )
    with contextlib.closing(Checkpoints(workdir, CheckpointConfig())) as checkpoints:
        checkpoints.save(3, state, {"model": config_to_json(PRESETS[name])})
    return state


@pytest.mark.parametrize("name", ["ViT-tiny", "RN-tiny"])
def test_a_model_is_read_on_one_device(tmp_path, name):
    state = save(tmp_path, name)
    config, variables = read_model(tmp_path)
    assert config == PRESETS[name]
    jax.tree.map(np.testing.assert_array_equal, variables["params"], state.params)
    jax.tree.map(np.testing.assert_array_equal, variables["batch_stats"], state.batch_stats)
    assert bool(variables["batch_stats"]) == (name == "RN-tiny")
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(variables))


def test_the_checksum_is_that_of_the_bits_however_they_are_split():
    rng, mesh = np.random.default_rng(0), make_mesh(MeshConfig())
    whole = {"a": rng.normal(size=(16, 3)).astype(np.float32), "b": np.arange(7, dtype=np.int32)}
    split = {
        "a": jax.device_put(whole["a"], NamedSharding(mesh, P("data"))),
        "b": jax.device_put(whole["b"], NamedSharding(mesh, P())),
    }
    total = 0
    for number, leaf in enumerate(whole.values()):
        total += (2 * number + 1) * int(leaf.view("u4").sum(dtype=np.uint64))
    assert int(checksum(split)) == int(checksum(whole)) == total % 2**32


def test_numbers_or_an_architecture_that_were_not_saved_are_not_believed(tmp_path):
    """Whole in themselves: another run's weights, and a model with another activation."""
    for name, seed in (("one", 0), ("other", 1)):
        save(tmp_path / name, "ViT-tiny", seed)
    ours, other = (tmp_path / name / "checkpoints/3" for name in ("one", "other"))
    about = ours / "run/metadata"
    text = about.read_text()
    about.write_text(text.replace("quick_gelu", "gelu"))
    with pytest.raises(
        InputError, match=r"checkpoints/3: is damaged \(what it says .*move it away"
    ):
        read_model(tmp_path / "one")
    about.write_text(text)
    read_model(tmp_path / "one")
    shutil.rmtree(ours / "state")
    shutil.move(other / "state", ours)
    with pytest.raises(InputError, match=r"is damaged \(its numbers are not those that were saved"):
        read_model(tmp_path / "one")


@pytest.mark.parametrize("name", PRESETS)
def test_architectures_survive_json(name):
    assert config_from_json(config_to_json(PRESETS[name]), "run") == PRESETS[name]


def test_models_of_videos_survive_json_and_those_before_them_too():
    images = PRESETS["ViT-tiny"]
    videos = dataclasses.replace(images, video=VideoConfig(4, "inside", layers=2, heads=4))
    assert config_from_json(config_to_json(videos), "run") == videos
    before = config_to_json(images)
    del before["video"]
    assert config_from_json(before, "run") == images


@pytest.mark.parametrize("name", ["ViT-tiny", "RN-tiny"])
@pytest.mark.parametrize(
    "changes",
    [
        {"text": TextConfig(24, 1, 2, read="class"), "decoder": DecoderConfig(2)},
        {"text": TextConfig(24, 1, 2, read="none"), "decoder": DecoderConfig(2)},
        {"text": CBOWConfig(24, 12, 50)},
        {"text": BagOfWordsConfig(12, 50)},
    ],
)
def test_every_kind_of_text_tower_survives_json(name, changes):
    config = dataclasses.replace(PRESETS[name], **changes)
    assert config_from_json(json.loads(json.dumps(config_to_json(config))), "run") == config


def test_poolings_and_projections_survive_json():
    image = dataclasses.replace(PRESETS["ViT-tiny"].image, pool_queries=5, pool_heads=4)
    config = dataclasses.replace(PRESETS["ViT-tiny"], image=image, projection="mlp")
    assert config_from_json(json.loads(json.dumps(config_to_json(config))), "run") == config


def test_models_before_captions_are_read():
    config = PRESETS["ViT-tiny"]
    before = config_to_json(config)
    del before["decoder"], before["projection"], before["text"]["read"]
    del before["image"]["pool_queries"], before["image"]["pool_heads"]
    assert config_from_json(before, "run") == config


def test_what_is_no_workdir(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    assert is_workdir(tmp_path)
    with pytest.raises(InputError, match="holds no finished checkpoint yet"):
        read_model(tmp_path)
    (tmp_path / "checkpoints" / "epoch_1.pt").write_bytes(b"")  # a run of open_clip
    assert not is_workdir(tmp_path)


def test_an_unfinished_checkpoint_is_cleared_away(tmp_path):
    unfinished = tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp-123"
    unfinished.mkdir(parents=True)
    with contextlib.closing(Checkpoints(tmp_path, CheckpointConfig())) as checkpoints:
        assert not unfinished.exists()
        assert not checkpoints.steps()


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: None,
        lambda c: [],
        lambda c: {},
        lambda c: c | {"text": None},
        lambda c: c | {"depth": 3},
        lambda c: c | {"embed_dim": "512"},
        lambda c: c | {"embed_dim": True},
        lambda c: c | {"activation": "relu"},
        lambda c: c | {"text": c["text"] | {"width": 64.0}},
        lambda c: c | {"text": c["text"] | {"width": -64}},
        lambda c: c | {"text": c["text"] | {"layers": 10**9}},
        lambda c: c | {"preprocess": c["preprocess"] | {"mean": "abc"}},
        lambda c: c | {"preprocess": c["preprocess"] | {"std": [0.5]}},
        lambda c: c | {"text": c["text"] | {"read": "start"}},
        lambda c: c | {"text": 8},
        lambda c: c | {"text": {"vocab_size": 50}, "decoder": {"layers": 1}},
        lambda c: c | {"decoder": 8},
        lambda c: c | {"decoder": {"layers": 10**9}},
        lambda c: c | {"decoder": {"layers": 0}},
        lambda c: c | {"image": c["image"] | {"pool_queries": 1}},
        lambda c: c | {"image": c["image"] | {"pool_queries": 10**9}},
        lambda c: c | {"projection": "cubic"},
        lambda c: c | {"video": 8},
        lambda c: c | {"video": {"frames": 8, "time": "before", "layers": 1, "heads": 1}},
        lambda c: c | {"video": {"frames": 10**9, "time": "none", "layers": 1, "heads": 1}},
    ],
)
def test_what_describes_no_model_is_refused(damage):
    with pytest.raises(InputError, match=r"^runs/a: ") as caught:
        config_from_json(damage(config_to_json(PRESETS["ViT-tiny"])), "runs/a")
    assert "\n" not in str(caught.value)
