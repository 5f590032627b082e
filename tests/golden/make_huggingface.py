"""Writes huggingface.npz: a small CLIPModel of transformers, its files of config, its features.

Run with transformers 5.23 and torch 2.13:  python tests/golden/make_huggingface.py
"file/NAME" is the content of a file as transformers writes it. Parameters are drawn so that every
one of them matters, and in steps of 1/16, which compress.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

TEXT = {
    "hidden_size": 24,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 12,
    "vocab_size": 50,
    "bos_token_id": 48,
    "eos_token_id": 49,
    "hidden_act": "gelu",
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 24,
    "patch_size": 8,
    "hidden_act": "gelu",
}

torch.manual_seed(0)
model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)).eval()
with torch.no_grad():
    for name, parameter in model.named_parameters():
        drawn = torch.randn_like(parameter) / (parameter.shape[-1:] or [1])[0] ** 0.5
        drawn += 1 if "norm" in name and name.endswith("weight") else 0
        parameter.copy_((drawn * 16).round() / 16)
    model.logit_scale.fill_(2.75)

images = (torch.randn(6, 3, 24, 24) * 4).round() / 4
tokens = torch.full((6, 12), 49)
for row, length in enumerate([1, 3, 5, 8, 10, 4]):
    tokens[row, 0] = 48
    tokens[row, 1 : length + 1] = torch.randint(1, 48, (length,))
with torch.no_grad():
    arrays = {
        "images": images.permute(0, 2, 3, 1),
        "tokens": tokens,
        "image_features": model.get_image_features(images).pooler_output,
        "text_features": model.get_text_features(tokens).pooler_output,
    }
arrays |= {f"tensor/{name}": tensor for name, tensor in model.state_dict().items()}
arrays = {name: tensor.numpy() for name, tensor in arrays.items()}

processor = CLIPImageProcessor(
    size={"shortest_edge": 24},
    crop_size={"height": 24, "width": 24},
    resample=2,
    image_mean=[0.5, 0.4, 0.3],
    image_std=[0.25, 0.26, 0.27],
)
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    CLIPProcessor(processor, CLIPTokenizer()).save_pretrained(folder)
    for name in ("config.json", "preprocessor_config.json", "processor_config.json"):
        arrays[f"file/{name}"] = np.array((Path(folder) / name).read_text())

path = Path(__file__).with_name("huggingface.npz")
np.savez_compressed(path, **arrays)
print(path, path.stat().st_size, "bytes")
