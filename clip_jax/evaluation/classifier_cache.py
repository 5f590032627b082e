"""Zero-shot classifiers kept on disk, by the model and the prompts that they come from.

They lie in $XDG_CACHE_HOME/clip_jax/classifiers (by default under ~/.cache), and may be deleted at
any time.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clip_jax.cache import cache_folder
from clip_jax.data.arrays import read_npz
from clip_jax.model import Model
from clip_jax.parallel.mesh import mesh_of
from clip_jax.parallel.processes import gather

F32 = np.dtype(np.float32)


def cached(
    model: Model, tokens: np.ndarray, sizes: Sequence[int], build: Callable[[], np.ndarray]
) -> np.ndarray:
    """The classifier of these prompts, built if it is not on disk or what is there is damaged.

    tokens: ids of all prompts, int32 [prompts, context]; sizes: how many of them each class has.
    A disk that cannot be written is no error: the classifier is built every time.
    """
    digest = hashlib.sha256(fingerprint(model, model.params["text"]))
    for values in (np.asarray(tokens), np.asarray(sizes)):
        digest.update(repr(values.shape).encode() + values.tobytes())
    path = cache_folder() / "classifiers" / f"{digest.hexdigest()}.npz"
    found = read_arrays(path, {"classifier": (len(sizes), model.config.embed_dim)})
    # Building takes all processes, so that one without the file makes all of them build.
    if all(gather("" if found is None else "found")) and found is not None:
        return found["classifier"]
    classifier = build()
    if jax.process_index() == 0:
        write_arrays(path, classifier=classifier)
    return classifier


def fingerprint(model: Model, parameters: Any) -> bytes:
    """A hash of (some of) a model's parameters, and of what they are computed with."""
    device = mesh_of(parameters).devices.flat[0].device_kind
    config: Any = jax.config
    about = (model.compute.dtype, device, config.jax_default_matmul_precision)
    return hashlib.sha256(repr(about).encode() + weights_digest(model, parameters)).digest()


def weights_digest(model: Model, parameters: Any) -> bytes:
    """A hash of (some of) a model's parameters and of its architecture, wherever it runs."""
    digest = hashlib.sha256(repr(model.config).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(jax.device_get(leaf)))
    return digest.digest()


def read_arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray] | None:
    """The float32 arrays on disk, if they are there and whole: the format has a checksum."""
    try:
        with path.open("rb") as file:
            arrays = read_npz(file, shapes)
    except (OSError, ValueError):
        return None
    fit = [array.shape == shapes[name] for name, array in arrays.items()]
    return arrays if all(fit) and {array.dtype for array in arrays.values()} == {F32} else None


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """The whole file or none: another process may read or write the same one."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            try:
                np.savez(part, **arrays)  # type: ignore[arg-type]
                os.replace(part.name, path)
            finally:
                Path(part.name).unlink(missing_ok=True)
