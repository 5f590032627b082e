"""Counted operations against the released models' published ones."""

import dataclasses

import pytest

from clip_jax.models.flops import forward_flops
from clip_jax.models.presets import OPENAI

# GFLOP of one pair's forward pass, image + text, as open_clip's profile has them.
PUBLISHED = {
    "RN50": 18.18,
    "RN101": 25.50,
    "RN50x4": 51.82,
    "RN50x16": 162.69,
    "RN50x64": 552.65,
    "ViT-B/32": 14.78,
    "ViT-B/16": 41.09,
    "ViT-L/14": 175.33,
    "ViT-L/14@336px": 395.22,
}
BY_TOWER = {
    "ViT-B/32": (8.82, 5.96),
    "ViT-B/16": (35.13, 5.96),
    "ViT-L/14": (162.03, 13.30),
    "RN50": (12.22, 5.96),
}


@pytest.mark.parametrize("name", OPENAI)
def test_the_released_models(name):
    assert sum(forward_flops(OPENAI[name]).values()) / 1e9 == pytest.approx(
        PUBLISHED[name], abs=5e-3
    )


@pytest.mark.parametrize("name", BY_TOWER)
def test_each_tower(name):
    flops = forward_flops(OPENAI[name])
    assert (flops["image"] / 1e9, flops["text"] / 1e9) == pytest.approx(BY_TOWER[name], abs=5e-3)


def test_patches_left_out_are_not_counted():
    """At half the patches, all but attention between tokens is half, and that is a quarter."""
    model = OPENAI["ViT-B/16"]
    dropping = dataclasses.replace(model, image=dataclasses.replace(model.image, patch_dropout=0.5))
    all_patches, half = forward_flops(model), forward_flops(dropping)
    assert 0.45 < half["image"] / all_patches["image"] < 0.5
    assert half["text"] == all_patches["text"]
