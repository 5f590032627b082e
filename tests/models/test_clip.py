"""The towers against open_clip: the same tensors give the same features, loss and gradients."""

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import initial_variables
from tensors import section, spread_error, variables_from

from clip_jax import CLIPConfig, Compute, TextConfig, ViTConfig
from clip_jax.losses import contrastive_loss
from clip_jax.models.clip import CLIP, init_variables, standardize
from clip_jax.models.presets import OPENAI

CONFIG = CLIPConfig(
    embed_dim=16,
    image=ViTConfig(image_size=24, patch_size=8, width=16, layers=2, heads=2),
    text=TextConfig(width=24, layers=2, heads=3, context_length=12, vocab_size=50),
)


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(Path(__file__).parents[1] / "golden" / "towers.npz"))


@pytest.fixture(scope="module")
def params(golden):
    return variables_from(section(golden, "tensor"), CONFIG)["params"]


def encode(params, method, inputs, **compute):
    model = CLIP(CONFIG, Compute(**compute))
    with jax.default_matmul_precision("highest"):
        return np.asarray(model.apply({"params": params}, inputs, method=method))


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_features_equal_open_clip(golden, params, unroll, remat):
    compute = {"unroll": unroll, "remat": remat}
    image = encode(params, "encode_image", golden["images"], **compute)
    text = encode(params, "encode_text", golden["tokens"], **compute)
    assert spread_error(image, golden["image_features"]) < 1e-5
    assert spread_error(text, golden["text_features"]) < 1e-5


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_loss_and_gradients_equal_open_clip(golden, params, unroll, remat):
    model = CLIP(CONFIG, Compute(unroll=unroll, remat=remat))

    def loss_of(params):
        inputs = golden["images"], golden["tokens"]
        return contrastive_loss(*model.apply({"params": params}, *inputs))

    with jax.default_matmul_precision("highest"):
        loss, gradient = jax.value_and_grad(loss_of)(jax.tree.map(jnp.asarray, params))
    expected = variables_from(section(golden, "gradient"), CONFIG)["params"]
    np.testing.assert_allclose(loss, golden["loss"], rtol=1e-6)
    for (path, actual), wanted in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(expected), strict=True
    ):
        error = np.linalg.norm(actual - wanted) / np.linalg.norm(wanted)
        assert error < 1e-4, (jax.tree_util.keystr(path), error)


def test_bfloat16_stays_close(golden, params):
    for method, inputs in (("encode_image", "images"), ("encode_text", "tokens")):
        exact = encode(params, method, golden[inputs])
        rough = encode(params, method, golden[inputs], dtype="bfloat16")
        assert rough.dtype == np.float32
        cosine = (exact * rough).sum(-1) / np.linalg.norm(exact, axis=-1)
        assert (cosine / np.linalg.norm(rough, axis=-1)).min() > 0.999


def test_text_may_be_cut_behind_its_end(golden, params):
    tokens = golden["tokens"]
    longest = int((tokens != 0).sum(1).max())
    whole = encode(params, "encode_text", tokens)
    np.testing.assert_allclose(encode(params, "encode_text", tokens[:, :longest]), whole, atol=1e-6)
    filled = np.where(tokens == 0, 7, tokens)  # what follows the end does not matter either
    np.testing.assert_allclose(encode(params, "encode_text", filled), whole, atol=1e-6)


def test_uint8_images_are_standardized_inside(params):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), np.uint8)
    expected = (pixels / 255 - np.array(CONFIG.preprocess.mean)) / np.array(CONFIG.preprocess.std)
    standard = standardize(jnp.asarray(pixels), CONFIG.preprocess)
    np.testing.assert_allclose(standard, expected, atol=1e-6)
    np.testing.assert_allclose(
        encode(params, "encode_image", pixels),
        encode(params, "encode_image", expected.astype(np.float32)),
        atol=1e-5,
    )


