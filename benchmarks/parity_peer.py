"""open_clip's and transformers' side of parity.py; runs in their environment.

python parity_peer.py make MODEL DIRECTORY     random weights, inputs, features, in two file formats
python parity_peer.py check DIRECTORY          features of what this project exported
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.push_to_hf_hub import save_config_for_hf
from safetensors.torch import save_file

Encode = Callable[[torch.Tensor], torch.Tensor]


def make(name: str, directory: Path) -> None:
    """A model whose weights are exact in half precision, saved by open_clip and as TorchScript."""
    torch.manual_seed(0)
    config = open_clip.get_model_config(name) | {"quick_gelu": True}
    model = open_clip.create_model(name, force_quick_gelu=True)
    size = config["vision_cfg"]["image_size"]
    images, tokens = draw_inputs(size)
    perturb(model)
    if isinstance(config["vision_cfg"]["layers"], list):
        calibrate(model, images)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.isfinite().all():  # not the mask
                tensor.copy_(tensor.half())
    model.eval()
    np.savez(directory / "inputs.npz", images=images.permute(0, 2, 3, 1), tokens=tokens)
    save_features(directory / "features.npz", model.encode_image, model.encode_text, images, tokens)

    saved = directory / "open_clip"
    saved.mkdir()
    save_file(model.state_dict(), saved / "open_clip_model.safetensors")
    save_config_for_hf(model, saved / "open_clip_config.json", model_config=config)
    for key, value in {"input_resolution": size, "context_length": 77, "vocab_size": 49408}.items():
        if hasattr(model, key):
            delattr(model, key)
        model.register_buffer(key, torch.tensor(value))
    torch.jit.script(model.half()).save(directory / "openai.pt")


def draw_inputs(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures that differ in structure: waves of several directions, lengths and colours."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    pictures = []
    for i in range(4):
        waves = [torch.sin((3 + 5 * i) * x * (c + 1) + (7 * i - c) * y + c) for c in range(3)]
        pictures.append(torch.stack(waves) * 1.5 + 0.3 * torch.randn(3, size, size) + (i - 1.5))
    tokens = torch.zeros(4, 77, dtype=torch.long)
    for row, length in enumerate([1, 6, 20, 75]):
        tokens[row, 0], tokens[row, length + 1] = 49406, 49407
        tokens[row, 1 : length + 1] = torch.randint(1, 49406, (length,))
    return torch.stack(pictures), tokens


def perturb(model: torch.nn.Module) -> None:
    """Move norms away from 1, biases from 0, and so on: so that each of them matters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale" and parameter.ndim < 2:
                parameter += 0.1 * torch.randn_like(parameter)


def calibrate(model: torch.nn.Module, images: torch.Tensor) -> None:
    """Running statistics of these images: without them a deep ResNet maps all to one point."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train().encode_image(images)
    for norm in norms:
        norm.momentum = 0.1


def check(directory: Path) -> None:
    """Features by open_clip and transformers of the models that clip_jax wrote."""
    inputs = np.load(directory / "inputs.npz")
    images = torch.from_numpy(inputs["images"]).permute(0, 3, 1, 2).contiguous()
    tokens = torch.from_numpy(inputs["tokens"])
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{directory / 'exported_oc'}")
    model.eval()
    path = directory / "features_open_clip.npz"
    save_features(path, model.encode_image, model.encode_text, images, tokens)
    if (directory / "exported_hf").is_dir():
        from transformers import CLIPModel

        other = CLIPModel.from_pretrained(directory / "exported_hf").eval()
        save_features(
            directory / "features_transformers.npz",
            lambda images: other.get_image_features(images).pooler_output,
            lambda tokens: other.get_text_features(tokens).pooler_output,
            images,
            tokens,
        )
        other.save_pretrained(directory / "transformers")


def save_features(
    path: Path,
    encode_image: Encode,
    encode_text: Encode,
    images: torch.Tensor,
    tokens: torch.Tensor,
) -> None:
    with torch.no_grad():
        np.savez(path, image=encode_image(images).numpy(), text=encode_text(tokens).numpy())


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    if task == "make":
        make(arguments[0], Path(arguments[1]))
    else:
        check(Path(arguments[0]))
    print(json.dumps({"open_clip": open_clip.__version__, "torch": torch.__version__}))
