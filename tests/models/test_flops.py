"""Counted operations against the released models' published ones, and against JAX's programs."""

import dataclasses
import math

import jax
import pytest

from clip_jax import CLIPConfig, Compute, ResNetConfig, TextConfig, VideoConfig, ViTConfig
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import BagOfWordsConfig, CBOWConfig, DecoderConfig
from clip_jax.models.decoder import next_token_logits
from clip_jax.models.flops import computed_flops, forward_flops
from clip_jax.models.presets import OPENAI

# GFLOP of one pair's forward pass, image + text, as open_clip's profile has them.
PUBLISHED = {
    "RN50": 18.18,
    "RN101": 25.50,
    "RN50x4": 51.82,
    "RN50x16": 162.69,
    "RN50x64": 552.65,
    "ViT-B/32": 14.78,
    "ViT-B/16": 41.09,
    "ViT-L/14": 175.33,
    "ViT-L/14@336px": 395.22,
}
BY_TOWER = {
    "ViT-B/32": (8.82, 5.96),
    "ViT-B/16": (35.13, 5.96),
    "ViT-L/14": (162.03, 13.30),
    "RN50": (12.22, 5.96),
}


@pytest.mark.parametrize("name", OPENAI)
def test_the_released_models(name):
    assert sum(forward_flops(OPENAI[name]).values()) / 1e9 == pytest.approx(
        PUBLISHED[name], abs=5e-3
    )


@pytest.mark.parametrize("name", BY_TOWER)
def test_each_tower(name):
    flops = forward_flops(OPENAI[name])
    assert (flops["image"] / 1e9, flops["text"] / 1e9) == pytest.approx(BY_TOWER[name], abs=5e-3)


def test_patches_left_out_are_not_counted():
    """At half the patches, all but attention between tokens is half, and that is a quarter."""
    model = OPENAI["ViT-B/16"]
    dropping = dataclasses.replace(model, image=dataclasses.replace(model.image, patch_dropout=0.5))
    all_patches, half = forward_flops(model), forward_flops(dropping)
    assert 0.45 < half["image"] / all_patches["image"] < 0.5
    assert half["text"] == all_patches["text"]


def counted(jaxpr):
    """FLOPs of the products and convolutions in a program of JAX."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = [equation.invars[0].aval.shape[axis] for axis in contracted]
            total += 2 * equation.outvars[0].aval.size * math.prod(inner)
        elif equation.primitive.name == "conv_general_dilated":
            height, width, channels, _ = equation.invars[1].aval.shape
            total += 2 * equation.outvars[0].aval.size * height * width * channels
        length = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for value in jax.tree.leaves(list(equation.params.values())):
            if hasattr(value, "eqns"):
                total += length * counted(value)
    return total


@pytest.mark.parametrize("name", ["ViT-B/32", "RN50"])
def test_what_is_computed_is_what_jax_is_told_to(name):
    """16 captions of 24 tokens, 8 at the full length."""
    config = OPENAI[name]
    model = CLIP(config)
    variables = jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0))

    def forward(method, *shape, dtype="int32"):
        inputs = jax.ShapeDtypeStruct(shape, dtype)
        encode = lambda variables, x: model.apply(variables, x, method=method)  # noqa: E731
        return counted(jax.make_jaxpr(encode)(variables, inputs).jaxpr)

    found = computed_flops(config, [(16, 24), (8, 77)])
    texts = forward("encode_text", 16, 24) + forward("encode_text", 8, 77)
    assert found["image"] == forward("encode_image", 1, 224, 224, 3, dtype="float32")
    assert found["text"] * 24 == pytest.approx(texts, rel=1e-12)
    dense = forward_flops(config)
    assert found["image"] < dense["image"]
    assert found["text"] < 0.6 * dense["text"]


@pytest.mark.parametrize("time", ["after", "inside", "beside"])
def test_models_of_time_cost_what_xla_counts(time):
    """XLA counts norms and softmax too, which are little beside products of this width."""
    images = CLIPConfig(
        embed_dim=256,
        image=ViTConfig(image_size=16, patch_size=8, width=256, layers=3, heads=4),
        text=TextConfig(width=32, layers=1, heads=4, context_length=4, vocab_size=10),
    )

    def counted(video):
        config = dataclasses.replace(images, video=video)
        model = CLIP(config, Compute(unroll=True))
        variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
        pixels = jax.ShapeDtypeStruct((1, *config.input_shape), "float32")
        encode = jax.jit(lambda v, x: model.apply(v, x, method="encode_image"))
        return forward_flops(config), encode.lower(variables, pixels).cost_analysis()["flops"]

    flops, all_of_it = counted(VideoConfig(8, time, layers=2, heads=4))
    plain, rest = counted(VideoConfig(8, "none"))
    assert flops.keys() == {"image", "text", "video"}
    assert flops["video"] == pytest.approx(all_of_it - rest, rel=0.03)
    assert plain == {name: count for name, count in flops.items() if name != "video"}
    assert plain["image"] == 8 * forward_flops(images)["image"]


SMALL = CLIPConfig(
    embed_dim=24,
    image=ViTConfig(image_size=24, patch_size=8, width=20, layers=2, heads=2),
    text=TextConfig(width=16, layers=3, heads=2, context_length=12, vocab_size=50),
)
POOLED = dataclasses.replace(SMALL.image, pool_queries=5, pool_heads=4)
RESNET = ResNetConfig(image_size=64, width=2, layers=(1, 1, 1, 1), heads=4)


def traced(config, function, *inputs):
    """FLOPs of what a function of a model with its methods bound does with such inputs."""
    model = CLIP(config)
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))

    def run(variables, *inputs):
        return function(model.bind(variables), variables["params"], *inputs)

    return counted(jax.make_jaxpr(run)(variables, *inputs).jaxpr)


def images_of(config):
    return jax.ShapeDtypeStruct((1, *config.input_shape), "float32")


def tokens_of(count, length):
    return jax.ShapeDtypeStruct((count, length), "int32")


@pytest.mark.parametrize("image", [SMALL.image, POOLED, RESNET])
@pytest.mark.parametrize("read", ["end", "class", "none"])
def test_captioning_models(image, read):
    """At the full length the decoder, its logits and the image's tokens are as they are counted."""
    text = dataclasses.replace(SMALL.text, read=read)
    config = dataclasses.replace(SMALL, image=image, text=text, decoder=DecoderConfig(2))
    dense = forward_flops(config)
    computed = computed_flops(config, [(6, 7), (2, 12)])

    def view(model, _, images):
        return model.view(images)

    def read_captions(model, params, tokens, images):
        features = model.read(tokens, model.view(images)[1].repeat(len(tokens), 0))[1]
        return next_token_logits(features, params)

    image_alone = traced(config, view, images_of(config))
    assert computed["image"] == image_alone
    assert image is RESNET or dense["image"] == image_alone  # whose pooling is read at one token
    whole, *groups = (
        traced(config, read_captions, tokens_of(n, length), images_of(config)) - image_alone
        for n, length in [(1, 12), (6, 7), (2, 12)]
    )
    assert dense["text"] + dense["decoder"] == whole
    assert (computed["text"] + computed["decoder"]) * 8 == pytest.approx(sum(groups), rel=1e-12)


