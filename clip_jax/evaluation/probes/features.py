"""Features of labelled images, for classifiers that are fitted to them; kept on disk.

They lie in $XDG_CACHE_HOME/clip_jax/features (by default under ~/.cache), by the image tower and
the files that they come from, and may be deleted at any time.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import numpy as np

from clip_jax.cache import cache_folder
from clip_jax.data.samples import ImageSource, LabelledImages
from clip_jax.errors import InputError
from clip_jax.evaluation.classifier_cache import (
    fingerprint,
    read_arrays,
    write_arrays,
)
from clip_jax.evaluation.embed import embed_readable
from clip_jax.model import Model
from clip_jax.models.config import ViTConfig
from clip_jax.parallel.processes import gather

Space = Literal["features", "embeddings"]
"""What a classifier sees: a ViT's features before its projection, or what comes after it. Of a
ResNet and of videos there is the latter alone."""


@dataclass(frozen=True)
class Features:
    """The images of a set that could be read, as vectors."""

    rows: np.ndarray
    """float32 [images, width]: neither normalised nor, for a ViT of images, projected."""
    labels: np.ndarray
    """[images] int."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: np.ndarray) -> "Features":
        return Features(self.rows[chosen], self.labels[chosen])


def extract(
    model: Model,
    data: LabelledImages,
    on_batch: Callable[[int], None] = lambda done: None,
    cache: bool = True,
) -> Features:
    """A ViT's features before the projection (paper, A.3), a ResNet's after attention pooling.

    Of videos their embeddings: the mean is taken of what is projected.

    cache: keep them on disk, and take them from there if the same image tower has seen the same
    files; what is damaged there is computed again.
    """
    if data.multilabel:
        raise InputError(f"{data.name}: a multilabel set; a probe needs one label an image")
    rows, images = _rows(model, data.images, on_batch, cache)
    return Features(rows, data.labels[images])


def project(model: Model, features: Features) -> Features:
    """The same images in the space that they share with texts; still not of unit length."""
    if not _is_projected_last(model):
        return features
    projection = np.asarray(model.params["image"]["projection"], np.float32)
    return Features(features.rows @ projection, features.labels)


def _is_projected_last(model: Model) -> bool:
    """Whether embeddings are a product of features with the projection, and nothing else."""
    config = model.config
    linear = isinstance(config.image, ViTConfig) and config.projection == "linear"
    return linear and config.video is None


def _rows(
    model: Model, images: ImageSource, on_batch: Callable[[int], None], cache: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of the readable images, and which these are."""
    before = _is_projected_last(model)
    compute = partial(model.encode_image, project=not before)
    identity = getattr(images, "identity", None)
    if not cache or identity is None:
        return embed_readable(model, images, on_batch=on_batch, encode=compute)
    tower = {
        kind: {name: part[name] for name in ("image", "video") if name in part}
        for kind, part in model.variables.items()
    }
    digest = hashlib.sha256(fingerprint(model, tower) + identity.encode())
    path = cache_folder() / "features" / f"{digest.hexdigest()}.npz"
    width = model.params["image"]["projection"].shape[0] if before else model.config.embed_dim
    whole = (len(images), width)
    found = read_arrays(path, {"rows": whole, "readable": whole[:1]})
    # Computing takes all processes, so that one without the file makes all of them compute.
    if not all(gather("" if found is None else "found")) or found is None:
        rows, numbers = embed_readable(model, images, on_batch=on_batch, encode=compute)
        found = {"rows": np.zeros(whole, np.float32), "readable": np.zeros(whole[0], np.float32)}
        found["rows"][numbers], found["readable"][numbers] = rows, 1
        if jax.process_index() == 0:
            write_arrays(path, **found)
    images_read = np.flatnonzero(found["readable"])
    return found["rows"][images_read], images_read
