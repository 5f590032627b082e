"""Hugging Face's CLIPModel: names of tensors, config.json and preprocessor_config.json.

Only models with a ViT exist in this layout.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from clip_jax.errors import InputError
from clip_jax.models.config import CLIPConfig, PreprocessConfig, ResNetConfig, TextConfig, ViTConfig
from clip_jax.weights.fields import Fields, shown
from clip_jax.weights.layout import Tensor
from clip_jax.weights.limits import text_tower
from clip_jax.weights.pytorch import (
    CONVOLUTION,
    DENSE,
    dense_tensors,
    norm_tensors,
    out_tensors,
    qkv_tensors,
)

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
"""Newer transformers write the preprocessor's config into this one, as "image_processor"."""

WHOLE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""What the weights may be called in one file, preferred first."""

WEIGHTS = tuple(name for file in WHOLE_WEIGHTS for name in (file, f"{file}.index.json"))
"""These, and the indices of weights in shards."""

NOT_WEIGHTS = r"\.position_ids$"
"""Tensors of older files that are no parameters."""

INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
"""Pillow's numbers, by which the preprocessor's config names them."""


def huggingface_layout(config: CLIPConfig) -> list[Tensor]:
    """Every tensor of a model with a ViT and without a bias of the logits."""
    image, text = _vit(config), _text(config)
    if config.initial_logit_bias is not None:
        raise InputError("Hugging Face's CLIP has no logit_bias; use layout='open_clip'")
    ours, theirs = "params/image", "vision_model"
    layout = [
        Tensor("logit_scale", "params/logit_scale"),
        Tensor(f"{theirs}.embeddings.class_embedding", f"{ours}/class_embedding"),
        Tensor(
            f"{theirs}.embeddings.patch_embedding.weight",
            f"{ours}/patch_embedding",
            axes=CONVOLUTION,
        ),
        Tensor(f"{theirs}.embeddings.position_embedding.weight", f"{ours}/position_embedding"),
        *norm_tensors(f"{theirs}.pre_layrnorm", f"{ours}/norm_pre"),
        *_blocks(theirs, ours, image),
        *norm_tensors(f"{theirs}.post_layernorm", f"{ours}/norm_post"),
        Tensor("visual_projection.weight", f"{ours}/projection", axes=DENSE),
    ]
    ours, theirs = "params/text", "text_model"
    return [
        *layout,
        Tensor(f"{theirs}.embeddings.token_embedding.weight", f"{ours}/token_embedding"),
        Tensor(f"{theirs}.embeddings.position_embedding.weight", f"{ours}/position_embedding"),
        *_blocks(theirs, ours, text),
        *norm_tensors(f"{theirs}.final_layer_norm", f"{ours}/norm_final"),
        Tensor("text_projection.weight", f"{ours}/projection", axes=DENSE),
    ]


def config_from_huggingface(
    values: Mapping[str, Any], preprocessor: Fields, source: str
) -> CLIPConfig:
    """The contents of config.json and of the preprocessor's config (empty if absent) -> our config.

    Raises InputError for another kind of model and for what this project does not build.
    """
    kind = values.get("model_type")
    if kind != "clip":
        raise InputError(f"{source}: model_type {shown(kind)} is not supported, only 'clip'")
    top = Fields(values, source)
    vision, text = _tower(top, "vision_config"), _tower(top, "text_config")
    known = ("quick_gelu", "gelu")
    activation = vision.choice("hidden_act", known, "quick_gelu")
    if text.choice("hidden_act", known, "quick_gelu") != activation:
        raise InputError(f"{source}: hidden_act differs between the towers, which is not supported")
    image_config = ViTConfig(
        width=_width(vision, 768, 3072),
        layers=vision.integer("num_hidden_layers", 12),
        heads=vision.integer("num_attention_heads", 12),
        image_size=vision.integer("image_size", 224),
        patch_size=vision.integer("patch_size", 32),
    )
    text_config = TextConfig(
        width=_width(text, 512, 2048),
        layers=text.integer("num_hidden_layers", 12),
        heads=text.integer("num_attention_heads", 8),
        context_length=text.integer("max_position_embeddings", 77),
        vocab_size=text.integer("vocab_size", 49408),
    )
    _check_end(text.take("eos_token_id", 49407), text_config.vocab_size, text.source)
    return CLIPConfig(
        embed_dim=top.integer("projection_dim", 512),
        image=image_config,
        text=text_config,
        activation=activation,
        preprocess=_preprocess(preprocessor, image_config.image_size),
    )


def config_to_huggingface(config: CLIPConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inverse: what config.json and preprocessor_config.json are to hold.

    Raises InputError for what the layout cannot express.
    """
    image, text = _vit(config), _text(config)
    vision_config = _tower_config("clip_vision_model", image, config) | {
        "image_size": image.image_size,
        "patch_size": image.patch_size,
    }
    text_config = _tower_config("clip_text_model", text, config) | {
        "max_position_embeddings": text.context_length,
        "vocab_size": text.vocab_size,
        "bos_token_id": text.vocab_size - 2,
        "eos_token_id": text.vocab_size - 1,
        "pad_token_id": text.vocab_size - 1,
    }
    model = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "vision_config": vision_config,
        "text_config": text_config,
    }
    return model, _preprocessor_config(config.preprocess, image.image_size)


