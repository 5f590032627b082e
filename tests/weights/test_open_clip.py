"""open_clip_config.json: what it means here, what is refused, and what is written."""

import copy
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax import CLIPConfig, InputError, ResNetConfig, TextConfig, ViTConfig
from clip_jax.models.config import DecoderConfig, PreprocessConfig
from clip_jax.models.presets import OPENAI
from clip_jax.weights.open_clip import config_from_open_clip, config_to_open_clip

# The first as timm/vit_base_patch32_clip_224.openai has it; then others of open_clip's models.
VIT_B_32 = {
    "model_cfg": {
        "embed_dim": 512,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 512,
            "heads": 8,
            "layers": 12,
        },
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
RN50X4 = {
    "model_cfg": {
        "embed_dim": 640,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 288,
            "layers": [4, 6, 10, 6],
            "width": 80,
            "patch_size": None,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 640,
            "heads": 10,
            "layers": 12,
        },
    }
}
COCA_VIT_L_14 = {
    "model_cfg": {
        "embed_dim": 768,
        "vision_cfg": {
            "image_size": 224,
            "layers": 24,
            "width": 1024,
            "patch_size": 14,
            "attentional_pool": True,
            "attn_pooler_heads": 8,
            "output_tokens": True,
        },
        "text_cfg": {
            "context_length": 76,
            "vocab_size": 49408,
            "width": 768,
            "heads": 12,
            "layers": 12,
            "embed_cls": True,
            "output_tokens": True,
        },
        "multimodal_cfg": {
            "context_length": 76,
            "vocab_size": 49408,
            "width": 768,
            "heads": 12,
            "layers": 12,
            "attn_pooler_heads": 12,
        },
        "custom_text": True,
    }
}
VIT_H_14 = {
    "model_cfg": {
        "embed_dim": 1024,
        "vision_cfg": {
            "image_size": 224,
            "layers": 32,
            "width": 1280,
            "head_width": 80,
            "patch_size": 14,
        },
        "text_cfg": {"width": 1024, "heads": 16, "layers": 24},
    },
    "preprocess_cfg": {"mean": None, "std": [0.5, 0.5, 0.5], "resize_mode": "squash"},
}


def changed(values, path, value):
    """A copy with the field at path replaced, or taken out."""
    values = copy.deepcopy(values)
    *sections, name = path.split(".")
    inner = values
    for section in sections:
        inner = inner[section]
    inner[name] = value
    return values


def test_the_nine_s_configs():
    assert config_from_open_clip(VIT_B_32, "x") == OPENAI["ViT-B/32"]
    assert config_from_open_clip(RN50X4, "x") == OPENAI["RN50x4"]


UNREAD = {("attn_pooler_heads", 12)}
"""In CoCa's multimodal_cfg, where open_clip does not read it."""


def test_coca():
    config = CLIPConfig(
        768,
        ViTConfig(224, 14, 1024, layers=24, heads=16, pool_queries=256, pool_heads=8),
        TextConfig(768, layers=12, heads=12, context_length=76, read="class"),
        "gelu",
        decoder=DecoderConfig(12),
    )
    assert config_from_open_clip(COCA_VIT_L_14, "x") == config
    written = config_to_open_clip(config, own_vocabulary=False)["model_cfg"]
    for section in ("vision_cfg", "text_cfg", "multimodal_cfg"):
        assert COCA_VIT_L_14["model_cfg"][section].items() <= written[section].items() | UNREAD
    assert written["custom_text"]


def test_defaults_are_open_clip_s():
    """Exact GELU, OpenAI's vocabulary and context length, null in preprocessing."""
    assert config_from_open_clip(VIT_H_14, "x") == CLIPConfig(
        embed_dim=1024,
        image=ViTConfig(224, 14, width=1280, layers=32, heads=16),
        text=TextConfig(width=1024, layers=24, heads=16, context_length=77, vocab_size=49408),
        activation="gelu",
        preprocess=PreprocessConfig(std=(0.5, 0.5, 0.5), resize_mode="squash"),
    )
    least = {"model_cfg": {"embed_dim": 512, "vision_cfg": {}, "text_cfg": {}}}
    base = dataclasses.replace(OPENAI["ViT-B/16"], activation="gelu")
    assert config_from_open_clip(least, "x") == base


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_cfg.custom_text", True),
        ("model_cfg.init_logit_scale", 2.3),
        ("model_cfg.vision_cfg.image_size", [224, 224]),
        ("model_cfg.vision_cfg.mlp_ratio", 4),
        ("model_cfg.vision_cfg.pool_type", "tok"),
        ("model_cfg.vision_cfg.patch_dropout", 0.5),
        ("model_cfg.vision_cfg.ls_init_value", None),
        ("model_cfg.vision_cfg.attn_pooler_heads", 8),
        ("model_cfg.vision_cfg.timm_model_name", None),
        ("model_cfg.text_cfg.hf_tokenizer_name", "org/name"),
        ("model_cfg.text_cfg.eos_id", 2),
        ("model_cfg.text_cfg.proj_bias", False),
        ("preprocess_cfg.size", [224, 224]),
        ("preprocess_cfg.mode", "RGB"),
        ("preprocess_cfg.fill_color", 0),
        ("preprocess_cfg.interpolation", "random"),
        ("preprocess_cfg", None),
    ],
)
def test_fields_that_change_nothing(path, value):
    assert config_from_open_clip(changed(VIT_B_32, path, value), "x") == OPENAI["ViT-B/32"]


