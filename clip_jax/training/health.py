"""Numbers gone wrong: updates that must not be made, and losses far above the usual.

Both are found on the devices, as part of the step, so that nothing waits for them; the loop reads
the counts with the other metrics.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

AVERAGED = 100
"""Losses over which, about, the usual loss is taken; before so many none is called a spike."""

SPIKE = 8.0
"""A loss so many mean deviations above the usual is a spike."""


class Health(struct.PyTreeNode):
    """What has been seen of a run's losses and gradients. Scalars, the same on all devices."""

    skipped: jax.Array
    """Updates left out, because the loss or its gradient was not finite; int32."""
    skipped_in_a_row: jax.Array
    """Those of them since an update was last made; int32."""
    spikes: jax.Array
    """Losses far above the usual; int32."""
    finite: jax.Array
    """Losses that the averages below are of; int32."""
    loss: jax.Array
    """The usual loss: a running mean; float32."""
    deviation: jax.Array
    """How far losses are from it: a running mean of absolute differences; float32."""

    def after(self, loss: jax.Array, gradient_norm: jax.Array) -> "Health":
        """With one more step's loss and norm of the gradient."""
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        usual = jnp.where(self.finite > 0, self.loss, loss)
        above = loss - usual
        weight = 1 / jnp.minimum(self.finite + 1, AVERAGED)
        spike = (self.finite >= AVERAGED) & (above > SPIKE * self.deviation)
        updated = Health(
            skipped=self.skipped,
            skipped_in_a_row=jnp.zeros_like(self.skipped_in_a_row),
            spikes=self.spikes + spike,
            finite=self.finite + 1,
            loss=usual + weight * above,
            deviation=self.deviation + weight * (jnp.abs(above) - self.deviation),
        )
        skipped = self.replace(skipped=self.skipped + 1, skipped_in_a_row=self.skipped_in_a_row + 1)
        return jax.tree.map(partial(jnp.where, finite), updated, skipped)


def fresh_health() -> Health:
    """Of a run that has made no step."""
    count, mean = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
    return Health(count, count, count, count, mean, mean)
