"""transformers' CLIPModel: its tensors, and its configs as transformers writes them (golden)."""

import copy
import dataclasses
import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensors import lazy, section

from clip_jax import CLIPConfig, InputError, ResNetConfig, TextConfig, ViTConfig
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import PreprocessConfig
from clip_jax.models.presets import OPENAI
from clip_jax.weights.fields import Fields
from clip_jax.weights.huggingface import (
    config_from_huggingface,
    config_to_huggingface,
    huggingface_layout,
)
from clip_jax.weights.layout import read_variables, write_tensors

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "huggingface.npz"))
CONFIG, PREPROCESSOR = (
    json.loads(str(GOLDEN[f"file/{name}"])) for name in ("config.json", "preprocessor_config.json")
)
EXPECTED = CLIPConfig(
    embed_dim=16,
    image=ViTConfig(24, 8, width=16, layers=2, heads=2),
    text=TextConfig(width=24, layers=2, heads=3, context_length=12, vocab_size=50),
    activation="gelu",
    preprocess=PreprocessConfig(
        mean=(0.5, 0.4, 0.3), std=(0.25, 0.26, 0.27), interpolation="bilinear"
    ),
)


def read(config, preprocessor=PREPROCESSOR):
    return config_from_huggingface(config, Fields(preprocessor, "preprocessor"), "config")


def changed(values, path, value):
    """A copy with the field at path replaced."""
    values = copy.deepcopy(values)
    *sections, name = path.split(".")
    inner = values
    for key in sections:
        inner = inner[key]
    inner[name] = value
    return values


def test_transformers_own_configs():
    assert read(CONFIG) == EXPECTED


def test_without_a_preprocessor_the_preprocessing_is_openai_s():
    assert read(CONFIG, {}).preprocess == PreprocessConfig()


def test_defaults_are_those_of_transformers():
    base = {"model_type": "clip", "vision_config": None, "text_config": {}}
    assert read(base, {}) == OPENAI["ViT-B/32"]
    assert read({"model_type": "clip"}, {}) == OPENAI["ViT-B/32"]


def test_an_older_dict_takes_the_place_of_a_tower_s_config_altogether():
    """In transformers, what text_config_dict leaves out is the default, not text_config's."""
    base = {"model_type": "clip", "text_config": {"hidden_act": "gelu", "num_hidden_layers": 3}}
    older = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
    text = read(base | {"text_config_dict": older}, {}).text
    assert text == TextConfig(width=128, layers=12, heads=2)
    assert read(base | {"text_config_dict": {}}, {}) == OPENAI["ViT-B/32"]
    vision = {"vision_config": {"patch_size": 8}, "vision_config_dict": {"patch_size": 16}}
    assert read({"model_type": "clip"} | vision, {}) == OPENAI["ViT-B/16"]
    with pytest.raises(InputError, match="hidden_act differs"):
        read(base | {"text_config_dict": None}, {})


REFUSED = [
    ("model_type", "siglip", "model_type 'siglip' is not supported, only 'clip'"),
    ("model_type", ["clip"], r"model_type \['clip'\] is not supported"),
    ("projection_dim", None, "projection_dim = None is no positive whole number"),
    ("vision_config", [], "vision_config: expected a JSON object"),
    ("vision_config_dict", 3, "vision_config_dict: expected a JSON object, got 3"),
    ("vision_config.hidden_act", "gelu_new", "hidden_act = 'gelu_new' is not supported, only"),
    ("vision_config.hidden_act", "quick_gelu", "hidden_act differs between the towers"),
    ("vision_config.hidden_act", None, "hidden_act = None is not supported"),
    ("text_config.hidden_act", "relu", "text_config: hidden_act = 'relu' is not supported"),
    ("vision_config.intermediate_size", 72, "intermediate_size = 72 is not supported, only 4 *"),
    ("text_config.layer_norm_eps", 1e-6, "layer_norm_eps = 1e-06 is not supported, only 1e-05"),
    ("vision_config.image_size", [24, 24], r"image_size = \[24, 24\] is no positive"),
    ("vision_config.num_hidden_layers", 2.0, "num_hidden_layers = 2.0 is no positive"),
    ("text_config.vocab_size", -1, "vocab_size = -1 is no positive"),
    ("text_config.max_position_embeddings", "12", "max_position_embeddings = '12' is no"),
    ("text_config.eos_token_id", 48, r"eos_token_id = 48 is not .*, only the highest id \(49\)"),
    ("text_config.eos_token_id", [49], r"eos_token_id = \[49\] is not supported"),
    ("text_config.eos_token_id", None, "eos_token_id = None is not supported"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED)
def test_other_models_are_refused_by_the_field(path, value, message):
    with pytest.raises(InputError, match=f"^config: .*{message}") as caught:
        read(changed(CONFIG, path, value))
    assert "\n" not in str(caught.value)


def test_the_end_token_must_be_the_highest_id():
    older = changed(CONFIG, "text_config.eos_token_id", 2)
    assert read(older) == EXPECTED
    absent = copy.deepcopy(CONFIG)
    del absent["text_config"]["eos_token_id"]  # then transformers takes 49407
    with pytest.raises(InputError, match="eos_token_id = 49407 is not supported"):
        read(absent)
    with pytest.raises(InputError, match="eos_token_id = 49 is not supported"):
        read(changed(CONFIG, "text_config.vocab_size", 52))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": 24, "crop_size": 24}, {}),
        ({"feature_extractor_type": "CLIPFeatureExtractor"}, {}),
        ({"image_processor_type": "CLIPImageProcessorFast"}, {}),
        ({"do_convert_rgb": False, "processor_class": "CLIPProcessor"}, {}),
        ({"rescale_factor": 0.00392156862}, {}),
        ({"resample": 3}, {"interpolation": "bicubic"}),
        ({"resample": 0}, {"interpolation": "nearest"}),
        ({"resample": 1}, {"interpolation": "lanczos"}),
        ({"size": {"height": 24, "width": 24}}, {"resize_mode": "squash"}),
        (
            {"size": {"height": 24, "width": 24}, "do_center_crop": False, "crop_size": 9},
            {"resize_mode": "squash"},
        ),
        ({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}, {"mean": (0,) * 3, "std": (1,) * 3}),
    ],
)
def test_preprocessing_is_taken_over(changes, expected):
    wanted = dataclasses.replace(EXPECTED.preprocess, **expected)
    assert read(CONFIG, PREPROCESSOR | changes).preprocess == wanted


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image_processor_type", "SiglipImageProcessor", "'SiglipImageProcessor' is not supported"),
        ("image_processor_type", None, "image_processor_type = None is not supported, only CLIP"),
        ("feature_extractor_type", "ViTFeatureExtractor", "is not supported, only CLIP's"),
        ("do_resize", False, "do_resize = False is not supported, only True"),
        ("do_rescale", False, "do_rescale = False"),
        ("do_normalize", False, "do_normalize = False"),
        ("do_center_crop", False, "do_center_crop = False"),
        ("rescale_factor", 0.0078, "rescale_factor = 0.0078 is not supported, only 1/255"),
        ("rescale_factor", "x", "rescale_factor = 'x'"),
        ("rescale_factor", float("nan"), "rescale_factor = nan"),
        ("resample", 4, "resample = 4 is not supported"),
        ("resample", True, "resample = True is not supported"),
        ("resample", "bicubic", "resample = 'bicubic'"),
        ("size", {"shortest_edge": 32}, "size = .*32.* is not supported, only .* image_size 24"),
        ("size", {"height": 24, "width": 32}, "size = .* is not supported"),
        ("size", 32, "size = 32 is not supported"),
        ("crop_size", 22, "crop_size = 22 is not supported, only the model's image_size 24"),
        ("crop_size", {"height": 24, "width": 22}, "crop_size = .* is not supported"),
        ("image_mean", [0.5], r"image_mean = \[0.5\] are not three numbers"),
        ("image_std", [0.5, 0.5, 0], "image_std = .* are not three positive numbers"),
    ],
)
def test_other_preprocessing_is_refused_by_the_field(name, value, message):
    with pytest.raises(InputError, match=f"^preprocessor: .*{message}"):
        read(CONFIG, PREPROCESSOR | {name: value})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
