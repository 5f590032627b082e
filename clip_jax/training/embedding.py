"""Both towers over a batch, as training needs them: captions by length, patches dropped, in parts.

What is made of the embeddings, and of their gradient, is the step's business.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clip_jax.models.clip import CLIP
from clip_jax.models.config import ResNetConfig
from clip_jax.models.vit import draw_patches
from clip_jax.training.lengths import in_order
from clip_jax.training.micro_batches import in_micro_batches

Batch = dict[str, Any]
Embed = Callable[[Any, Batch, jax.Array], tuple[jax.Array, jax.Array, Any]]


def make_embed(model: CLIP, mesh: Mesh, train_image: bool, micro_batch: int | None) -> Embed:
    """(variables, batch, key) -> unit embeddings of images and of texts, and running statistics.

    batch and micro_batch: as make_train_step takes them. train_image: whether the image tower runs
    as in training. key: of the patches that are dropped. Raises ValueError for micro-batches that
    would normalise by their own statistics.
    """
    if micro_batch is not None and train_image and model.config.updates_statistics:
        raise ValueError("micro-batches would normalise by their own statistics; freeze these")

    def run_towers(variables: Any, rows: Batch) -> tuple[jax.Array, list[jax.Array], Any]:
        apply: Callable[..., Any] = partial(model.apply, variables, normalize=True)
        image, updated = apply(
            rows["images"],
            kept=rows.get("kept"),
            train=train_image,
            method="encode_image",
            mutable="batch_stats",
        )
        groups = jax.tree.leaves(rows["tokens"])
        texts = [apply(tokens, method="encode_text") for tokens in groups]
        return image, texts, updated.get("batch_stats", {})

    def embed(variables: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        rows = drop_patches(batch, key, model)
        order = rows.pop("order", None)
        if micro_batch is None:
            image, texts, statistics = run_towers(variables, rows)
        else:
            in_parts = in_micro_batches(lambda *given: run_towers(*given)[:2], micro_batch, mesh)
            (image, texts), statistics = in_parts(variables, rows), variables["batch_stats"]
        return image, texts[0] if order is None else in_order(texts, order, mesh), statistics

    return embed


def drop_patches(batch: Batch, key: jax.Array, model: CLIP) -> Batch:
    """A copy of the batch, with the patches that a ViT is to read if its config drops some.

    They are the same in all frames of a video.
    """
    image = model.config.image
    if isinstance(image, ResNetConfig) or not image.patch_dropout:
        return dict(batch)
    kept = draw_patches(key, len(batch["images"]), image)
    return batch | {"kept": jnp.repeat(kept, model.config.frames or 1, axis=0)}
