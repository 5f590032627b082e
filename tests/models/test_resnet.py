"""The ResNet tower against open_clip: features, a training step's gradients, running statistics."""

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from tensors import section, spread_error, variables_from

from clip_jax import CLIPConfig, Compute, ResNetConfig, TextConfig
from clip_jax.losses import contrastive_loss
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.resnet import average_pool
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.weights.openai import openai_layout

CONFIG = CLIPConfig(
    embed_dim=16,
    image=ResNetConfig(image_size=64, width=2, layers=(3, 1, 1, 1), heads=4),
    text=TextConfig(width=24, layers=2, heads=3, context_length=12, vocab_size=50),
)


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(Path(__file__).parents[1] / "golden" / "resnet.npz"))


@pytest.fixture(scope="module")
def variables(golden):
    return variables_from(section(golden, "tensor"), CONFIG)


def test_features_equal_open_clip(golden, variables):
    with jax.default_matmul_precision("highest"):
        features = CLIP(CONFIG).apply(variables, golden["images"], method="encode_image")
    assert spread_error(features, golden["image_features"]) < 1e-5


@pytest.mark.parametrize("compute", [Compute(), Compute(unroll=True, remat="full")])
def test_a_training_step_equals_open_clip(golden, variables, compute):
    """Loss and gradients by the batch's statistics, and what becomes of the running ones."""
    model = CLIP(CONFIG, compute)

    def loss_of(params):
        inputs = golden["images"], golden["tokens"]
        outputs, updated = model.apply(
            variables | {"params": params}, *inputs, train=True, mutable="batch_stats"
        )
        return contrastive_loss(*outputs), updated["batch_stats"]

    with jax.default_matmul_precision("highest"):
        step = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
        (loss, updated), gradient = step(variables["params"])
    np.testing.assert_allclose(loss, golden["loss"], rtol=1e-5)
    gradients = {"params": gradient}
    expected = section(golden, "gradient")
    for tensor in openai_layout(CONFIG):
        if tensor.name in expected:
            actual = view(tensor, gradients).reshape(expected[tensor.name].shape)
            wanted = expected[tensor.name]
            # The gradient of k_proj.bias is 0 but for rounding: the same for all keys.
            error = np.linalg.norm(actual - wanted) / (np.linalg.norm(wanted) + 1e-4)
            assert error < 1e-3, (tensor.name, error)
    for tensor in openai_layout(CONFIG):
        if tensor.path.startswith("batch_stats/"):
            actual = view(tensor, {"batch_stats": updated})
            wanted = golden[f"updated/{tensor.name}"]
            if tensor.path.endswith("var"):  # PyTorch adds that of a sample, n / (n - 1) larger
                n, kept = values_a_channel(tensor.path), 0.9 * golden[f"tensor/{tensor.name}"]
                wanted = kept + (wanted - kept) * (n - 1) / n
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5, err_msg=tensor.name)


def values_a_channel(path):
    """How many values a channel has where these statistics are taken, in 6 images of 64 x 64."""
    _, _, block, layer, *_ = path.split("/")
    if block.startswith("stem"):
        return 6 * 32**2
    stage = int(block.removeprefix("stage")[0])
    halvings = stage - 1
    if stage > 1 and layer in ("reduce", "spatial"):  # before the average pool
        halvings -= 1
    return 6 * (16 // 2**halvings) ** 2


def view(tensor, variables):
    """The part of our variables that a tensor of open_clip's is."""
    leaf = variables
    for name in tensor.path.split("/"):
        leaf = leaf[name]
    return tensor.view(np.asarray(leaf))


def test_statistics_are_those_of_the_whole_sharded_batch(golden, variables):
    """Eight devices with a part of the batch each update the running averages as one does."""
    images = np.concatenate([golden["images"], golden["images"][:2] + 1])
    update = jax.jit(
        lambda images: CLIP(CONFIG).apply(
            variables, images, train=True, mutable="batch_stats", method="encode_image"
        )
    )
    mesh = make_mesh(MeshConfig())
    sharded = jax.device_put(images, NamedSharding(mesh, P("data")))
    features, one = update(images)
    features_of_eight, eight = update(sharded)
    np.testing.assert_allclose(features_of_eight, features, atol=2e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, eight)


def test_frozen_statistics_are_used_and_kept_in_training(golden, variables):
    image = dataclasses.replace(CONFIG.image, frozen_statistics=True)
    model = CLIP(dataclasses.replace(CONFIG, image=image))
    features, updated = model.apply(
        variables, golden["images"], train=True, mutable="batch_stats", method="encode_image"
    )
    assert spread_error(features, golden["image_features"]) < 1e-4
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


def test_bfloat16_keeps_its_statistics_in_float32(golden, variables):
    features, updated = CLIP(CONFIG, Compute(dtype="bfloat16")).apply(
        variables, golden["images"], train=True, mutable="batch_stats", method="encode_image"
    )
    assert features.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}


def test_blocks_start_as_their_shortcut():
    """The last normalisation of each block is initialised to 0 (released code)."""
    init = jax.jit(partial(init_variables, CLIP(CONFIG)))
    params = init(jax.random.key(0))["params"]["image"]
    for stage in ("stage1_first", "stage1_rest", "stage4_first"):
        assert not params[stage]["expand"]["norm"]["scale"].any()
        assert (params[stage]["reduce"]["norm"]["scale"] == 1).all()
    kernel = params["stem3"]["conv"]["kernel"]  # 3 x 3 x 1 in: uniform within 1 / 3
    assert 0.2 < abs(kernel).max() <= 1 / 3
    assert params["stage1_rest"]["reduce"]["conv"]["kernel"].shape == (2, 1, 1, 8, 2)
    pool = params["attention_pool"]
    np.testing.assert_allclose(pool["qkv_kernel"].std(), 64**-0.5, rtol=0.05)


def test_average_pool():
    image = np.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(average_pool(image, 2)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