PLACES = sorted(
    {path for path, *_ in REFUSED}
    | {f"{tower}_config.{name}" for tower in ("text", "vision") for name in CONFIG["text_config"]}
)


@settings(deadline=None)
@given(
    place=st.sampled_from(PLACES),
    value=json_values,
    name=st.sampled_from(sorted(PREPROCESSOR)),
    preprocessing=st.just("as it is") | json_values,
)
def test_any_value_anywhere_is_understood_or_refused_in_one_line(place, value, name, preprocessing):
    preprocessor = PREPROCESSOR
    if preprocessing != "as it is":
        preprocessor = PREPROCESSOR | {name: preprocessing}
    try:
        hash(read(changed(CONFIG, place, value), preprocessor))
    except InputError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(partial(init_variables, CLIP(EXPECTED)), jax.random.key(0))
    tensors = lazy(section(GOLDEN, "tensor"))
    return read_variables(huggingface_layout(EXPECTED), tensors, shapes, "golden")


def test_tensors_come_back_as_they_were(variables):
    tensors = section(GOLDEN, "tensor")
    written = write_tensors(huggingface_layout(EXPECTED), variables)
    assert written.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(written[name], tensor, err_msg=name, strict=True)


def test_written_configs_say_what_transformers_own_say():
    config, preprocessor = json.loads(json.dumps(config_to_huggingface(EXPECTED)))
    expected = copy.deepcopy(CONFIG)
    training_only = {"attention_dropout", "initializer_factor", "initializer_range"}
    for values in (expected, expected["text_config"], expected["vision_config"]):
        for name in {*training_only, "dtype", "transformers_version", "logit_scale_init_value"}:
            values.pop(name, None)
    assert expected["vision_config"].pop("num_channels") == 3  # transformers' default
    for values in (expected, config):  # CLIPModel reads projection_dim at the top alone,
        for tower in ("text_config", "vision_config"):  # and pad_token_id not at all.
            del values[tower]["projection_dim"]
        del values["text_config"]["pad_token_id"]
    assert config == expected
    assert preprocessor == PREPROCESSOR


@pytest.mark.parametrize(
    "config",
    [
        EXPECTED,
        dataclasses.replace(EXPECTED, preprocess=PreprocessConfig(resize_mode="squash")),
        dataclasses.replace(EXPECTED, preprocess=PreprocessConfig(interpolation="lanczos")),
        *(config for config in OPENAI.values() if isinstance(config.image, ViTConfig)),
    ],
)
def test_what_is_written_is_read_as_it_was(config):
    written, preprocessor = json.loads(json.dumps(config_to_huggingface(config)))
    assert read(written, preprocessor) == config


def test_what_the_layout_cannot_express_is_refused():
    resnet = dataclasses.replace(EXPECTED, image=ResNetConfig(64, 2, (3, 1, 1, 1), 4))
    for function in (huggingface_layout, config_to_huggingface):
        with pytest.raises(InputError, match="has no ResNets; use layout='open_clip'"):
            function(resnet)
    padded = dataclasses.replace(EXPECTED, preprocess=PreprocessConfig(resize_mode="longest"))
    with pytest.raises(InputError, match="cannot say resize_mode 'longest'; use layout='open_"):
        config_to_huggingface(padded)
