"""Writes torch_files/*.pt, small files of every kind that torch writes, and expected.npz.

Run with torch 2.13 and numpy 2:  python tests/golden/make_torch_files.py
expected.npz holds each tensor as FILE/DTYPE/NAME; bfloat16, which npz cannot hold, as float32.
"""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
FOLDER = Path(__file__).with_name("torch_files")
FOLDER.mkdir(exist_ok=True)
expected = {}


def expect(file, tensors):
    for name, tensor in tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        tensor = tensor.detach()
        array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        expected[f"{file}/{dtype}/{name}"] = array


def drop_debug_members(path):
    """Leave out what names the paths of the machine that wrote a TorchScript archive."""
    with zipfile.ZipFile(path) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members:
            if not info.filename.endswith(".debug_pkl"):
                archive.writestr(info, content)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3))
        self.register_buffer("resolution", torch.tensor(224))
        self.sizes = [1, 2]
        self.scales = {"a": 1.5}
        self.label = "inner"

    def forward(self, x):
        return x @ self.weight.t() * self.scales["a"] + self.sizes[0]


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))

    def forward(self, x):
        return self.layers(self.inner(x))


base = torch.randn(4, 5)
plain = {
    "float16": torch.randn(2, 3).half(),
    "bfloat16": torch.randn(3, 2).bfloat16(),
    "float32": base,
    "float64": torch.randn(2, dtype=torch.float64),
    "int64": torch.tensor([-(2**40), 3]),
    "int32": torch.tensor([-7, 2**30], dtype=torch.int32),
    "int16": torch.tensor([[-300], [300]], dtype=torch.int16),
    "int8": torch.tensor([-128, 127], dtype=torch.int8),
    "uint8": torch.tensor([0, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "parameter": nn.Parameter(torch.randn(3)),
    "transposed": base.t(),
    "row": base[2],
    "column": base[:, 3],
    "expanded": torch.randn(3, 1).expand(3, 4),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
}
torch.save(plain | {"note": "not a tensor", "shape": base.shape}, FOLDER / "plain.pt")
expect("plain", plain)

model = Outer()
optimizer = torch.optim.AdamW(model.parameters(), lr=np.float64(1e-3))
model(torch.randn(5, 3)).sum().backward()
optimizer.step()
state = nn.ModuleDict({"module": model}).state_dict()  # the names of DistributedDataParallel
checkpoint = {"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()}
torch.save(checkpoint, FOLDER / "training.pt")
torch.save(checkpoint, FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
expect("training", model.state_dict())

model.half().layers[1].float()
torch.jit.script(model.eval()).save(FOLDER / "script.pt")
drop_debug_members(FOLDER / "script.pt")
expect("script", torch.jit.load(FOLDER / "script.pt").state_dict())

np.savez_compressed(FOLDER / "expected.npz", **expected)
for path in sorted(FOLDER.iterdir()):
    print(path, path.stat().st_size, "bytes")
