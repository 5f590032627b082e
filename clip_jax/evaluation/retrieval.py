"""Image-text retrieval in both directions, with one or more captions an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clip_jax.data.samples import CaptionedImages
from clip_jax.errors import InputError
from clip_jax.evaluation.embed import embed_readable, embed_texts
from clip_jax.evaluation.nearest import nearest
from clip_jax.model import Model, check_embeds_text

RECALL_AT = (1, 5, 10)


@dataclass(frozen=True)
class EmbeddedPairs:
    """Unit embeddings of images and of all their captions."""

    images: np.ndarray
    """float32 [readable images, embed]."""
    captions: np.ndarray
    """float32 [captions of these images, embed]."""
    owners: np.ndarray
    """The row in `images` of each caption's image: [captions] int."""


def evaluate_retrieval(
    model: Model,
    data: CaptionedImages,
    on_batch: Callable[[int], None] = lambda done: None,
    at: Sequence[int] = (),
) -> dict[str, float]:
    """The metrics of a set; see retrieval_metrics."""
    check_ranks(data, at)
    return retrieval_metrics(embed_pairs(model, data, on_batch), at)


def check_ranks(data: CaptionedImages, at: Sequence[int]) -> None:
    """Raise InputError for recall@k with a k that the set does not have."""
    captions = sum(map(len, data.captions))
    fitting = min(len(data.images), captions)
    unfit = [k for k in at if not 1 <= k <= fitting]
    if unfit:
        raise InputError(
            f"{data.name}: no recall@{unfit[0]} among {len(data.images)} images and {captions} "
            f"captions; give numbers from 1 to {fitting}"
        )


def embed_pairs(
    model: Model, data: CaptionedImages, on_batch: Callable[[int], None] = lambda done: None
) -> EmbeddedPairs:
    """Embeddings of the images that can be read and of their captions.

    on_batch is called with the number of images and of captions that are done. Raises InputError
    for a model whose texts have no embeddings.
    """
    check_embeds_text(model.config)
    images, kept = embed_readable(model, data.images, on_batch=on_batch)
    captions = [data.captions[number] for number in kept]
    texts = embed_texts(model, [text for own in captions for text in own], on_batch=on_batch)
    return EmbeddedPairs(images, texts, np.repeat(np.arange(len(kept)), list(map(len, captions))))


def retrieval_metrics(pairs: EmbeddedPairs, at: Sequence[int] = ()) -> dict[str, float]:
    """image_retrieval_recall@k: share of captions whose image is among the k nearest images;
    text_retrieval_recall@k: share of images with a caption among the k nearest captions.

    at: the values of k; by default those of 1, 5 and 10 that fit.
    """
    own = np.arange(len(pairs.images))
    return {
        **recalls("image_retrieval", pairs.captions, pairs.images, pairs.owners, own, at),
        **recalls("text_retrieval", pairs.images, pairs.captions, own, pairs.owners, at),
    }


def recalls(
    name: str,
    queries: np.ndarray,
    gallery: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    at: Sequence[int] = (),
) -> dict[str, float]:
    """Share of queries with an item of the same id among the k nearest, for each k.

    queries [q, d] and gallery [g, d] of unit length; ids say which image each row belongs to.
    """
    at = [k for k in at or RECALL_AT if k <= len(gallery)]
    _, rows = nearest(queries, gallery, max(at))
    found = gallery_ids[rows] == query_ids[:, None]
    return {f"{name}_recall@{k}": float(found[:, :k].any(axis=1).mean()) for k in at}
