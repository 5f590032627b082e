"""What the image tower does in training only: leaving out patches."""

import jax
import numpy as np
import pytest

from clip_jax import Compute, ViTConfig
from clip_jax.models.vit import ViT, cut_patches, draw_patches

IMAGES = np.random.default_rng(0).normal(size=(3, 24, 24, 3)).astype(np.float32)


def read_patches(share, key):
    """Which of the nine patches of each image the features depend on: bool [3, 9]."""
    config = ViTConfig(24, 8, width=16, layers=2, heads=2, patch_dropout=share)
    tower = ViT(config, 8, "quick_gelu", hidden=False, compute=Compute())
    variables = tower.init(jax.random.key(0), IMAGES[:1])

    kept = draw_patches(key, len(IMAGES), config)

    def total(images):
        embeddings, _ = tower.apply(variables, images, kept)
        return embeddings.sum()

    gradient = jax.grad(total)(IMAGES)
    return np.abs(cut_patches(gradient, 8)).sum(-1) > 0


@pytest.mark.parametrize(("share", "kept"), [(0.0, 9), (0.5, 4), (0.99, 1)])
def test_the_share_is_left_out_of_every_image(share, kept):
    assert (read_patches(share, jax.random.key(1)).sum(1) == kept).all()


def test_each_image_and_each_key_draws_its_own():
    first, second = (read_patches(0.5, jax.random.key(number)) for number in (1, 2))
    assert (first != second).any()
    assert (first[0] != first[1]).any() or (first[0] != first[2]).any()
