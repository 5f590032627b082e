"""Image-text retrieval in both directions, with one or more captions an image."""

from collections.abc import Callable

import numpy as np

from clip_jax.data.samples import CaptionedImages
from clip_jax.evaluation.embed import embed_images, embed_texts
from clip_jax.model import Model

RECALL_AT = (1, 5, 10)
TILE = 1024
"""Queries that are ranked at once."""


def evaluate_retrieval(
    model: Model, data: CaptionedImages, on_batch: Callable[[int], None] = lambda done: None
) -> dict[str, float]:
    """image_retrieval_recall@k: share of captions whose image is among the k nearest images;
    text_retrieval_recall@k: share of images with a caption among the k nearest captions."""
    image = embed_images(model, data.images, on_batch=on_batch)
    text = embed_texts(model, [caption for captions in data.captions for caption in captions])
    image_of_text = np.repeat(np.arange(len(image)), [len(c) for c in data.captions])
    image_of_image = np.arange(len(image))
    return {
        **recalls("image_retrieval", text, image, image_of_text, image_of_image),
        **recalls("text_retrieval", image, text, image_of_image, image_of_text),
    }


def recalls(
    name: str,
    queries: np.ndarray,
    gallery: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
) -> dict[str, float]:
    """Share of queries with an item of the same id among the k nearest, for each k that fits.

    queries [q, d] and gallery [g, d] of unit length; ids say which image each row belongs to.
    """
    depth = min(max(RECALL_AT), len(gallery))
    found = np.empty((len(queries), depth), bool)
    for start in range(0, len(queries), TILE):
        tile = slice(start, start + TILE)
        nearest = np.argsort(-(queries[tile] @ gallery.T), axis=1, kind="stable")[:, :depth]
        found[tile] = gallery_ids[nearest] == query_ids[tile, None]
    return {
        f"{name}_recall@{k}": float(found[:, :k].any(axis=1).mean())
        for k in RECALL_AT
        if k <= depth
    }
