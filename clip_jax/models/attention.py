"""The one place where attention is computed, so that the kernel is chosen in one place."""

from typing import cast

import jax

Array = jax.Array

SCOPE = "attend"
"""What profiles call it, its projections left out."""


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    is_causal: bool = False,
    key_lengths: Array | None = None,
    keys: Array | None = None,
    implementation: str = "xla",
) -> Array:
    """Scaled dot-product attention with a float32 softmax.

    q [B, T, H, K]; k and v [B, S, H, K] -> [B, T, H, K]. With key_lengths [B], a sequence's keys
    from that position on are ignored; with keys [B, S] bool, those that are False.
    implementation: "xla" (or "auto") anywhere, "cudnn" on NVIDIA GPUs in bfloat16, unless keys are
    given: its masks are of all pairs, of even lengths, and cost a gradient.
    """
    if implementation == "auto" or keys is not None:
        implementation = "xla"
    with jax.named_scope(SCOPE):
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            is_causal=is_causal,
            key_value_seq_lengths=key_lengths,
            mask=None if keys is None else keys[:, None, None, :],
            implementation=cast(None, implementation),
        )
