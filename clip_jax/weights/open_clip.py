"""open_clip_config.json: the architecture and preprocessing of an open_clip checkpoint.

Its tensors carry OpenAI's names (openai.py).
"""

from collections.abc import Mapping
from typing import Any

from clip_jax.errors import InputError
from clip_jax.models.config import (
    CLIPConfig,
    DecoderConfig,
    PreprocessConfig,
    ResNetConfig,
    TextConfig,
    ViTConfig,
)
from clip_jax.weights.coca import decoder_problem, needs_custom_text
from clip_jax.weights.fields import Fields, shown
from clip_jax.weights.limits import text_tower

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What the weights beside it may be called, preferred first."""

INTERPOLATIONS = ("bicubic", "bilinear")
"""What open_clip's preprocessing knows."""


def config_from_open_clip(values: Mapping[str, Any], source: str) -> CLIPConfig:
    """The content of open_clip_config.json -> our config.

    Raises InputError for what this project does not build, naming the field.
    """
    top = Fields(values, source)
    model = top.section("model_cfg")
    image, text = _image(model.section("vision_cfg")), _text(model.section("text_cfg"))
    quick_gelu = model.flag("quick_gelu", False)
    embed_dim = model.integer("embed_dim")
    bias = model.number("init_logit_bias")
    decoder = _decoder(model, text)
    # The same function under other names; a start value, which the weights replace.
    model.skip("custom_text", "init_logit_scale")
    model.refuse_others()
    config = CLIPConfig(
        embed_dim=embed_dim,
        image=image,
        text=text,
        decoder=decoder,
        activation="quick_gelu" if quick_gelu else "gelu",
        preprocess=_preprocess(top.section("preprocess_cfg", optional=True).without_nulls()),
        initial_logit_bias=bias,
    )
    if decoder is not None and (problem := decoder_problem(config, text.width)):
        raise InputError(f"{source}: {problem}")
    return config


def config_to_open_clip(config: CLIPConfig, own_vocabulary: bool) -> dict[str, Any]:
    """The inverse: what open_clip_config.json is to hold.

    own_vocabulary: a vocabulary that is not OpenAI's lies beside it, as tokenizer.json. Raises
    InputError for what open_clip does not have.
    """
    text = text_tower(config)
    if config.decoder is not None and (problem := decoder_problem(config, text.width)):
        raise InputError(f"in open_clip, {problem}; such a model is kept in its workdir")
    if config.preprocess.interpolation not in INTERPOLATIONS:
        raise InputError(
            f"open_clip cannot resize by {config.preprocess.interpolation!r}, only by "
            f"{' and '.join(INTERPOLATIONS)}; use layout='huggingface'"
        )
    sizes = {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "width": text.width,
        "heads": text.heads,
    }
    tokens = {} if config.decoder is None else {"output_tokens": True}
    vision_cfg = _vision_cfg(config.image) | tokens
    text_cfg: dict[str, Any] = sizes | {"layers": text.layers} | tokens
    if text.read == "class":
        text_cfg["embed_cls"] = True
    if own_vocabulary:
        # Any name: in a local directory, open_clip then takes the vocabulary that lies there.
        text_cfg["hf_tokenizer_name"] = "tokenizer.json"
    model_cfg: dict[str, Any] = {
        "embed_dim": config.embed_dim,
        "quick_gelu": config.activation == "quick_gelu",
        "vision_cfg": vision_cfg,
        "text_cfg": text_cfg,
    }
    if config.initial_logit_bias is not None:
        model_cfg["init_logit_bias"] = config.initial_logit_bias
    if needs_custom_text(config):
        model_cfg["custom_text"] = True
    if config.decoder is not None:
        model_cfg["multimodal_cfg"] = sizes | {"layers": config.decoder.layers}
    return {"model_cfg": model_cfg, "preprocess_cfg": _preprocess_cfg(config.preprocess)}


def _vision_cfg(image: ViTConfig | ResNetConfig) -> dict[str, Any]:
    sizes: dict[str, Any] = {"image_size": image.image_size, "width": image.width}
    if isinstance(image, ResNetConfig):
        head_width = 32 * image.width // image.heads
        return sizes | {"layers": list(image.layers), "head_width": head_width, "patch_size": None}
    sizes |= {
        "layers": image.layers,
        "head_width": image.width // image.heads,
        "patch_size": image.patch_size,
    }
    if image.pool_queries == 0:
        return sizes
    pool = {"attn_pooler_queries": image.pool_queries, "attn_pooler_heads": image.pool_heads}
    return sizes | {"attentional_pool": True} | pool


