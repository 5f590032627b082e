"""Layers with PyTorch's tensors compute here what PyTorch documents of them."""

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from tensors import lazy

from clip_jax.weights.layout import Tensor, read_variables
from clip_jax.weights.pytorch import (
    CONVOLUTION,
    dense_tensors,
    norm_tensors,
    out_tensors,
    qkv_tensors,
)

RNG = np.random.default_rng(0)
HEADS, SIZE = 3, 4
WIDTH = HEADS * SIZE


def draw(*shape):
    return RNG.standard_normal(shape, np.float32)


def read(layout, tensors, shapes):
    """Path of ours -> leaf."""
    shapes = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in shapes.items()}
    variables = read_variables(
        list(layout), lazy(tensors), unflatten_dict(shapes, sep="/"), "tensors"
    )
    return {path: np.asarray(leaf) for path, leaf in flatten_dict(variables, sep="/").items()}


def test_a_dense_layer_is_x_times_its_transposed_weight():
    x, weight, bias = draw(5, 6), draw(7, 6), draw(7)
    layout = dense_tensors("fc", "p/up_kernel", "p/up_bias")
    shapes = {"p/up_kernel": (6, 7), "p/up_bias": (7,)}
    ours = read(layout, {"fc.weight": weight, "fc.bias": bias}, shapes)
    actual = x @ ours["p/up_kernel"] + ours["p/up_bias"]
    np.testing.assert_allclose(actual, x @ weight.T + bias, rtol=1e-5, atol=1e-5)


def test_a_convolution_is_a_sum_over_its_window():
    window, weight = draw(3, 2, 2), draw(5, 3, 2, 2)  # [in, height, width], [out, ...]
    layout = [Tensor("conv.weight", "p/kernel", axes=CONVOLUTION)]
    kernel = read(layout, {"conv.weight": weight}, {"p/kernel": (2, 2, 3, 5)})["p/kernel"]
    expected = [(window * its).sum() for its in weight]
    actual = np.einsum("hwi,hwio->o", window.transpose(1, 2, 0), kernel)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_a_norm_has_its_gain_and_bias_at_its_layer():
    layout = [pair for i in (0, 1) for pair in norm_tensors(f"{i}.ln", "p/norm", (i,))]
    tensors = {f"{i}.ln.{name}": draw(6) for i in (0, 1) for name in ("weight", "bias")}
    ours = read(layout, tensors, {"p/norm/scale": (2, 6), "p/norm/bias": (2, 6)})
    for i in (0, 1):
        np.testing.assert_array_equal(ours["p/norm/scale"][i], tensors[f"{i}.ln.weight"])
        np.testing.assert_array_equal(ours["p/norm/bias"][i], tensors[f"{i}.ln.bias"])


def test_queries_keys_and_values_are_cut_into_heads():
    """Each is x W^T + b, of which head h has the columns from h * size on."""
    x = draw(5, WIDTH)
    names = ("q_proj", "k_proj", "v_proj")
    tensors = {f"attn.{name}.weight": draw(WIDTH, WIDTH) for name in names}
    tensors |= {f"attn.{name}.bias": draw(WIDTH) for name in names}
    shapes = {"p/qkv_kernel": (WIDTH, 3, HEADS, SIZE), "p/qkv_bias": (3, HEADS, SIZE)}
    ours = read(qkv_tensors("attn", "p", WIDTH), tensors, shapes)
    actual = np.einsum("nd,dthe->tnhe", x, ours["p/qkv_kernel"]) + ours["p/qkv_bias"][:, None]
    for part, name in zip(actual, names, strict=True):
        flat = x @ tensors[f"attn.{name}.weight"].T + tensors[f"attn.{name}.bias"]
        for head in range(HEADS):
            columns = flat[:, head * SIZE : (head + 1) * SIZE]
            np.testing.assert_allclose(part[:, head], columns, rtol=1e-5, atol=1e-5)


def test_the_output_is_projected_from_all_heads_side_by_side():
    heads = draw(5, HEADS, SIZE)
    tensors = {"1.out_proj.weight": draw(WIDTH, WIDTH), "1.out_proj.bias": draw(WIDTH)}
    others = {"0.out_proj.weight": draw(WIDTH, WIDTH), "0.out_proj.bias": draw(WIDTH)}
    layout = [tensor for i in (0, 1) for tensor in out_tensors(str(i), "p", WIDTH, (i,))]
    shapes = {"p/out_kernel": (2, HEADS, SIZE, WIDTH), "p/out_bias": (2, WIDTH)}
    ours = read(layout, tensors | others, shapes)
    actual = np.einsum("nhe,hed->nd", heads, ours["p/out_kernel"][1]) + ours["p/out_bias"][1]
    side_by_side = np.concatenate([heads[:, head] for head in range(HEADS)], axis=-1)
    expected = side_by_side @ tensors["1.out_proj.weight"].T + tensors["1.out_proj.bias"]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
