"""Writes towers.npz: a small open_clip model's tensors, inputs, features, loss and gradients.

Run with open_clip 3.3.0 and torch 2.13:  python tests/golden/make_towers.py
Parameters are drawn so that every one of them matters: norms away from 1, biases away from 0.
"""

from pathlib import Path

import numpy as np
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

torch.manual_seed(0)
model = CLIP(
    embed_dim=16,
    vision_cfg=CLIPVisionCfg(layers=2, width=16, head_width=8, patch_size=8, image_size=24),
    text_cfg=CLIPTextCfg(context_length=12, vocab_size=50, width=24, heads=3, layers=2),
    quick_gelu=True,
)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if name != "logit_scale":
            parameter += 0.2 * torch.randn_like(parameter) / max(parameter.shape[-1:] or [1]) ** 0.5

images = torch.randn(6, 3, 24, 24)
tokens = torch.zeros(6, 12, dtype=torch.long)
for row, length in enumerate([1, 3, 5, 8, 10, 4]):
    tokens[row, 0], tokens[row, length + 1] = 48, 49
    tokens[row, 1 : length + 1] = torch.randint(1, 48, (length,))

image, text, scale = model(images, tokens)
loss = ClipLoss()(image, text, scale)
loss.backward()
arrays = {
    "images": images.permute(0, 2, 3, 1),
    "tokens": tokens,
    "image_features": model.encode_image(images),
    "text_features": model.encode_text(tokens),
    "loss": loss,
}
arrays |= {f"tensor/{name}": tensor for name, tensor in model.named_parameters()}
arrays |= {f"gradient/{name}": tensor.grad for name, tensor in model.named_parameters()}
path = Path(__file__).with_name("towers.npz")
np.savez_compressed(path, **{name: array.detach().numpy() for name, array in arrays.items()})
print(path, path.stat().st_size, "bytes, loss", loss.item())
