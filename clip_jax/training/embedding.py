"""The towers over a batch, as training needs them: captions by length, patches dropped, in parts.

What is made of their outputs, and of these' gradient, is the objective's and the step's business.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clip_jax.losses.outputs import Captions, Outputs
from clip_jax.models.clip import CLIP
from clip_jax.models.config import ResNetConfig
from clip_jax.models.vit import draw_patches
from clip_jax.training.lengths import by_group, in_order
from clip_jax.training.micro_batches import in_micro_batches

Array = jax.Array
Batch = dict[str, Any]
Embed = Callable[[Any, Batch, Array], tuple[Outputs, Any]]


class Made(NamedTuple):
    """What the towers make of the rows of a batch, or of a part of it."""

    image: Array
    texts: tuple[Array, ...]
    """Embeddings of each group of captions."""
    captions: tuple[Captions, ...]
    """What a decoder makes of each."""


Towers = Callable[[Any, Batch], tuple[Made, Any]]
"""(variables, rows) -> what the towers make of them, and running statistics."""


def make_embed(model: CLIP, mesh: Mesh, train_image: bool, micro_batch: int | None) -> Embed:
    """(variables, batch, key) -> what the objective takes, and running statistics.

    batch and micro_batch: as make_train_step takes them. train_image: whether the image tower runs
    as in training. key: of the patches that are dropped. Raises ValueError for micro-batches that
    would normalise by their own statistics.
    """
    if micro_batch is not None and train_image and model.config.updates_statistics:
        raise ValueError("micro-batches would normalise by their own statistics; freeze these")
    captioning = model.config.decoder is not None
    run_towers: Towers = partial(run_embedding, model, train_image)
    if captioning:
        run_towers = partial(run_captioning, model, mesh, train_image)

    def embed(variables: Any, batch: Batch, key: Array) -> tuple[Outputs, Any]:
        rows = drop_patches(batch, key, model) if train_image else dict(batch)
        order = rows.get("order")
        if micro_batch is None:
            made, statistics = run_towers(variables, rows)
        else:
            if captioning and order is not None:
                raise ValueError("a decoder's captions come with their images in micro-batches")
            rows.pop("order", None)
            in_parts = in_micro_batches(lambda *given: run_towers(*given)[0], micro_batch, mesh)
            made, statistics = in_parts(variables, rows), variables["batch_stats"]
        if order is None:
            text, tokens = made.texts[0], batch["tokens"]
        else:
            text = in_order(made.texts, order, mesh)
            tokens = jnp.zeros((len(text), 0), jnp.int32)
        return Outputs(made.image, text, tokens, made.captions), statistics

    return embed


def run_embedding(model: CLIP, train_image: bool, variables: Any, rows: Batch) -> tuple[Made, Any]:
    """Both towers, each for itself; texts in groups by length."""
    apply = applied(model, variables)
    image, statistics = run_image(apply, train_image, rows, "encode_image")
    groups = jax.tree.leaves(rows["tokens"])
    if model.config.embeds_text:
        texts = tuple(apply(tokens, method="encode_text") for tokens in groups)
    else:
        texts = tuple(jnp.zeros((len(tokens), 0)) for tokens in groups)
    return Made(image, texts, ()), statistics


def run_captioning(
    model: CLIP, mesh: Mesh, train_image: bool, variables: Any, rows: Batch
) -> tuple[Made, Any]:
    """The image tower, and each caption read together with its image's tokens."""
    apply = applied(model, variables)
    (image, seen), statistics = run_image(apply, train_image, rows, "view")
    groups = jax.tree.leaves(rows["tokens"])
    by_length = [seen]
    if "order" in rows:
        by_length = by_group(seen, rows["order"], list(map(len, groups)), mesh)
    read = [apply(*given, method="read") for given in zip(groups, by_length, strict=True)]
    captions = tuple(
        Captions(features, tokens) for (_, features), tokens in zip(read, groups, strict=True)
    )
    texts = tuple(text for text, _ in read)
    return Made(image, texts, captions), statistics


def applied(model: CLIP, variables: Any) -> Callable[..., Any]:
    """The model's function; embeddings that are compared with others are of unit length."""
    return partial(model.apply, variables, normalize=model.config.embeds_text)


def run_image(
    apply: Callable[..., Any], train_image: bool, rows: Batch, method: str
) -> tuple[Any, Any]:
    """What a method of the image tower gives for a batch's images, and running statistics."""
    made, updated = apply(
        rows["images"],
        kept=rows.get("kept"),
        train=train_image,
        method=method,
        mutable="batch_stats",
    )
    return made, updated.get("batch_stats", {})


def drop_patches(batch: Batch, key: Array, model: CLIP) -> Batch:
    """A copy of the batch, with the patches that a ViT is to read if its config drops some.

    They are the same in all frames of a video.
    """
    image = model.config.image
    if isinstance(image, ResNetConfig) or not image.patch_dropout:
        return dict(batch)
    kept = draw_patches(key, len(batch["images"]), image)
    return batch | {"kept": jnp.repeat(kept, model.config.frames or 1, axis=0)}
