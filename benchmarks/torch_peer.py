"""The torch side of train_step.py and embed.py: open_clip's CLIP, or transformers' CLIPModel.

    python torch_peer.py train_step|embed FOLDER open_clip|transformers [options]

At its best: the fused attention that both libraries choose, fused AdamW and torch.compile on GPUs,
autocast for bfloat16, channels last for convolutions.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize
from turns import measure, resident_bytes, serve

parser = argparse.ArgumentParser()
parser.add_argument("task", choices=("train_step", "embed"))
parser.add_argument("folder", type=Path)
parser.add_argument("library", choices=("open_clip", "transformers"))
parser.add_argument("--peer-compile", action=argparse.BooleanOptionalAction)
parser.add_argument("--dtype", choices=("float32", "bfloat16"))
arguments = parser.parse_args()

cuda = torch.cuda.is_available()
device = torch.device("cuda" if cuda else "cpu")
dtype = getattr(torch, arguments.dtype or ("bfloat16" if cuda else "float32"))
compiled = cuda if arguments.peer_compile is None else arguments.peer_compile
about = json.loads((arguments.folder / "peer.json").read_text())
mean, std = (torch.tensor(about[name], device=device) for name in ("mean", "std"))
Function = Callable[..., torch.Tensor]


class OpenClip(torch.nn.Module):
    """open_clip's model: unit embeddings, and the scale."""

    def __init__(self, config: dict):
        super().__init__()
        from open_clip.model import CLIP

        self.model = CLIP(**config["model_cfg"])

    def image(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixels, normalize=True)

    def text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(tokens, normalize=True)


class Transformers(torch.nn.Module):
    """transformers' model, likewise."""

    def __init__(self, config: dict):
        super().__init__()
        from transformers import CLIPConfig, CLIPModel

        self.model = CLIPModel(CLIPConfig.from_dict(config))

    def image(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.model.vision_model(pixel_values=pixels).pooler_output
        return normalize(self.model.visual_projection(features), dim=-1)

    def text(self, tokens: torch.Tensor) -> torch.Tensor:
        features = self.model.text_model(input_ids=tokens).pooler_output
        return normalize(self.model.text_projection(features), dim=-1)


def load() -> OpenClip | Transformers:
    """The model with the given weights, on the device."""
    of_open_clip = arguments.library == "open_clip"
    made = (OpenClip if of_open_clip else Transformers)(about["config"])
    stored = np.load(arguments.folder / ("weights.npz" if of_open_clip else "peer.npz"))
    tensors = {name: torch.from_numpy(stored[name]) for name in stored.files}
    missing, unknown = made.model.load_state_dict(tensors, strict=False)
    lacking = [name for name in missing if "num_batches" not in name and "position_ids" not in name]
    if lacking or unknown:
        raise SystemExit(f"the weights do not fit: {lacking[:3]}, {unknown[:3]}")
    return made.to(device, memory_format=torch.channels_last)


def standardized(images: torch.Tensor) -> torch.Tensor:
    """uint8 [n, size, size, 3] -> float [n, 3, size, size]."""
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def precision() -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def wait(result: object) -> None:
    if cuda:
        torch.cuda.synchronize()


def peak(_: float) -> dict:
    return {"bytes": torch.cuda.max_memory_allocated() if cuda else resident_bytes()}


def maybe_compiled(function: Function) -> Function:
    return torch.compile(function) if compiled else function


stored = np.load(arguments.folder / "batches.npz")
images = torch.from_numpy(stored["images"]).to(device)
tokens = torch.from_numpy(stored["tokens"]).to(device).long()
model = load()
name = f"{arguments.library}, torch {torch.__version__}{', compiled' if compiled else ''}"


def train() -> None:
    """A plain training loop; for both of train_step.py's rows the same work."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.2}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), eps=1e-6, fused=cuda)
    targets = torch.arange(images.shape[1], device=device)

    @maybe_compiled
    def loss_of(pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        with precision():
            image, text = model.image(standardized(pixels)), model.text(texts)
            logits = model.model.logit_scale.exp() * image @ text.T
        logits = logits.float()
        return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2

    def step(number: int) -> torch.Tensor:
        number %= len(tokens)
        optimizer.zero_grad()
        loss = loss_of(images[number], tokens[number])
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.model.logit_scale.clamp_(0, math.log(100))
        return loss

    def turn(seconds: float) -> dict:
        return {"samples_per_second": measure(step, wait, images.shape[1], seconds)}

    loss = step(0).item()
    step(1)
    serve({"name": name, "loss": loss}, {"full length": turn, "by length": turn, "memory": peak})


def embed() -> None:
    """Texts at the full length, as both libraries always have them."""
    model.eval()

    @maybe_compiled
    def encode_image(pixels: torch.Tensor) -> torch.Tensor:
        with precision():
            return model.image(standardized(pixels))

    @maybe_compiled
    def encode_text(texts: torch.Tensor) -> torch.Tensor:
        with precision():
            return model.text(texts)

    def timed(encode: Function, batches: torch.Tensor) -> Callable[[float], dict]:
        def encode_all(_: int) -> list:
            return [encode(batch) for batch in batches]

        def turn(seconds: float) -> dict:
            size = len(batches) * images.shape[1]
            return {"samples_per_second": measure(encode_all, wait, size, seconds)}

        return turn

    with torch.inference_mode():
        first = {"image": encode_image(images[0]), "text": encode_text(tokens[0])}
        found = {tower: rows.float().cpu().numpy() for tower, rows in first.items()}
        np.savez(arguments.folder / "peer_embeddings.npz", **found)
        texts = timed(encode_text, tokens)
        tasks = {"images": timed(encode_image, images), "texts": texts, "captions": texts}
        serve({"name": name}, tasks | {"memory": peak})


{"train_step": train, "embed": embed}[arguments.task]()
