"""Architectures read off the shapes of OpenAI's checkpoints, and files of which that fails."""

import dataclasses
import functools
import hashlib
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax import InputError
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.presets import OPENAI
from clip_jax.weights.lazy import LazyTensor
from clip_jax.weights.openai import (
    NOT_WEIGHTS,
    config_from_tensors,
    is_from_openai,
    openai_layout,
    text_prefix,
)

RELEASED = {
    "RN50": (434, "9892308c1cf604cd"),
    "RN101": (689, "b980f35ba23d2d02"),
    "RN50x4": (584, "681cda06f0360b8f"),
    "RN50x16": (794, "74d46493a5521158"),
    "RN50x64": (1154, "e8282bb5a5f4e980"),
    "ViT-B/32": (302, "f8900dc0ab77b628"),
    "ViT-B/16": (302, "8c9ed9915932a40c"),
    "ViT-L/14": (446, "2c3352c736b1d5c9"),
    "ViT-L/14@336px": (446, "e7827b90feb2a2f7"),
}
"""The tensors of open_clip's models without their counters: how many, and the first digits of the
SHA-256 of the sorted lines "name [shape]"."""


def shape_only(shape, dtype=np.float16):
    return LazyTensor(shape, np.dtype(dtype), None)


@functools.cache
def tensors_of(config, prefix=""):
    """The tensors of an architecture without their content."""
    shapes = jax.eval_shape(functools.partial(init_variables, CLIP(config)), jax.random.key(0))
    leaves = flatten_dict(shapes, sep="/")
    layout = openai_layout(config, prefix)
    return {tensor.name: shape_only(tensor.shape(leaves[tensor.path])) for tensor in layout}


@pytest.fixture(scope="module")
def vit():
    return tensors_of(OPENAI["ViT-B/32"])


@pytest.fixture(scope="module")
def resnet():
    return tensors_of(OPENAI["RN50"])


@pytest.mark.parametrize("name", OPENAI)
def test_the_nine_have_open_clip_s_tensors_which_tell_their_architecture(name):
    tensors = tensors_of(OPENAI[name])
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
    digits = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert (len(tensors), digits) == RELEASED[name]
    assert config_from_tensors(tensors, "model.pt") == OPENAI[name]


def test_the_text_tower_may_have_a_prefix():
    config = OPENAI["ViT-B/16"]
    tensors = tensors_of(config, "text.")
    assert text_prefix(tensors) == "text."
    assert "text.transformer.resblocks.11.mlp.c_proj.bias" in tensors
    assert config_from_tensors(tensors, "model.pt") == config


def test_openai_s_own_files_are_known_by_their_sizes(vit):
    assert not is_from_openai(vit)
    assert is_from_openai({**vit, "input_resolution": shape_only((), np.int64)})


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("input_resolution", True),
        ("context_length", True),
        ("vocab_size", True),
        ("attn_mask", True),
        ("transformer.resblocks.3.attn_mask", True),
        ("visual.layer1.0.bn1.num_batches_tracked", True),
        ("visual.context_length", False),
        ("attn_mask.weight", False),
        ("logit_scale", False),
        ("logit_bias", False),
    ],
)
def test_entries_that_are_no_weights(name, ignored):
    assert bool(re.search(NOT_WEIGHTS, name)) == ignored


VIT_CHANGES = {
    "text_projection": (None, r"no CLIP model .* has no text_projection, but 'logit_scale'"),
    "token_embedding.weight": (None, "has no token_embedding.weight"),
    "positional_embedding": ((77,), r"positional_embedding is \[77\]; damaged"),
    "visual.conv1.weight": ((768, 3, 32), r"visual.conv1.weight is \[768, 3, 32\]; damaged"),
    "visual.proj": (None, "has no visual.attnpool.positional_embedding"),
    "visual.positional_embedding": ((0, 768), r"is \[0, 768\]; damaged"),
}


@pytest.mark.parametrize("name", VIT_CHANGES)
def test_what_hinders_is_named(vit, name):
    shape, message = VIT_CHANGES[name]
    tensors = {key: tensor for key, tensor in vit.items() if key != name}
    if shape is not None:
        tensors[name] = shape_only(shape)
    with pytest.raises(InputError, match=f"^model.pt: .*{message}"):
        config_from_tensors(tensors, "model.pt")


def test_no_tensors_of_a_clip_at_all():
    with pytest.raises(InputError, match=r"no CLIP .*, but 'bert\.weight'"):
        config_from_tensors({"bert.weight": shape_only((3,))}, "model.pt")


@pytest.mark.parametrize("width", [1280, 96, 1])
def test_heads_are_not_guessed(vit, width):
    """ViT-H/14 has 16 heads at a width of 1280: nothing in its shapes says so."""
    positions = shape_only((50, width))
    changed = {
        "visual.conv1.weight": shape_only((width, 3, 32, 32)),
        "visual.positional_embedding": positions,
    }
    with pytest.raises(InputError, match=f"do not tell how many heads a width of {width} has; put"):
        config_from_tensors(vit | changed, "model.pt")


def test_numbers_of_layers_are_counted_not_believed(vit):
    tensors = {**vit, "transformer.resblocks.999999999.ln_1.bias": shape_only((512,))}
    tensors["visual.transformer.resblocks." + "9" * 10_000 + ".ln_1.bias"] = shape_only((768,))
    config = config_from_tensors(tensors, "model.pt")
    assert (config.text.layers, config.image.layers) == (13, 13)


@settings(deadline=None)
@given(data=st.data())
def test_any_shapes_make_a_config_or_are_refused_in_one_line(vit, resnet, data):
    tensors = dict(data.draw(st.sampled_from([vit, resnet])))
    needed = [name for name in tensors if ".resblocks." not in name and ".layer" not in name]
    for name in data.draw(st.lists(st.sampled_from(needed), min_size=1, max_size=3)):
        shape = data.draw(st.none() | st.lists(st.integers(0, 2**40), max_size=5))
        if shape is None:
            tensors.pop(name, None)
        else:
            tensors[name] = shape_only(tuple(shape))
    try:
        config = config_from_tensors(tensors, "model.pt")
    except InputError as error:
        message = str(error)
    else:
        message = ""
        sizes = {**dataclasses.asdict(config)["text"], "read": 1}.values()
        assert all(type(size) is int and size > 0 for size in sizes)
    assert "\n" not in message