def test_a_bias_of_the_logits_is_part_of_the_model():
    biased = config_from_open_clip(changed(VIT_B_32, "model_cfg.init_logit_bias", -10), "x")
    assert biased == dataclasses.replace(OPENAI["ViT-B/32"], initial_logit_bias=-10)
    assert config_to_open_clip(biased, False)["model_cfg"]["init_logit_bias"] == -10


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("mean", [0.1, 0.2, 0.3], PreprocessConfig(mean=(0.1, 0.2, 0.3))),
        ("std", [0.1, 0.2, 1], PreprocessConfig(std=(0.1, 0.2, 1))),
        ("interpolation", "bilinear", PreprocessConfig(interpolation="bilinear")),
        ("resize_mode", "squash", PreprocessConfig(resize_mode="squash")),
        ("resize_mode", "longest", PreprocessConfig(resize_mode="longest")),
        ("fill_color", 127, PreprocessConfig(fill=127)),
    ],
)
def test_preprocessing_is_taken_over(path, value, expected):
    values = changed(VIT_B_32, f"preprocess_cfg.{path}", value)
    assert config_from_open_clip(values, "x").preprocess == expected


REFUSED = [
    ("model_cfg", None, "model_cfg: expected a JSON object"),
    ("model_cfg.embed_dim", "512", "embed_dim = '512' is no positive"),
    ("model_cfg.quick_gelu", "false", "quick_gelu = 'false' is neither true nor false"),
    ("model_cfg.init_logit_bias", "-10", "init_logit_bias = '-10' is no number"),
    ("model_cfg.nonscalar_logit_scale", True, "'nonscalar_logit_scale' = True is not"),
    ("model_cfg.multimodal_cfg", {}, "a decoder of width 512 reads tokens as wide as"),
    ("model_cfg.multimodal_cfg", [], r"multimodal_cfg: expected a JSON object, got \[\]"),
    ("model_cfg.multimodal_cfg", {"width": 768}, "width = 768 is not .* of the text tower, 512"),
    ("model_cfg.multimodal_cfg", {"heads": 12}, "heads = 12 is not supported, only that of the"),
    ("model_cfg.multimodal_cfg", {"context_length": 76}, "context_length = 76 is not supported"),
    ("model_cfg.multimodal_cfg", {"layers": 0}, "layers = 0 is no positive whole number"),
    ("model_cfg.multimodal_cfg", {"mlp_ratio": 2}, "mlp_ratio = 2 is not supported, only 4.0"),
    ("model_cfg.multimodal_cfg", {"ls_init_value": 0.1}, "'ls_init_value' = 0.1 is not"),
    ("model_cfg.vision_cfg.timm_model_name", "vit_base", "'timm_model_name' = 'vit_base' is not"),
    ("model_cfg.vision_cfg.qk_norm", True, "vision_cfg: 'qk_norm' = True is not supported"),
    ("model_cfg.vision_cfg.no_ln_pre", True, "'no_ln_pre' = True"),
    ("model_cfg.vision_cfg.final_ln_after_pool", True, "'final_ln_after_pool' = True"),
    ("model_cfg.vision_cfg.attentional_pool", "parallel", "attentional_pool = 'parallel' is"),
    ("model_cfg.vision_cfg.ls_init_value", 1e-4, "'ls_init_value' = 0.0001"),
    ("model_cfg.vision_cfg.norm_kwargs", {"eps": 1e-6}, "'norm_kwargs'"),
    ("model_cfg.vision_cfg.act_kwargs", {"approximate": "tanh"}, "'act_kwargs'"),
    ("model_cfg.vision_cfg.a new one", 1, "'a new one' = 1 is not supported"),
    ("model_cfg.vision_cfg.pool_type", "avg", "pool_type = 'avg' is not supported, only 'tok'"),
    ("model_cfg.vision_cfg.pos_embed_type", "sin_cos_2d", "pos_embed_type = 'sin_cos_2d'"),
    ("model_cfg.vision_cfg.mlp_ratio", 4.9231, "mlp_ratio = 4.9231 is not supported, only 4.0"),
    ("model_cfg.vision_cfg.layers", [3, 4, 6], r"layers = \[3, 4, 6\] are neither"),
    ("model_cfg.vision_cfg.layers", [3, 4, 6, 0], "are neither one positive number nor four"),
    ("model_cfg.vision_cfg.layers", [12], "are neither"),
    ("model_cfg.vision_cfg.layers", True, "are neither"),
    ("model_cfg.vision_cfg.image_size", [224, 336], r"\[224, 336\] is not the side of a square"),
    ("model_cfg.vision_cfg.image_size", 0, "image_size = 0 is not the side"),
    ("model_cfg.vision_cfg.image_size", "224", "is not the side"),
    ("model_cfg.vision_cfg.patch_size", None, "patch_size = None is no positive whole number"),
    ("model_cfg.vision_cfg.patch_size", [16, 16], "patch_size = .* is no positive whole number"),
    ("model_cfg.vision_cfg.head_width", 0, "head_width = 0 is no positive"),
    ("model_cfg.text_cfg", [], r"text_cfg: expected a JSON object, got \[\]"),
    ("model_cfg.text_cfg.no_causal_mask", True, "'no_causal_mask' = True is not supported"),
    ("model_cfg.text_cfg.pool_type", "eos", "pool_type = 'eos' is not supported, only 'argmax'"),
    ("model_cfg.text_cfg.proj_type", "none", "proj_type = 'none'"),
    ("model_cfg.text_cfg.hf_model_name", "roberta-base", "'hf_model_name' = 'roberta-base'"),
    ("model_cfg.text_cfg.embed_cls", 1, "embed_cls = 1 is neither true nor false"),
    ("model_cfg.text_cfg.correct_cls_mask", True, "'correct_cls_mask' = True is not supported"),
    ("model_cfg.text_cfg.tokenizer_kwargs", {"clean": "canonicalize"}, "'tokenizer_kwargs' = "),
    ("preprocess_cfg", "none", "preprocess_cfg: expected a JSON object"),
    ("preprocess_cfg.mode", "BGR", "mode = 'BGR' is not supported, only 'RGB'"),
    ("preprocess_cfg.std", [0, 1, 1], "are not three positive numbers"),
    ("preprocess_cfg.mean", 0.5, "mean = 0.5 are not three numbers"),
    ("preprocess_cfg.interpolation", "nearest", "'nearest' is not supported, only bicubic"),
    ("preprocess_cfg.resize_mode", "crop", "resize_mode = 'crop' is not supported"),
    ("preprocess_cfg.fill_color", 256, "fill_color = 256 is not in 0 to 255"),
    ("preprocess_cfg.fill_color", True, "fill_color = True is not in 0 to 255"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED)
def test_what_is_not_built_here_is_named(path, value, message):
    with pytest.raises(InputError, match=f"^config: .*{message}") as caught:
        config_from_open_clip(changed(VIT_B_32, path, value), "config")
    assert "\n" not in str(caught.value)


def test_what_lacks_is_named():
    for name in ("vision_cfg", "text_cfg", "embed_dim"):
        values = copy.deepcopy(VIT_B_32)
        del values["model_cfg"][name]
        with pytest.raises(InputError, match=f"config: model_cfg: has no field {name}"):
            config_from_open_clip(values, "config")
    with pytest.raises(InputError, match="config: has no field model_cfg"):
        config_from_open_clip(VIT_B_32["model_cfg"], "config")


PREPROCESSING = PreprocessConfig((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", "longest", 9)
TEXT = TextConfig(width=24, layers=2, heads=3, context_length=12, vocab_size=50)


@pytest.mark.parametrize(
    "config",
    [
        *OPENAI.values(),
        CLIPConfig(16, ViTConfig(24, 8, 30, 2, heads=5), TEXT, "gelu", PREPROCESSING),
        CLIPConfig(16, ResNetConfig(64, 6, (3, 1, 1, 1), heads=12), TEXT, "gelu"),
    ],
)
def test_what_is_written_is_read_as_it_was(config):
    written = json.loads(json.dumps(config_to_open_clip(config, own_vocabulary=False)))
    assert config_from_open_clip(written, "x") == config


def test_open_clip_is_told_of_a_vocabulary_that_it_does_not_have():
    config = OPENAI["ViT-B/32"]
    own, openai = (config_to_open_clip(config, own)["model_cfg"] for own in (True, False))
    assert own["text_cfg"].pop("hf_tokenizer_name")
    assert (
        own
        == openai
        == VIT_B_32["model_cfg"]
        | {"vision_cfg": VIT_B_32["model_cfg"]["vision_cfg"] | {"head_width": 64}}
    )


@pytest.mark.parametrize("interpolation", ["nearest", "lanczos"])
def test_filters_that_open_clip_lacks_are_refused(interpolation):
    preprocess = PreprocessConfig(interpolation=interpolation)
    config = dataclasses.replace(OPENAI["ViT-B/32"], preprocess=preprocess)
    with pytest.raises(InputError, match=f"cannot resize by '{interpolation}'.*layout='hugging"):
        config_to_open_clip(config, own_vocabulary=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
PLACES = sorted({path for path, *_ in REFUSED} | {"preprocess_cfg.other", "model_cfg.vision_cfg"})


@settings(deadline=None)
@given(
    values=st.sampled_from([VIT_B_32, RN50X4, VIT_H_14, COCA_VIT_L_14]).map(
        lambda values: {"preprocess_cfg": {}} | values
    ),
    path=st.sampled_from(PLACES),
    value=json_values,
)
def test_any_value_anywhere_is_understood_or_refused_in_one_line(values, path, value):
    try:
        hash(config_from_open_clip(changed(values, path, value), "config"))
    except InputError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message
