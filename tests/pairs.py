"""Pairs of unit embeddings for the tests of the losses, and how far two arrays are apart."""

import numpy as np


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def random_pairs(count, width, noise, seed=0):
    """Float32 images and texts [count, width]; the texts are the images and some noise."""
    rng = np.random.default_rng(seed)
    image = unit(rng.normal(size=(count, width)))
    text = unit(image + noise * rng.normal(size=image.shape))
    return image.astype(np.float32), text.astype(np.float32)


def separated_pairs(count, width, cosine, noise=0.01, seed=0):
    """Pairs of which all others are at about `cosine`: a common direction and one's own each."""
    rng = np.random.default_rng(seed)
    image = np.sqrt(1 - cosine) * np.eye(count, width)
    image[:, -1] = np.sqrt(cosine)
    text = image + noise * rng.normal(size=image.shape) / np.sqrt(width)
    return unit(image).astype(np.float32), unit(text).astype(np.float32)


def relative(actual, expected):
    """Norm of the difference over the norm of what is expected."""
    actual = np.asarray(actual, np.float64)
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)
