"""Objectives: plain references, the forms that scale over devices, and what they are made of."""

from clip_jax.losses.contrastive import contrastive_loss
from clip_jax.losses.reference import contrastive_loss_reference, sigmoid_loss_reference
from clip_jax.losses.sigmoid import sigmoid_loss

__all__ = [
    "contrastive_loss",
    "contrastive_loss_reference",
    "sigmoid_loss",
    "sigmoid_loss_reference",
]
