"""Names and layouts of OpenAI's state dict (also open_clip's) -> our parameters.

PyTorch stores dense kernels as [out, in], convolutions as [out, in, height, width], and queries,
keys and values as one [3 * width, width] matrix; layers are numbered, ours are stacked.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from clip_jax.models.config import CLIPConfig

Tensors = Mapping[str, np.ndarray]


def params_from_openai(tensors: Tensors, config: CLIPConfig) -> dict[str, Any]:
    """A ViT model's tensors by OpenAI's names -> float32 parameters of CLIP(config)."""
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    image, text = config.image, config.text
    return {
        "logit_scale": tensors["logit_scale"],
        "image": {
            "patch_embedding": tensors["visual.conv1.weight"].transpose(2, 3, 1, 0),
            "class_embedding": tensors["visual.class_embedding"],
            "position_embedding": tensors["visual.positional_embedding"],
            "norm_pre": _norm(tensors, "visual.ln_pre"),
            "transformer": {"blocks": _blocks(tensors, "visual.", image.layers, image.heads)},
            "norm_post": _norm(tensors, "visual.ln_post"),
            "projection": tensors["visual.proj"],
        },
        "text": {
            "token_embedding": tensors["token_embedding.weight"],
            "position_embedding": tensors["positional_embedding"],
            "transformer": {"blocks": _blocks(tensors, "", text.layers, text.heads)},
            "norm_final": _norm(tensors, "ln_final"),
            "projection": tensors["text_projection"],
        },
    }


def _blocks(tensors: Tensors, prefix: str, layers: int, heads: int) -> dict[str, Any]:
    """All blocks of a tower, stacked."""

    def stack(name: str) -> np.ndarray:
        return np.stack(
            [tensors[f"{prefix}transformer.resblocks.{i}.{name}"] for i in range(layers)]
        )

    width = stack("ln_1.weight").shape[-1]
    head_size = width // heads
    qkv_kernel = stack("attn.in_proj_weight").reshape(layers, 3, heads, head_size, width)
    out_kernel = stack("attn.out_proj.weight").reshape(layers, width, heads, head_size)
    return {
        "attention_norm": {"scale": stack("ln_1.weight"), "bias": stack("ln_1.bias")},
        "attention": {
            "qkv_kernel": np.moveaxis(qkv_kernel, -1, 1),
            "qkv_bias": stack("attn.in_proj_bias").reshape(layers, 3, heads, head_size),
            "out_kernel": np.moveaxis(out_kernel, 1, -1),
            "out_bias": stack("attn.out_proj.bias"),
        },
        "mlp_norm": {"scale": stack("ln_2.weight"), "bias": stack("ln_2.bias")},
        "mlp": {
            "up_kernel": stack("mlp.c_fc.weight").swapaxes(1, 2),
            "up_bias": stack("mlp.c_fc.bias"),
            "down_kernel": stack("mlp.c_proj.weight").swapaxes(1, 2),
            "down_bias": stack("mlp.c_proj.bias"),
        },
    }


def _norm(tensors: Tensors, name: str) -> dict[str, np.ndarray]:
    return {"scale": tensors[f"{name}.weight"], "bias": tensors[f"{name}.bias"]}
