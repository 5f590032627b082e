"""Writes towers.npz and resnet.npz: small open_clip models' tensors, inputs, features, gradients.

Run with open_clip 3.3.0 and torch 2.13:  python tests/golden/make_towers.py
Parameters are drawn so that every one of them matters: norms away from 1, biases away from 0. The
ResNet's features are those with running statistics; its loss, its gradients and its "updated"
running statistics are those of a training step.
"""

from pathlib import Path

import numpy as np
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

TEXT = CLIPTextCfg(context_length=12, vocab_size=50, width=24, heads=3, layers=2)
MODELS = {
    "towers": CLIPVisionCfg(layers=2, width=16, head_width=8, patch_size=8, image_size=24),
    "resnet": CLIPVisionCfg(layers=(3, 1, 1, 1), width=2, head_width=16, image_size=64),
}


def make(name: str, vision: CLIPVisionCfg) -> None:
    torch.manual_seed(0)
    model = CLIP(embed_dim=16, vision_cfg=vision, text_cfg=TEXT, quick_gelu=True)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key != "logit_scale":
                scale = max(parameter.shape[-1:] or [1]) ** 0.5
                parameter += 0.2 * torch.randn_like(parameter) / scale

    images = torch.randn(6, 3, vision.image_size, vision.image_size)
    images += 2 * torch.randn(6, 3, 1, 1)  # else a random ResNet maps all to the same point
    images = (images * 16).round() / 16  # which compresses
    tokens = torch.zeros(6, 12, dtype=torch.long)
    for row, length in enumerate([1, 3, 5, 8, 10, 4]):
        tokens[row, 0], tokens[row, length + 1] = 48, 49
        tokens[row, 1 : length + 1] = torch.randint(1, 48, (length,))

    for _ in range(20):  # running statistics close to the batch's, but not the same
        model.train()(images, tokens)
    tensors = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    image_features = model.eval().encode_image(images)
    image, text, scale = model.train()(images, tokens)
    loss = ClipLoss()(image, text, scale)
    loss.backward()
    arrays = {
        "images": images.permute(0, 2, 3, 1),
        "tokens": tokens,
        "image_features": image_features,
        "text_features": model.encode_text(tokens),
        "loss": loss,
    }
    arrays |= {f"tensor/{key}": tensor for key, tensor in tensors.items()}
    arrays |= {
        f"gradient/{key}": tensor.grad
        for key, tensor in model.named_parameters()
        if name == "towers" or key.startswith("visual")  # the text towers are the same
    }
    arrays |= {
        f"updated/{key}": tensor for key, tensor in model.named_buffers() if "running" in key
    }
    path = Path(__file__).with_name(f"{name}.npz")
    np.savez_compressed(path, **{key: array.detach().numpy() for key, array in arrays.items()})
    print(path, path.stat().st_size, "bytes, loss", loss.item())


for name, vision in MODELS.items():
    make(name, vision)
