"""Writes coca.npz: small CoCa models of open_clip, their features, losses and greedy captions.

Run with open_clip 3.3.0, torch 2.13 and transformers 4.49:  python tests/golden/make_coca.py
"NAME/config" is the model's config as JSON, "NAME/tensor/..." are its tensors. Parameters are drawn
so that every one of them matters, in steps of 1/16, which compresses. "hollow" captions have id 0,
open_clip's padding, inside. "written" are the captions that `generate` gives under "writing"; it
fails for text towers without a class token.
"""

import json
from pathlib import Path

import numpy as np
import torch
from open_clip.coca_model import CoCa
from open_clip.loss import CoCaLoss

START, END = 48, 49
TEXT = {"context_length": 12, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
DECODER = TEXT | {"layers": 2}
TEXT |= {"output_tokens": True}
VISION = {"image_size": 24, "patch_size": 8, "layers": 1, "head_width": 4, "output_tokens": True}
POOL = {"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 4}
MODELS = {
    "pooled": {  # tokens of another width than the queries
        "embed_dim": 16,
        "vision_cfg": VISION | POOL | {"width": 12},
        "text_cfg": TEXT | {"embed_cls": True},
        "multimodal_cfg": DECODER,
    },
    "square": {  # all of one width
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": VISION | POOL | {"width": 16},
        "text_cfg": TEXT | {"embed_cls": True},
        "multimodal_cfg": DECODER,
    },
    "plain": {  # neither pooling nor class token
        "embed_dim": 12,
        "vision_cfg": VISION | {"width": 16},
        "text_cfg": TEXT,
        "multimodal_cfg": DECODER,
    },
}
WRITING = {"generation_type": "top_k", "top_k": 1, "min_seq_len": 3, "seq_len": 10}
SEEDS = {"pooled": 460, "square": 741, "plain": 0}  # captions of several lengths
SPECIAL = {"sot_token_id": START, "eos_token_id": END, "pad_token_id": 0}


def draw(model: CoCa) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                continue
            if parameter.ndim == 1 and "ln_" in name and name.endswith("weight"):
                drawn = 1 + 0.2 * torch.randn_like(parameter)
            elif parameter.ndim > 1 and "embedding" not in name:
                drawn = torch.randn_like(parameter) * 1.5 * parameter.shape[-1] ** -0.5
            else:
                drawn = 0.3 * torch.randn_like(parameter)
            parameter.copy_((drawn * 16).round() / 16)


def captions(lengths: list[int]) -> torch.Tensor:
    tokens = torch.zeros(len(lengths), 12, dtype=torch.long)
    for row, length in enumerate(lengths):
        tokens[row, 0], tokens[row, length + 1] = START, END
        tokens[row, 1 : length + 1] = torch.randint(1, START, (length,))
    return tokens


def read(model: CoCa, images: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "tokens": tokens,
        "text_features": model.encode_text(tokens, normalize=False),
        "logits": model(images, tokens)["logits"],
    }


def write(model: CoCa, images: torch.Tensor) -> torch.Tensor:
    """Greedy captions, of which no step may be a close decision."""
    written = model.generate(images, **WRITING, **SPECIAL)
    first, second = model(images, written, output_labels=False)["logits"].topk(2).values.unbind(-1)
    print(written.tolist(), "closest", (first - second).min().item())
    return written


def make(config: dict, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    model = CoCa(**config).eval()
    draw(model)
    images = (torch.randn(5, 3, 24, 24) * 8).round() / 8
    hollow = captions([6, 10])
    hollow[0, 3], hollow[1, 5], hollow[1, 6] = 0, 0, 0
    with torch.no_grad():
        latent, image_tokens = model._encode_image(images, normalize=False)
        found = read(model, images, captions([1, 4, 10, 7, 9]))
        outputs = model(images, found["tokens"])
        contrasted, captioned = CoCaLoss(caption_loss_weight=2, clip_loss_weight=1)(**outputs)
        arrays = {
            "images": images.permute(0, 2, 3, 1),
            "image_features": latent,
            "image_tokens": image_tokens,
            "contrastive_loss": contrasted,
            "caption_loss": captioned / 2,
            "loss": contrasted + captioned,
            **found,
        }
        if model.text.cls_emb is not None:
            arrays["written"] = write(model, images)
        arrays |= {f"hollow/{key}": a for key, a in read(model, images[:2], hollow).items()}
    return arrays | {f"tensor/{key}": tensor for key, tensor in model.state_dict().items()}


if __name__ == "__main__":
    kept = {"writing": np.array(json.dumps(WRITING | SPECIAL))}
    for name, config in MODELS.items():
        kept[f"{name}/config"] = np.array(json.dumps(config | {"custom_text": True}))
        for key, array in make(config, SEEDS[name]).items():
            kept[f"{name}/{key}"] = array.numpy()
    path = Path(__file__).with_name("coca.npz")
    np.savez_compressed(path, **kept)
    print(path, path.stat().st_size, "bytes")
