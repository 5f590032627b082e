"""Rules over paths: which dimension of which parameter is split over which axis."""

import jax
import optax
import pytest
from jax.sharding import PartitionSpec as P

from clip_jax import CLIPConfig, TextConfig, ViTConfig
from clip_jax.models.clip import CLIP
from clip_jax.models.config import DecoderConfig
from clip_jax.models.presets import PRESETS
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.parallel.sharding import path_name, tree_shardings, whole_over
from clip_jax.training.state import abstract_state


@pytest.fixture(scope="module")
def state():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    return abstract_state(CLIP(PRESETS["ViT-B/32"]), optax.adamw(1e-3), mesh)


def test_block_matrices_are_split_over_both_axes(state):
    blocks = state.params["image"]["transformer"]["blocks"]
    specs = jax.tree.map(lambda leaf: leaf.sharding.spec, blocks)
    assert specs["attention"]["qkv_kernel"] == P(None, "fsdp", None, "tensor", None)
    assert specs["attention"]["out_kernel"] == P(None, "tensor", None, "fsdp")
    assert specs["mlp"]["up_kernel"] == P(None, "fsdp", "tensor")
    assert specs["mlp"]["down_kernel"] == P(None, "tensor", "fsdp")
    assert specs["mlp_norm"]["scale"] == P()


def test_convolutions_are_split_by_their_outputs():
    state = abstract_state(CLIP(PRESETS["RN50"]), optax.sgd(1.0), make_mesh(MeshConfig(2, 2, 2)))
    image = jax.tree.map(lambda leaf: leaf.sharding.spec, state.params["image"])
    assert image["stage1_first"]["expand"]["conv"]["kernel"] == P(None, None, None, "fsdp")
    assert image["stage3_rest"]["spatial"]["conv"]["kernel"] == P(None, None, None, None, "fsdp")
    assert image["stage3_rest"]["spatial"]["norm"]["scale"] == P()
    assert image["attention_pool"]["qkv_kernel"] == P("fsdp", None, "tensor", None)
    assert image["attention_pool"]["projection"] == P(None, "fsdp")


def test_poolings_and_decoders_are_split_as_blocks_are():
    """With one kernel or two, by the widths; the vocabulary has any size."""
    config = CLIPConfig(
        embed_dim=512,
        image=ViTConfig(224, patch_size=32, width=512, layers=2, heads=8, pool_queries=256),
        text=TextConfig(768, layers=2, heads=8, context_length=76, vocab_size=49407, read="class"),
        decoder=DecoderConfig(layers=2),
    )
    state = abstract_state(CLIP(config), optax.sgd(1.0), make_mesh(MeshConfig(2, 2, 2)))
    specs = jax.tree.map(lambda leaf: tuple(leaf.sharding.spec), state.params)
    bias, out = (None, "tensor", None), ("tensor", None, "fsdp")
    pool, decoder = specs["image"]["pool"]["attention"], specs["decoder"]
    assert pool["qkv_kernel"] == ("fsdp", None, "tensor", None)
    assert (pool["qkv_bias"], pool["out_kernel"]) == (bias, out)
    cross = decoder["image_blocks"]["attention"]
    assert cross["q_kernel"] == (None, "fsdp", "tensor", None)
    assert cross["kv_kernel"] == (None, "fsdp", None, "tensor", None)
    assert (cross["qkv_bias"], cross["out_kernel"]) == ((None, *bias), (None, *out))
    assert decoder["blocks"]["attention"]["qkv_bias"] == (None, *bias)
    assert decoder["projection"] == ("fsdp", None)
    leaves = jax.tree.leaves(state.params)
    whole = sum(leaf.size for leaf in leaves if leaf.sharding.is_fully_replicated)
    assert whole < 0.01 * sum(leaf.size for leaf in leaves)


def test_moments_lie_where_their_parameters_do(state):
    adam = state.opt_state[0]
    for moments in (adam.mu, adam.nu):
        same = jax.tree.map(lambda m, p: m.sharding == p.sharding, moments, state.params)
        assert all(jax.tree.leaves(same))


def test_little_is_kept_whole(state):
    """At ViT-B/32, what every device holds in full is under 1% of the parameters."""
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    total = sum(leaf.size for _, leaf in leaves)
    whole = {
        path_name(path): leaf.size for path, leaf in leaves if leaf.sharding.is_fully_replicated
    }
    assert sum(whole.values()) / total < 0.01, whole


def test_axes_that_do_not_divide_are_left_out():
    mesh = make_mesh(MeshConfig(1, 2, 4))
    tree = {"mlp": {"up_kernel": jax.ShapeDtypeStruct((2, 7, 8), "float32")}}
    assert tree_shardings(tree, mesh)["mlp"]["up_kernel"].spec == P(None, None, "tensor")


def test_made_whole_over_some_axes():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    tree = {"mlp": {"up_kernel": jax.ShapeDtypeStruct((2, 8, 8), "float32")}}
    whole = whole_over(("data", "fsdp"), tree_shardings(tree, mesh))
    assert whole["mlp"]["up_kernel"].spec == P(None, None, "tensor")
