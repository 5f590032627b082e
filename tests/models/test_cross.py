"""Attention of one sequence to another against loops over heads and tokens, in float64."""

import jax
import numpy as np
import pytest

from clip_jax.models.cross import AttentionPool, CrossAttention, CrossBlock
from clip_jax.models.transformer import scaled_block_init

RNG = np.random.default_rng(0)
INITIAL = scaled_block_init(8, 1)


def drawn(module, *inputs):
    """Parameters of which every one matters, in float64."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))["params"]
    return jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape) / 2, shapes)


def apply(module, params, *inputs):
    with jax.default_matmul_precision("highest"):
        return module.apply({"params": jax.tree.map(np.float32, params)}, *inputs)


def norm(x, params):
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / deviation * params["scale"] + params["bias"]


def attend(x, context, params, heads):
    """x [T, D], context [S, C] -> [T, D]."""
    if "qkv_kernel" in params:
        q_kernel, kv_kernel = params["qkv_kernel"][:, 0], params["qkv_kernel"][:, 1:]
    else:
        q_kernel, kv_kernel = params["q_kernel"], params["kv_kernel"]
    q_bias, k_bias, v_bias = params["qkv_bias"]
    out = np.zeros(x.shape) + params["out_bias"]
    for token in range(len(x)):
        for head in range(heads):
            query = x[token] @ q_kernel[:, head] + q_bias[head]
            keys = context @ kv_kernel[:, 0, head] + k_bias[head]
            values = context @ kv_kernel[:, 1, head] + v_bias[head]
            weights = np.exp(keys @ query / np.sqrt(len(query)))
            out[token] += weights / weights.sum() @ values @ params["out_kernel"][head]
    return out


X = RNG.normal(size=(2, 3, 8)).astype(np.float32)
CONTEXTS = {
    width: RNG.normal(size=(2, seen, width)).astype(np.float32) for width, seen in [(8, 5), (6, 4)]
}


@pytest.mark.parametrize("width", CONTEXTS)
def test_attention(width):
    """The kernels are one parameter or two, by the other sequence's width."""
    module, context = CrossAttention(2, INITIAL, "xla"), CONTEXTS[width]
    params = drawn(module, X, context)
    assert ("qkv_kernel" in params) == (width == 8)
    expected = [attend(x, seen, params, 2) for x, seen in zip(X, context, strict=True)]
    np.testing.assert_allclose(apply(module, params, X, context), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", CONTEXTS)
def test_a_block(width):
    module, context = CrossBlock(2, "quick_gelu", INITIAL, "xla"), CONTEXTS[width]
    params = drawn(module, X, context)
    mlp, expected = params["mlp"], []
    for x, seen in zip(X.astype(np.float64), context, strict=True):
        asking, answering = norm(x, params["attention_norm"]), norm(seen, params["context_norm"])
        x = x + attend(asking, answering, params["attention"], 2)
        inner = norm(x, params["mlp_norm"]) @ mlp["up_kernel"] + mlp["up_bias"]
        inner = inner / (1 + np.exp(-1.702 * inner))
        expected.append(x + inner @ mlp["down_kernel"] + mlp["down_bias"])
    np.testing.assert_allclose(apply(module, params, X, context), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", CONTEXTS)
@pytest.mark.parametrize("count", [1, 4])
def test_a_pooling_and_its_first_queries(width, count):
    module, context = AttentionPool(4, 8, 2, INITIAL, "xla"), CONTEXTS[width]
    params = drawn(module, context, 4)
    query = norm(params["query"], params["query_norm"])[:count]
    expected = [
        attend(query, norm(seen, params["context_norm"]), params["attention"], 2)
        for seen in context
    ]
    found = apply(module, params, context, count)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
