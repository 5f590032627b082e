"""Embedding many images or texts, in batches of one size so that each tower compiles once."""

from collections.abc import Callable, Sequence

import numpy as np

from clip_jax.data.pipeline import image_batches
from clip_jax.data.samples import ImageSource
from clip_jax.model import Model


def embed_images(
    model: Model,
    images: ImageSource,
    batch_size: int = 128,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Unit embeddings of all images in order: float32 [images, embed].

    on_batch is called with the number of images in each batch, as it is done.
    """
    rows = []
    for pixels in image_batches(images, model.resize, batch_size):
        embedded = model.encode_image(pad_rows(pixels, batch_size), normalize=True)
        rows.append(np.asarray(embedded)[: len(pixels)])
        on_batch(len(pixels))
    return np.concatenate(rows)


def embed_texts(model: Model, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
    """Unit embeddings of all texts in order: float32 [texts, embed]. Long ones are truncated.

    The text tower runs at the longest text's length instead of the whole context.
    """
    tokens = model.tokenize(texts, truncate=True)
    longest = int((tokens != 0).sum(axis=1).max())
    tokens = tokens[:, : min(-(-longest // 8) * 8, tokens.shape[1])]
    batch_size = min(batch_size, len(tokens))
    rows = []
    for start in range(0, len(tokens), batch_size):
        part = tokens[start : start + batch_size]
        embedded = model.encode_text(pad_rows(part, batch_size), normalize=True)
        rows.append(np.asarray(embedded)[: len(part)])
    return np.concatenate(rows)


def pad_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """Repeat the last row until there are `count`."""
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])