def test_call_gives_unit_embeddings_and_scale(golden, params):
    image, text, scale = CLIP(CONFIG).apply({"params": params}, golden["images"], golden["tokens"])
    np.testing.assert_allclose(np.linalg.norm(image, axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(text, axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(scale, 1 / 0.07, rtol=1e-6)


PARAMETERS = {
    "RN50": 102_007_137,
    "RN101": 119_688_033,
    "RN50x4": 178_300_601,
    "RN50x16": 290_979_217,
    "RN50x64": 623_258_305,
    "ViT-B/32": 151_277_313,
    "ViT-B/16": 149_620_737,
    "ViT-L/14": 427_616_513,
    "ViT-L/14@336px": 427_944_193,
}


@pytest.mark.parametrize("name", OPENAI)
def test_parameter_counts(name):
    shapes = jax.eval_shape(partial(init_variables, CLIP(OPENAI[name])), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == PARAMETERS[name]


def test_initialisation_is_that_of_the_released_code():
    """Standard deviations by the formulas of openai/CLIP and PyTorch's defaults."""
    config = dataclasses.replace(
        CONFIG,
        image=ViTConfig(image_size=64, patch_size=8, width=128, layers=3, heads=2),
        text=TextConfig(width=96, layers=4, heads=2, context_length=40, vocab_size=900),
    )
    params = initial_variables(config)["params"]
    image, text = params["image"], params["text"]
    image_blocks = image["transformer"]["blocks"]
    text_blocks = text["transformer"]["blocks"]
    uniform = 3**-0.5  # standard deviation of the uniform distribution on [-1, 1]
    expected = [
        (image["patch_embedding"], uniform * (3 * 8 * 8) ** -0.5),
        (image["position_embedding"], 128**-0.5),
        (image["class_embedding"], 128**-0.5),
        (image["projection"], 128**-0.5),
        (image_blocks["attention"]["qkv_kernel"], (2 / (128 + 3 * 128)) ** 0.5),
        (image_blocks["attention"]["out_kernel"], uniform * 128**-0.5),
        (image_blocks["mlp"]["up_kernel"], uniform * 128**-0.5),
        (image_blocks["mlp"]["up_bias"], uniform * 128**-0.5),
        (image_blocks["mlp"]["down_kernel"], uniform * 512**-0.5),
        (image_blocks["mlp"]["down_bias"], uniform * 512**-0.5),
        (text["token_embedding"], 0.02),
        (text["position_embedding"], 0.01),
        (text["projection"], 96**-0.5),
        (text_blocks["attention"]["qkv_kernel"], 96**-0.5),
        (text_blocks["attention"]["out_kernel"], 96**-0.5 * 8**-0.5),
        (text_blocks["mlp"]["up_kernel"], (2 * 96) ** -0.5),
        (text_blocks["mlp"]["up_bias"], uniform * 96**-0.5),
        (text_blocks["mlp"]["down_kernel"], 96**-0.5 * 8**-0.5),
    ]
    for array, deviation in expected:
        assert abs(float(array.mean())) < 4 * deviation / array.size**0.5
        np.testing.assert_allclose(float(array.std()), deviation, rtol=5 / array.size**0.5)
    for blocks in (image_blocks, text_blocks):
        assert not blocks["attention"]["qkv_bias"].any()
        assert not blocks["attention"]["out_bias"].any()
        layers = blocks["mlp"]["up_kernel"]
        assert not np.allclose(layers[0], layers[1])  # layers are drawn apart
    np.testing.assert_allclose(params["logit_scale"], np.log(1 / 0.07), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": ViTConfig(30, 8, 16, 2, 2)}, "patch_size 8 does not divide"),
        ({"image": ViTConfig(24, 8, 16, 2, 3)}, "heads 3 does not divide"),
        ({"text": TextConfig(24, 0, 3)}, "layers must be at least 1"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        init_variables(CLIP(dataclasses.replace(CONFIG, **change)), jax.random.key(0))