@pytest.mark.parametrize("read", ["end", "class"])
@pytest.mark.parametrize("image", [SMALL.image, POOLED])
def test_poolings_and_class_tokens_without_a_decoder(image, read):
    config = dataclasses.replace(
        SMALL, image=image, text=dataclasses.replace(SMALL.text, read=read)
    )
    found = computed_flops(config, [(6, 7), (2, 12)])
    seen = traced(config, lambda model, _, x: model.encode_image(x), images_of(config))
    texts = [
        traced(config, lambda model, _, x: model.encode_text(x), tokens_of(*group))
        for group in [(6, 7), (2, 12)]
    ]
    assert found["image"] == seen
    assert found["text"] * 8 == pytest.approx(sum(texts), rel=1e-12)


def test_hidden_layers_of_projections():
    config = dataclasses.replace(SMALL, projection="mlp")
    found, plain = computed_flops(config, [(1, 12)]), computed_flops(SMALL, [(1, 12)])
    assert found["image"] - plain["image"] == 2 * 20**2
    seen = traced(config, lambda model, _, x: model.encode_image(x), images_of(config))
    text = traced(config, lambda model, _, x: model.encode_text(x), tokens_of(1, 12))
    assert found == {"image": seen, "text": text}


def test_bags_of_words():
    """The mean of embeddings is a sum over tokens, which is not counted."""
    average = dataclasses.replace(SMALL, text=CBOWConfig(16, 12, 50))
    text = traced(average, lambda model, _, x: model.encode_text(x), tokens_of(1, 12))
    assert forward_flops(average)["text"] == text - 2 * 12 * 16
    predicted = dataclasses.replace(SMALL, text=BagOfWordsConfig(12, 50))
    embeddings = jax.ShapeDtypeStruct((1, 24), "float32")
    words = traced(predicted, lambda model, _, x: model.word_logits(x), embeddings)
    assert forward_flops(predicted)["text"] == words
    for config in (average, predicted):
        found = computed_flops(config, [(6, 7), (2, 12)])
        assert found["text"] == forward_flops(config)["text"]
        assert found["image"] == computed_flops(SMALL, [(6, 7), (2, 12)])["image"]
