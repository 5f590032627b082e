"""The open_clip side of loss.py: its loss and gradients on one device."""

import json
import sys
import time
from pathlib import Path

import torch
from open_clip.loss import ClipLoss

pairs, width = int(sys.argv[1]), int(sys.argv[2])
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)


def draw() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(pairs, width, device=device), dim=1)


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


image = draw()
text = (image + 3 * draw()) / 10**0.5
scale = torch.tensor(20.0, device=device)
inputs = [tensor.requires_grad_() for tensor in (image, text, scale)]
criterion = ClipLoss()


def step() -> None:
    torch.autograd.grad(criterion(*inputs), inputs)
    if device == "cuda":
        torch.cuda.synchronize()


Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
if device == "cuda":
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
start = time.perf_counter()
step()
seconds = time.perf_counter() - start
peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")
if seconds < 5:
    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < 5:
        step()
        count += 1
    seconds = (time.perf_counter() - start) / count
print(json.dumps({"peak": peak - before, "seconds": seconds}))
