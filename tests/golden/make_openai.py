"""Writes openai.npz: a small model in the two forms of OpenAI's .pt files, and its features.

Run with open_clip 3.3.0 and torch 2.13:  python tests/golden/make_openai.py
"file/NAME" holds the bytes of a file: script.pt, a TorchScript archive in half precision as OpenAI
released them, and state.pt, the same as a state dict. Both towers have 64 values a head. Matrices
hold nothing but -1/8, 0 and 1/8, which compresses.
"""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from open_clip.model import (
    CLIP,
    CLIPTextCfg,
    CLIPVisionCfg,
    build_model_from_openai_state_dict,
    convert_weights_to_fp16,
    resize_pos_embed,
)

SIZES = {"input_resolution": 24, "context_length": 12, "vocab_size": 50}
TEXT = CLIPTextCfg(context_length=12, vocab_size=50, width=64, heads=1, layers=1)


def make(image_size: int) -> CLIP:
    vision = CLIPVisionCfg(layers=1, width=64, patch_size=8, image_size=image_size)
    return CLIP(embed_dim=16, vision_cfg=vision, text_cfg=TEXT, quick_gelu=True).eval()


def drop_debug_members(path: Path) -> None:
    """Leave out what names the paths of the machine that wrote a TorchScript archive."""
    with zipfile.ZipFile(path) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members:
            if not info.filename.endswith(".debug_pkl"):
                archive.writestr(info, content)


torch.manual_seed(0)
model = make(24)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.copy_(torch.randint(-1, 2, parameter.shape) / 8)
        else:
            drawn = (torch.randn_like(parameter) * 8).round() / 32
            parameter.copy_(drawn + (1 if "ln_" in name and name.endswith("weight") else 0))
    model.logit_scale.fill_(2.75)
state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

images, larger = ((torch.randn(5, 3, n, n) * 4).round() / 4 for n in (24, 40))
tokens = torch.zeros(5, 12, dtype=torch.long)
for row, length in enumerate([1, 3, 5, 8, 10]):
    tokens[row, 0], tokens[row, length + 1] = 48, 49
    tokens[row, 1 : length + 1] = torch.randint(1, 48, (length,))
reference = build_model_from_openai_state_dict(dict(state)).float()
resized, at_40 = dict(state), make(40)
resize_pos_embed(resized, at_40)
at_40.load_state_dict(resized)
with torch.no_grad():
    arrays = {
        "images": images.permute(0, 2, 3, 1).numpy(),
        "tokens": tokens.numpy(),
        "image_features": reference.encode_image(images).numpy(),
        "text_features": reference.encode_text(tokens).numpy(),
        "images_at_40": larger.permute(0, 2, 3, 1).numpy(),
        "image_features_at_40": at_40.encode_image(larger).numpy(),
    }

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    for key, value in SIZES.items():
        if hasattr(model, key):
            delattr(model, key)
        model.register_buffer(key, torch.tensor(value))
    convert_weights_to_fp16(model)
    torch.save(model.state_dict(), folder / "state.pt")
    torch.jit.script(model).save(folder / "script.pt")
    drop_debug_members(folder / "script.pt")
    for path in sorted(folder.iterdir()):
        arrays[f"file/{path.name}"] = np.frombuffer(path.read_bytes(), np.uint8)

path = Path(__file__).with_name("openai.npz")
np.savez_compressed(path, **arrays)
print(path, path.stat().st_size, "bytes")