def _vit(config: CLIPConfig) -> ViTConfig:
    """The image tower, which has to be a ViT."""
    if isinstance(config.image, ResNetConfig):
        raise InputError("the Hugging Face layout has no ResNets; use layout='open_clip'")
    if config.image.pool_queries:
        raise InputError("the Hugging Face layout has no pool_queries; use layout='open_clip'")
    return config.image


def _text(config: CLIPConfig) -> TextConfig:
    """The text tower, which has to be one that is read at the end, without a decoder."""
    text = text_tower(config)
    if config.decoder is not None or text.read != "end":
        raise InputError("the Hugging Face layout has no CoCa; use layout='open_clip'")
    return text


def _tower_config(kind: str, tower: ViTConfig | TextConfig, config: CLIPConfig) -> dict[str, Any]:
    """What config.json says of either tower."""
    return {
        "hidden_act": config.activation,
        "layer_norm_eps": 1e-5,
        "projection_dim": config.embed_dim,
        "model_type": kind,
        "hidden_size": tower.width,
        "intermediate_size": 4 * tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
    }


def _preprocessor_config(preprocess: PreprocessConfig, image_size: int) -> dict[str, Any]:
    if preprocess.resize_mode == "longest":
        raise InputError(
            "the Hugging Face layout cannot say resize_mode 'longest'; use layout='open_clip'"
        )
    square = {"height": image_size, "width": image_size}
    shortest = preprocess.resize_mode == "shortest"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": image_size} if shortest else square,
        "resample": INTERPOLATIONS[preprocess.interpolation],
        "do_center_crop": True,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
        "do_convert_rgb": True,
    }


def _blocks(theirs: str, ours: str, c: ViTConfig | TextConfig) -> Iterator[Tensor]:
    ours = f"{ours}/transformer/blocks"
    attention, mlp = f"{ours}/attention", f"{ours}/mlp"
    for i in range(c.layers):
        block, at = f"{theirs}.encoder.layers.{i}", (i,)
        yield from norm_tensors(f"{block}.layer_norm1", f"{ours}/attention_norm", at)
        yield from qkv_tensors(f"{block}.self_attn", attention, c.width, at)
        yield from out_tensors(f"{block}.self_attn", attention, c.width, at)
        yield from norm_tensors(f"{block}.layer_norm2", f"{ours}/mlp_norm", at)
        yield from dense_tensors(f"{block}.mlp.fc1", f"{mlp}/up_kernel", f"{mlp}/up_bias", at)
        yield from dense_tensors(f"{block}.mlp.fc2", f"{mlp}/down_kernel", f"{mlp}/down_bias", at)


def _tower(top: Fields, name: str) -> Fields:
    """The config of a tower; an older one of the name with "_dict" takes its place altogether."""
    tower, older = top.section(name, optional=True), top.take(f"{name}_dict", None)
    return tower if older is None else Fields(older, f"{top.source}: {name}_dict")


def _width(tower: Fields, default: int, default_hidden: int) -> int:
    width = tower.integer("hidden_size", default)
    hidden = tower.integer("intermediate_size", default_hidden)
    if hidden != 4 * width:
        raise InputError(
            f"{tower.source}: intermediate_size = {hidden} is not supported, only 4 * hidden_size"
        )
    tower.expect("layer_norm_eps", 1e-5)
    return width


def _check_end(end: Any, vocab_size: int, source: str) -> None:
    """Texts are read at the highest id, which has to be the end; 2 stands for it in older files."""
    if type(end) is not int or end not in (2, vocab_size - 1):
        raise InputError(
            f"{source}: eos_token_id = {shown(end)} is not supported, only the highest id "
            f"({vocab_size - 1}) or 2, which older files say instead"
        )


def _preprocess(values: Fields, image_size: int) -> PreprocessConfig:
    default = PreprocessConfig()
    source = values.source
    for name in ("image_processor_type", "feature_extractor_type"):
        kind = values.take(name, "CLIP")
        if not isinstance(kind, str) or not kind.startswith("CLIP"):
            raise InputError(f"{source}: {name} = {shown(kind)} is not supported, only CLIP's")
    for name in ("do_resize", "do_rescale", "do_normalize"):
        values.expect(name, True)
    factor = values.take("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise InputError(f"{source}: rescale_factor = {shown(factor)} is not supported, only 1/255")
    resample = values.take("resample", INTERPOLATIONS["bicubic"])
    names: dict[Any, Any] = {number: name for name, number in INTERPOLATIONS.items()}
    if type(resample) is not int or resample not in names:
        raise InputError(f"{source}: resample = {shown(resample)} is not supported")
    return PreprocessConfig(
        mean=values.colour("image_mean", default.mean),
        std=values.colour("image_std", default.std, positive=True),
        interpolation=names[resample],
        resize_mode=_resize_mode(values, image_size),
    )


def _resize_mode(values: Fields, image_size: int) -> Literal["shortest", "squash"]:
    """Which of the two "size" means; a result that is not what the model takes is refused."""
    square = {"height": image_size, "width": image_size}
    size = values.take("size", image_size)
    crop_size = values.take("crop_size", square)
    if size == square:
        return "squash"
    # Older files have numbers.
    if size not in (image_size, {"shortest_edge": image_size}):
        raise InputError(
            f"{values.source}: size = {shown(size)} is not supported, only the model's image_size "
            f"{image_size}"
        )
    values.expect("do_center_crop", True)
    if crop_size not in (image_size, square):
        raise InputError(
            f"{values.source}: crop_size = {shown(crop_size)} is not supported, only the model's "
            f"image_size {image_size}"
        )
    return "shortest"
