"""The open_clip side of train_step.py: its model, loss and optimizer in a plain loop."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file

files, seconds = Path(sys.argv[1]), float(sys.argv[3])
config = json.loads((files / "open_clip_config.json").read_text())
torch.manual_seed(0)
model = CLIP(**config["model_cfg"])
weights = files / "open_clip_model.safetensors"
if not weights.exists():
    save_file(model.state_dict(), weights)
model.load_state_dict(load_file(weights))
decay = [p for n, p in model.named_parameters() if p.ndim >= 2]
rest = [p for n, p in model.named_parameters() if p.ndim < 2]
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": 0.2}, {"params": rest, "weight_decay": 0.0}], lr=1e-4
)
criterion = ClipLoss()
arrays = np.load(files / "batches.npz")
mean, std = (torch.tensor(config["preprocess_cfg"][name]) for name in ("mean", "std"))


def step(number: int) -> float:
    number %= len(arrays["tokens"])
    pixels = torch.from_numpy(images[number]).float() / 255
    inputs = ((pixels - mean) / std).permute(0, 3, 1, 2)
    optimizer.zero_grad()
    loss = criterion(*model(inputs, torch.from_numpy(tokens[number]).long()))
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, np.log(100))
    return loss.item()


images, tokens = arrays["images"], arrays["tokens"]
loss = step(0)
count, start = 0, time.perf_counter()
while (elapsed := time.perf_counter() - start) < seconds:
    step(count)
    count += 1
rate = count * tokens.shape[1] / elapsed
print(json.dumps({"loss": loss, "samples_per_second": rate}))