def _preprocess_cfg(preprocess: PreprocessConfig) -> dict[str, Any]:
    return {
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "interpolation": preprocess.interpolation,
        "resize_mode": preprocess.resize_mode,
        "fill_color": preprocess.fill,
    }


def _image(vision: Fields) -> ViTConfig | ResNetConfig:
    layers = _layers(vision)
    width = vision.integer("width", 768)
    head_width = vision.integer("head_width", 64)
    image_size = _image_size(vision)
    image: ViTConfig | ResNetConfig
    if isinstance(layers, tuple):
        vision.skip("patch_size")
        image = ResNetConfig(image_size, width, layers, heads=32 * width // head_width)
    else:
        image = ViTConfig(
            image_size,
            vision.integer("patch_size", 16),
            width,
            layers,
            heads=width // head_width,
            **_pool(vision),
        )
    vision.expect("mlp_ratio", 4.0)
    vision.expect("pool_type", "tok")
    vision.expect("pos_embed_type", "learnable")
    vision.skip("patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "output_tokens")
    vision.refuse_others()
    return image


def _pool(vision: Fields) -> dict[str, int]:
    """The fields of a ViT's pooling, if it has one."""
    if not vision.flag("attentional_pool", False):
        return {}
    return {
        "pool_queries": vision.integer("attn_pooler_queries", 256),
        "pool_heads": vision.integer("attn_pooler_heads", 8),
    }


def _decoder(model: Fields, text: TextConfig) -> DecoderConfig | None:
    """What multimodal_cfg says, if it is there: a decoder for the text tower."""
    values = model.take("multimodal_cfg", None)
    if values is None:
        return None
    decoder = Fields(values, f"{model.source}: multimodal_cfg")
    layers = decoder.integer("layers", 12)
    defaults = {"width": 512, "heads": 8, "context_length": 77}
    for name, default in defaults.items():
        size, below = decoder.integer(name, default), getattr(text, name)
        if size != below:
            raise InputError(
                f"{decoder.source}: {name} = {size} is not supported, only that of the text "
                f"tower, {below}"
            )
    decoder.expect("mlp_ratio", 4.0)
    # open_clip does not read these here: the vocabulary is the text tower's, the rest nowhere used.
    decoder.skip("vocab_size", "dim_head", "n_queries", "attn_pooler_heads")
    decoder.refuse_others()
    return DecoderConfig(layers)


def _text(text: Fields) -> TextConfig:
    with_class = text.flag("embed_cls", False)
    config = TextConfig(
        width=text.integer("width", 512),
        layers=text.integer("layers", 12),
        heads=text.integer("heads", 8),
        context_length=text.integer("context_length", 77),
        vocab_size=text.integer("vocab_size", 49408),
        read="class" if with_class else "end",
    )
    if with_class:
        text.expect("pad_id", 0)
    text.expect("mlp_ratio", 4.0)
    text.expect("pool_type", "argmax")
    text.expect("proj_type", "linear")
    text.skip("hf_tokenizer_name", "pad_id", "eos_id", "output_tokens")
    text.refuse_others()
    return config


def _preprocess(values: Fields) -> PreprocessConfig:
    default = PreprocessConfig()
    values.expect("mode", "RGB")
    interpolation = values.choice("interpolation", (*INTERPOLATIONS, "random"), "bicubic")
    fill = values.take("fill_color", default.fill)
    if type(fill) is not int or not 0 <= fill <= 255:
        raise InputError(f"{values.source}: fill_color = {shown(fill)} is not in 0 to 255")
    return PreprocessConfig(
        mean=values.colour("mean", default.mean),
        std=values.colour("std", default.std, positive=True),
        # "random" is for training, and bicubic otherwise.
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
        resize_mode=values.choice("resize_mode", ("shortest", "squash", "longest"), "shortest"),
        fill=fill,
    )


def _layers(vision: Fields) -> int | tuple[int, int, int, int]:
    """The number of blocks; of a ResNet, of each stage."""
    if isinstance(layers := vision.take("layers", 12), list):
        if len(layers) == 4 and all(type(blocks) is int and blocks > 0 for blocks in layers):
            return (layers[0], layers[1], layers[2], layers[3])
    elif type(layers) is int and layers > 0:
        return layers
    raise InputError(
        f"{vision.source}: layers = {shown(layers)} are neither one positive number nor four"
    )


def _image_size(vision: Fields) -> int:
    size = vision.take("image_size", 224)
    sides = size if isinstance(size, list) else [size, size]
    square = len(sides) == 2 and sides[0] == sides[1]
    if not square or not all(type(side) is int and side > 0 for side in sides):
        raise InputError(f"{vision.source}: image_size = {shown(size)} is not the side of a square")
    return sides[0]
