"""Models of videos: where they start, what knows of order, and each against a loop over parts."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from clip_jax import CLIPConfig, Compute, ResNetConfig, TextConfig, VideoConfig, ViTConfig
from clip_jax.models.clip import CLIP, init_variables, standardize
from clip_jax.models.config import check_config
from clip_jax.models.transformer import Block, LayerNorm, SelfAttention, pytorch_block_init
from clip_jax.models.video import Level, TimeAttention
from clip_jax.models.vit import draw_patches
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.parallel.sharding import path_name, tree_shardings

FRAMES, WIDTH, EMBED = 3, 16, 8
IMAGES = CLIPConfig(
    embed_dim=EMBED,
    image=ViTConfig(image_size=8, patch_size=4, width=WIDTH, layers=3, heads=2),
    text=TextConfig(width=8, layers=1, heads=2, context_length=4, vocab_size=10),
)
TIMES = ("after", "inside", "beside")


def of_time(time, layers=2, **image):
    video = VideoConfig(FRAMES, time, layers=layers, heads=4)
    tower = dataclasses.replace(IMAGES.image, **image)
    return dataclasses.replace(IMAGES, image=tower, video=video)


def videos(count=2):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, FRAMES, 8, 8, 3), np.uint8)


def random_variables(config):
    """Parameters of which none is zero; gains are about 1."""
    shapes = jax.eval_shape(lambda: init_variables(CLIP(config), jax.random.key(0)))
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        centre = float(path_name(path).endswith("scale"))
        return rng.normal(centre, 0.3, leaf.shape).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def encoder(config, compute):
    model = CLIP(config, compute)
    return jax.jit(lambda v, x: model.apply(v, x, method="encode_image", normalize=True))


def embed(config, variables, pixels, **options):
    with jax.default_matmul_precision("highest"):
        return np.asarray(encoder(config, Compute(**options))(variables, pixels))


def mean_of_frames(variables, pixels):
    """The unit mean of unit embeddings, each frame by itself, in float64."""
    frames = embed(IMAGES, variables, pixels.reshape(-1, *pixels.shape[2:]))
    mean = frames.astype(np.float64).reshape(len(pixels), FRAMES, -1).mean(axis=1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


@pytest.mark.parametrize("time", ["none", *TIMES])
def test_all_start_from_the_mean_of_clip_s_own_embeddings(time):
    config = of_time(time)
    variables = init_variables(CLIP(config), jax.random.key(3))
    still = {"params": {k: v for k, v in variables["params"].items() if k != "video"}}
    expected = mean_of_frames(still, videos())
    np.testing.assert_allclose(embed(config, variables, videos()), expected, atol=2e-6)


def test_what_a_model_of_time_adds_leaves_the_rest_of_a_fresh_model_alone():
    plain = init_variables(CLIP(IMAGES), jax.random.key(3))["params"]
    for time in TIMES:
        params = init_variables(CLIP(of_time(time)), jax.random.key(3))["params"]
        del params["video"]
        jax.tree.map(np.testing.assert_array_equal, params, plain)


@pytest.mark.parametrize("time", ["none", *TIMES])
def test_only_models_of_time_know_the_order_of_frames(time):
    config = of_time(time)
    variables = random_variables(config)
    forwards, backwards = (
        embed(config, variables, pixels) for pixels in (videos(), videos()[:, ::-1])
    )
    change = np.abs(forwards - backwards).max()
    assert change < 1e-6 if time == "none" else change > 1e-3


@pytest.mark.parametrize("time", TIMES)
def test_a_video_is_embedded_as_if_it_were_alone(time):
    config = of_time(time)
    variables = random_variables(config)
    first, second = videos()
    expected = embed(config, variables, np.stack([first, second]))
    actual = embed(config, variables, np.stack([second, second]))
    np.testing.assert_allclose(actual, expected[[1, 1]], atol=2e-6)
    assert np.abs(actual[0] - expected[0]).max() > 1e-3


@pytest.mark.parametrize("time", TIMES)
def test_every_frame_reaches_every_video_s_embedding(time):
    config = of_time(time)
    variables, pixels = random_variables(config), standardize(videos(1), IMAGES.preprocess)

    def total(pixels):
        return CLIP(config).apply(variables, pixels, method="encode_image").sum()

    gradient = np.abs(np.asarray(jax.grad(total)(pixels)))
    assert (gradient.max(axis=(0, 2, 3, 4)) > 1e-6).all()


def patches_before_the_last_block(config, variables, pixels):
    """What enters it of the first frame, but for the class token."""

    def read(model, pixels):
        seen = []

        def tower(frames, between):
            def spy(number, x):
                seen.append(between(number, x))
                return seen[-1]

            return model.image(frames, between=spy)

        model.video(pixels.reshape(-1, 8, 8, 3), tower)
        return np.asarray(seen[-1][0, 1:])

    return CLIP(config).apply(variables, pixels, method=read)


@pytest.mark.parametrize("layers", [1, 2])
def test_messages_reach_a_frame_s_patches_through_its_class_token(layers):
    """So before the last block they have, if there were messages before another one."""
    config, pixels = of_time("inside", layers), standardize(videos(1), IMAGES.preprocess)
    variables, other = random_variables(config), pixels.at[:, 1].add(1.0)
    first, second = (
        patches_before_the_last_block(config, variables, given) for given in (pixels, other)
    )
    change = np.abs(first - second).max()
    assert change == 0 if layers == 1 else change > 1e-3


def test_a_level_of_the_branch_is_time_patch_by_patch_then_a_block_in_each_frame():
    video = VideoConfig(FRAMES, "beside", layers=1, heads=4)
    level, rng = Level(video, "quick_gelu", Compute()), np.random.default_rng(2)
    x, tokens = rng.normal(size=(2, 2 * FRAMES, 5, WIDTH)).astype(np.float32)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32),
        level.init(jax.random.key(0), x, tokens)["params"],
    )
    with jax.default_matmul_precision("highest"):
        actual = level.apply({"params": params}, x, tokens)
        norm = LayerNorm().apply({"params": params["tokens_norm"]}, tokens)
        expected = np.array(x + norm).reshape(-1, FRAMES, 5, WIDTH)
        time = TimeAttention(4, Compute(), nn.initializers.zeros)
        for own in expected:
            for patch in range(5):
                change = time.apply({"params": params["time"]}, own[None, :, patch])
                own[:, patch] += np.asarray(change)[0]
        block = Block(4, False, "quick_gelu", pytorch_block_init(WIDTH), "xla")
        for own in expected:
            for frame in range(FRAMES):
                own[frame] = block.apply({"params": params["block"]}, own[None, frame])[0]
    np.testing.assert_allclose(actual, expected.reshape(-1, 5, WIDTH), atol=1e-5)


def test_time_attention_knows_places_by_positions_alone():
    """Without positions, a permutation of frames permutes what is added, and nothing else."""
    time = TimeAttention(4, Compute(), nn.initializers.normal(0.3))
    x = np.random.default_rng(0).normal(size=(2, FRAMES, WIDTH)).astype(np.float32)
    params = time.init(jax.random.key(0), x)["params"]
    order = [2, 0, 1]

    def change(params, x):
        return np.asarray(time.apply({"params": params}, x))

    placeless = {**params, "position_embedding": np.zeros((FRAMES, WIDTH), np.float32)}
    np.testing.assert_allclose(
        change(placeless, x[:, order]), change(placeless, x)[:, order], atol=1e-6
    )
    assert np.abs(change(params, x[:, order]) - change(params, x)[:, order]).max() > 1e-3
    attend = SelfAttention(4, False, pytorch_block_init(WIDTH), "xla")
    normed = LayerNorm().apply({"params": params["norm"]}, x) + params["position_embedding"]
    np.testing.assert_allclose(
        change(params, x), attend.apply({"params": params["attention"]}, normed), atol=1e-6
    )


@pytest.mark.parametrize("time", TIMES)
def test_how_it_is_computed_changes_nothing(time):
    config = of_time(time)
    variables = random_variables(config)
    expected = embed(config, variables, videos())
    actual = embed(config, variables, videos(), remat="full", unroll=True)
    np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize("time", TIMES)
def test_in_bfloat16_about_the_same(time):
    config = of_time(time)
    variables = random_variables(config)
    expected = embed(config, variables, videos())
    actual = embed(config, variables, videos(), dtype="bfloat16")
    assert ((actual * expected).sum(axis=-1) > 0.99).all()


@pytest.mark.parametrize("time", TIMES)
def test_with_all_patches_kept_none_is_missing(time):
    config = of_time(time, patch_dropout=0.5)
    variables, pixels = random_variables(config), videos()
    every = np.tile(np.arange(4), (2 * FRAMES, 1))
    kept = np.repeat(draw_patches(jax.random.key(0), 2, config.image), FRAMES, axis=0)
    assert kept.shape == (2 * FRAMES, 2)

    def encode(kept):
        model = CLIP(config)
        return model.apply(variables, pixels, method="encode_image", kept=kept, normalize=True)

    np.testing.assert_allclose(encode(every), embed(config, variables, pixels), atol=2e-3)
    assert np.abs(encode(kept) - encode(every)).max() > 1e-3


@pytest.mark.parametrize("time", TIMES)
def test_parameters_are_split_by_the_same_rules(time):
    shapes = jax.eval_shape(lambda: init_variables(CLIP(of_time(time)), jax.random.key(0)))
    shardings = tree_shardings(shapes["params"], make_mesh(MeshConfig(2, 2, 2)))
    specs = {
        path_name(path): leaf.spec
        for path, leaf in jax.tree_util.tree_leaves_with_path(shardings["video"])
    }
    (kernel,) = {spec for name, spec in specs.items() if name.endswith("attention/qkv_kernel")}
    assert tuple(kernel) == (None, "fsdp", None, "tensor", None)
    assert all("fsdp" in spec for name, spec in specs.items() if name.endswith("projection"))


def test_after_a_resnet():
    config = dataclasses.replace(
        IMAGES,
        image=ResNetConfig(32, width=4, layers=(1, 1, 1, 1), heads=4),
        video=VideoConfig(FRAMES, "after", layers=1, heads=4),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, FRAMES, 32, 32, 3), np.uint8)
    variables = random_variables(config)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    assert embed(config, variables, pixels).shape == (2, EMBED)
    with pytest.raises(ValueError, match="reads the tokens of a ViT"):
        check_config(
            dataclasses.replace(config, video=dataclasses.replace(config.video, time="inside"))
        )


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (VideoConfig(0), "model.video.frames must be at least 1"),
        (VideoConfig(10**6), "model.video.frames must be at most 1024"),
        (VideoConfig(3, "after", heads=3), "model.video.heads 3 does not divide model.embed_dim 8"),
        (VideoConfig(3, "inside", layers=2, heads=3), "does not divide model.image.width 16"),
        (VideoConfig(3, "beside", layers=4, heads=4), "model.video.layers 4 is more than"),
    ],
)
def test_contradictions_are_refused(video, message):
    with pytest.raises(ValueError, match=message):
        check_config(dataclasses.replace(IMAGES, video=video))
