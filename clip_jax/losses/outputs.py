"""What an objective is made of: the arrays that the towers give for a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

Array = jax.Array
Terms = tuple[Array, dict[str, Array]]
"""A loss, and by name what it is the sum of where that is more than one term."""


class Captions(NamedTuple):
    """Captions of about one length, and what a decoder made of them. n: their number."""

    features: Array
    """[n, T, D]: times the decoder's projection, the logits of the token behind each."""
    tokens: Array
    """Token ids int32 [n, T]."""


class Outputs(NamedTuple):
    """N pairs of images and captions; all arrays are sharded alike by rows."""

    image: Array
    """[N, embed_dim] float32; of unit length where they are compared with texts."""
    text: Array
    """[N, embed_dim] float32, of unit length; of a model without them, [N, 0]."""
    tokens: Array
    """The captions' token ids int32 [N, T]; [N, 0] where they are in groups."""
    captions: tuple[Captions, ...] = ()
    """All N captions in groups by length, of a model with a decoder."""


Loss = Callable[[Outputs, Any, Mesh | None], Terms]
"""An objective: outputs, the model's parameters and the mesh that both lie on -> what is minimised.

One file of losses/ each; training/objectives.py lists them."""
