"""Contrasting and captioning at once (CoCa: Yu et al. 2022, section 3.2)."""

from typing import Any

from jax.sharding import Mesh

from clip_jax.losses.caption import caption
from clip_jax.losses.contrastive import contrastive
from clip_jax.losses.outputs import Outputs, Terms


def coca(outputs: Outputs, params: Any, mesh: Mesh | None, caption_weight: float = 2.0) -> Terms:
    """The contrastive loss, and the caption loss times its weight."""
    contrasted, _ = contrastive(outputs, params, mesh)
    captioned, _ = caption(outputs, params, mesh)
    terms = {"contrastive_loss": contrasted, "caption_loss": captioned}
    return contrasted + caption_weight * captioned, terms
