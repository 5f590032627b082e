"""What a run may minimise, by name; each is one file of losses/."""

from dataclasses import dataclass
from typing import Literal

from clip_jax.losses.bag_of_words import bag_of_words
from clip_jax.losses.caption import caption
from clip_jax.losses.coca import coca
from clip_jax.losses.contrastive import contrastive
from clip_jax.losses.outputs import Loss
from clip_jax.losses.sigmoid import sigmoid

ObjectiveName = Literal["contrastive", "sigmoid", "bag_of_words", "caption", "coca"]


@dataclass(frozen=True)
class Objective:
    """A loss, and the models that it is for."""

    loss: Loss
    makes: str
    """What such a model makes of a pair, as CLIPConfig.makes says it."""


OBJECTIVES: dict[ObjectiveName, Objective] = {
    "contrastive": Objective(contrastive, "embeddings"),
    "sigmoid": Objective(sigmoid, "embeddings"),
    "bag_of_words": Objective(bag_of_words, "words"),
    "caption": Objective(caption, "captions"),
    "coca": Objective(coca, "embeddings and captions"),
}
