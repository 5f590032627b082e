"""Tensors by name to variables and back: open_clip's and transformers' own tensors, exactly."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from tensors import lazy, section, variables_from

from clip_jax import CLIPConfig, InputError, ResNetConfig, TextConfig, ViTConfig
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.weights.huggingface import huggingface_layout
from clip_jax.weights.layout import Tensor, read_variables, write_tensors
from clip_jax.weights.openai import openai_layout

TEXT = TextConfig(width=24, layers=2, heads=3, context_length=12, vocab_size=50)
VIT = CLIPConfig(16, ViTConfig(24, 8, width=16, layers=2, heads=2), TEXT)
RESNET = CLIPConfig(16, ResNetConfig(64, width=2, layers=(3, 1, 1, 1), heads=4), TEXT)
CONFIGS = {"towers": VIT, "resnet": RESNET}


@functools.cache
def shapes_of(config):
    return jax.eval_shape(functools.partial(init_variables, CLIP(config)), jax.random.key(0))


@pytest.fixture(scope="module", params=CONFIGS)
def golden(request):
    """An open_clip model's config here, and its tensors but for counters."""
    arrays = np.load(Path(__file__).parents[1] / "golden" / f"{request.param}.npz")
    tensors = section(dict(arrays), "tensor")
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    return CONFIGS[request.param], {n: a for n, a in tensors.items() if n not in counters}


def test_tensors_come_back_as_they_were(golden):
    config, tensors = golden
    written = write_tensors(openai_layout(config), variables_from(tensors, config))
    assert written.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert written[name].dtype == np.float32
        assert written[name].flags.c_contiguous
        np.testing.assert_array_equal(written[name], tensor, err_msg=name, strict=True)


def test_variables_are_float32_of_the_model_s_shapes(golden):
    config, tensors = golden
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    read = variables_from(halves, config)
    shapes = shapes_of(config)
    assert jax.tree.structure(read) == jax.tree.structure(shapes)
    for leaf, shape in zip(jax.tree.leaves(read), jax.tree.leaves(shapes), strict=True):
        assert (leaf.shape, leaf.dtype) == (shape.shape, np.float32)


def test_some_numbers_are_where_the_modules_say():
    """Spot checks of the order of axes, written down by hand."""
    arrays = np.load(Path(__file__).parents[1] / "golden" / "towers.npz")
    theirs = section(dict(arrays), "tensor")
    params = variables_from(theirs, VIT)["params"]
    blocks = params["text"]["transformer"]["blocks"]
    in_proj = theirs["transformer.resblocks.1.attn.in_proj_weight"]  # [3 * 24, 24], q k v
    assert blocks["attention"]["qkv_kernel"][1, 5, 2, 1, 3] == in_proj[2 * 24 + 8 + 3, 5]
    out_proj = theirs["transformer.resblocks.0.attn.out_proj.weight"]
    assert blocks["attention"]["out_kernel"][0, 2, 7, 4] == out_proj[4, 2 * 8 + 7]
    c_fc = theirs["transformer.resblocks.1.mlp.c_fc.weight"]
    assert blocks["mlp"]["up_kernel"][1, 3, 90] == c_fc[90, 3]
    conv1 = theirs["visual.conv1.weight"]
    assert params["image"]["patch_embedding"][1, 6, 2, 9] == conv1[9, 2, 1, 6]


@pytest.mark.parametrize(
    ("layout", "config"),
    [
        *[pytest.param(openai_layout, config, id=name) for name, config in CONFIGS.items()],
        pytest.param(huggingface_layout, VIT, id="huggingface"),
        pytest.param(functools.partial(openai_layout, text_prefix="text."), VIT, id="custom text"),
    ],
)
def test_every_number_of_the_variables_is_in_exactly_one_tensor(layout, config):
    counts = {
        path: np.zeros(leaf.shape, int)
        for path, leaf in flatten_dict(shapes_of(config), sep="/").items()
    }
    for tensor in layout(config):
        view = tensor.view(counts[tensor.path])
        assert np.shares_memory(view, counts[tensor.path])
        view += 1
    assert all((count == 1).all() for count in counts.values())
    names = [tensor.name for tensor in layout(config)]
    assert len(names) == len(set(names))


SMALL = [Tensor("a", "params/x", (0,)), Tensor("b", "params/x", (1,)), Tensor("c", "params/y")]
SHAPES = {
    "params": {
        "x": jax.ShapeDtypeStruct((2, 3), np.float32),
        "y": jax.ShapeDtypeStruct((), np.float32),
    }
}


def read_small(**changes):
    arrays = {"a": np.arange(3.0), "b": np.arange(3.0) + 3, "c": np.array(7.0)} | changes
    given = {name: array for name, array in arrays.items() if array is not None}
    return read_variables(SMALL, lazy(given), SHAPES, "model.pt")


def test_float_tensors_of_any_width_become_float32():
    for dtype in (np.float16, np.float32, np.float64, jax.numpy.bfloat16):
        read = read_small(a=np.arange(3).astype(dtype))["params"]
        assert read["x"].dtype == np.float32
        np.testing.assert_array_equal(read["x"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b": None}, "missing: 'b'"),
        ({"a": None, "b": None, "c": None, "z": np.zeros(1)}, "missing: 'a', 'b', 'c'; unknown"),
        ({"d": np.zeros(1)}, "unknown: 'd'"),
        ({f"d{i}": np.zeros(1) for i in range(5)}, "unknown: 'd0', 'd1', 'd2' and 2 more"),
        ({"a": np.zeros((3, 1))}, r"misshapen: 'a' is \[3, 1\] instead of \[3\]"),
        ({"a": np.zeros(4), "b": None}, r"missing: 'b'; misshapen: 'a' is \[4\] instead of \[3\]"),
        ({"c": np.zeros(1)}, r"misshapen: 'c' is \[1\] instead of \[\]"),
        ({"b": np.zeros(3, np.int8)}, "not floats: 'b' is int8"),
        ({"b": np.zeros(3, bool)}, "not floats: 'b' is bool"),
        ({"e\nvil" + "x" * 1000: np.zeros(1)}, r"unknown: 'e\\nvil"),
        ({"d": np.zeros((1,) * 30), "a": np.zeros((1,) * 30)}, r"'a' is \[1, .*\.\.\.\] instead"),
    ],
)
def test_tensors_that_are_not_the_model_s_are_named(changes, message):
    with pytest.raises(InputError, match=f"^model.pt: not the tensors .*{message}") as caught:
        read_small(**changes)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_nothing_is_read_before_the_shapes_are_known_to_fit():
    def read():
        raise AssertionError("read")

    tensors = lazy({"a": np.zeros(3), "b": np.zeros(4), "c": np.zeros(())})
    tensors = {name: type(t)(t.shape, t.dtype, read) for name, t in tensors.items()}
    with pytest.raises(InputError, match="misshapen: 'b'"):
        read_variables(SMALL, tensors, SHAPES, "model.pt")


def test_a_shape_that_no_memory_holds_is_only_a_shape():
    leaf = jax.ShapeDtypeStruct((1000, 2**20, 2**20), np.float32)
    assert Tensor("a", "x", (7,), axes=(1, 0)).shape(leaf) == (2**20, 2**20)


def test_lower_precisions_are_written_as_float32():
    variables = {"params": {"x": jax.numpy.ones((2, 3), "bfloat16"), "y": np.float64(2)}}
    written = write_tensors(SMALL, variables)
    assert {name: tensor.dtype for name, tensor in written.items()} == dict.fromkeys(
        "abc", np.float32
    )
