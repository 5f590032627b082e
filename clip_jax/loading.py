"""load: one function for every place a model can come from."""

import dataclasses
from pathlib import Path
from typing import Literal

from clip_jax.errors import InputError
from clip_jax.model import Model


def load(source: str | Path, dtype: Literal["float32", "bfloat16"] = "float32") -> Model:
    """A trained model, from the workdir of train.py. dtype: that of the computation.

    Raises InputError if there is no model at `source`.
    """
    from clip_jax.weights import workdir  # Orbax is slow to import

    path = Path(source)
    if not path.exists():
        raise InputError(f"{source}: no such model; give the workdir of a train.py run")
    if not workdir.is_workdir(path):
        raise InputError(f"{source}: not the workdir of a train.py run (it has no checkpoints/)")
    model = workdir.load_workdir(path)
    return dataclasses.replace(model, compute=dataclasses.replace(model.compute, dtype=dtype))
