"""Whether a run may be continued: by what its checkpoint says of its recipe."""

from dataclasses import replace

import pytest

from clip_jax.errors import InputError
from clip_jax.models.config import CBOWConfig
from clip_jax.models.presets import PRESETS
from clip_jax.training.checks import check_same_recipe, fingerprint
from clip_jax.training.config import TrainConfig, flatten_config

RECIPE = TrainConfig(PRESETS["ViT-tiny"])
NEWER = ("caption_weight", "model.decoder", "model.image.pool_queries", "model.text.read")


class Captions:
    """A source, as far as it is asked here."""

    def __len__(self):
        return 3

    def captions(self, index):
        return [f"number {index}"]


def test_a_run_from_before_some_fields_has_their_defaults():
    saved = {"config": flatten_config(RECIPE), "data": fingerprint(Captions())}
    for name in NEWER:
        del saved["config"][name]
    check_same_recipe(saved, RECIPE, Captions())
    with pytest.raises(InputError, match=r"caption_weight 2.0 there, 1.0 here"):
        check_same_recipe(saved, replace(RECIPE, caption_weight=1.0), Captions())
    other = replace(RECIPE.model, text=CBOWConfig(width=RECIPE.model.text.width))
    with pytest.raises(InputError, match=r"model.text.heads \d there, None here"):
        check_same_recipe(saved, replace(RECIPE, model=other), Captions())
