"""Writes positions.npz: position embeddings at other resolutions, as open_clip makes them.

Run with open_clip 3.3.0 and torch 2.13:  python tests/golden/make_positions.py
For each pair of grids, OLD/NEW/before and OLD/NEW/after.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from open_clip.model import resize_pos_embed

GRIDS = [(7, 12), (14, 7), (3, 4), (4, 3), (7, 9), (16, 24), (24, 16), (2, 9), (9, 2), (1, 3)]

torch.manual_seed(0)
arrays = {}
for old, new in GRIDS:
    before = torch.randn(1 + old * old, 2)
    state = {"visual.positional_embedding": before}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=(new, new))))
    arrays[f"{old}/{new}/before"] = before.numpy()
    arrays[f"{old}/{new}/after"] = state["visual.positional_embedding"].numpy()
path = Path(__file__).with_name("positions.npz")
np.savez_compressed(path, **arrays)
print(path, path.stat().st_size, "bytes")
