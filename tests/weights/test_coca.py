"""CoCa's tensors: open_clip's own come back out of what was read, and go into open_clip itself."""

import dataclasses
import hashlib
import json
from functools import partial

import jax
import numpy as np
import pytest
from coca import NAMES, golden
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file
from tensors import section

import clip_jax
from clip_jax import CLIPConfig, InputError, Model, TextConfig, ViTConfig
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import DecoderConfig
from clip_jax.weights.openai import openai_layout

RELEASED = {
    "coca_ViT-B-32": (629, "9573942b2bf060f2", 512, ViTConfig(224, 32, 768, 12, 12)),
    "coca_ViT-L-14": (773, "f3780e3e6c016f86", 768, ViTConfig(224, 14, 1024, 24, 16)),
}
"""The tensors of open_clip's models: how many, and the first digits of the SHA-256 of the sorted
lines "name [shape]"; the width of all but the image tower, and that without its pooling."""


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_have_open_clip_s_tensors(name):
    count, digits, width, image = RELEASED[name]
    config = CLIPConfig(
        width,
        dataclasses.replace(image, pool_queries=256),
        TextConfig(width, layers=12, heads=8, context_length=76, read="class"),
        decoder=DecoderConfig(12),
    )
    shapes = jax.eval_shape(partial(init_variables, CLIP(config)), jax.random.key(0))
    leaves = flatten_dict(shapes, sep="/")
    lines = sorted(f"{t.name} {list(t.shape(leaves[t.path]))}" for t in openai_layout(config))
    assert len(lines) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digits


def saved(name, folder):
    config, variables, theirs = golden(name)
    clip_jax.save(Model(config, **variables), folder, layout="open_clip")
    return section(theirs, "tensor")


def test_frames_of_a_model_of_captions_are_refused(tmp_path):
    saved("pooled", tmp_path)
    with pytest.raises(InputError, match=r"frames = 2 does not fit .* and captions"):
        clip_jax.load(tmp_path, frames=2)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_written_bit_for_bit(tmp_path, name):
    tensors = saved(name, tmp_path)
    written = load_file(tmp_path / "open_clip_model.safetensors")
    assert written.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(written[key], tensor, err_msg=key, strict=True)
    config, variables, _ = golden(name)
    again = clip_jax.load(tmp_path)
    assert again.config == config
    jax.tree.map(np.testing.assert_array_equal, again.variables, variables)


@pytest.mark.parametrize("name", NAMES)
def test_open_clip_loads_what_is_written(tmp_path, name):
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed")
    torch = pytest.importorskip("torch")
    saved(name, tmp_path)
    model = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    theirs = golden(name)[2]
    images = torch.from_numpy(theirs["images"].transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        logits = model(images, torch.from_numpy(theirs["tokens"]))["logits"]
    np.testing.assert_array_equal(logits, theirs["logits"])


@pytest.mark.parametrize("part", ["pool", "class"])
def test_parts_of_it_without_a_decoder_go_out_and_in(tmp_path, part):
    config, _, _ = golden("pooled")
    if part == "pool":
        text = dataclasses.replace(config.text, read="end")
        config = dataclasses.replace(config, text=text, decoder=None)
    else:
        image = dataclasses.replace(config.image, pool_queries=0)
        config = dataclasses.replace(config, image=image, decoder=None)
    model = clip_jax.create(config)
    clip_jax.save(model, tmp_path, layout="open_clip")
    again = clip_jax.load(tmp_path)
    # Heads of a pooling that is not there are nowhere written.
    image = dataclasses.replace(again.config.image, pool_heads=config.image.pool_heads)
    assert dataclasses.replace(again.config, image=image) == config
    jax.tree.map(np.testing.assert_array_equal, again.variables, model.variables)


def test_weights_without_a_config_do_not_tell_heads(tmp_path):
    saved("pooled", tmp_path)
    weights = (tmp_path / "open_clip_model.safetensors").rename(tmp_path / "alone.safetensors")
    (tmp_path / "open_clip_config.json").unlink()
    with pytest.raises(InputError, match="do not tell how many heads a CoCa has; put the open_cl"):
        clip_jax.load(weights, activation="gelu")


def test_a_config_of_another_decoder_is_noticed(tmp_path):
    saved("pooled", tmp_path)
    path = tmp_path / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["model_cfg"]["multimodal_cfg"]["layers"] = 3
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"missing: 'text_decoder\.cross_attn\.2\.attn\.in_proj_b"):
        clip_jax.load(tmp_path)
