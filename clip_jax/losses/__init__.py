"""Contrastive objectives: a plain reference and the forms that scale over devices."""

from clip_jax.losses.contrastive import contrastive_loss
from clip_jax.losses.reference import contrastive_loss_reference

__all__ = ["contrastive_loss", "contrastive_loss_reference"]
