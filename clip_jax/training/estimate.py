"""How long a compiled train step takes on a chip: a floor, and what the compiler expects."""

import math
from dataclasses import dataclass

from clip_jax.models.flops import forward_flops
from clip_jax.parallel.topology import Chip
from clip_jax.training.config import TrainConfig
from clip_jax.training.footprint import Footprint


@dataclass(frozen=True)
class Estimate:
    """Seconds of one step."""

    products: float
    """Matrix products, those of recomputation included, at the chip's peak."""
    exchange: float
    """Collectives, with all of the chip's links busy."""
    kernels: float
    """What the compiler expects of its kernels, which also wait for memory; 0 if not known."""

    @property
    def roofline(self) -> float:
        """The floor: products and collectives overlap entirely."""
        return max(self.products, self.exchange)

    @property
    def expected(self) -> float:
        """Kernels and collectives do not overlap."""
        return self.kernels + self.exchange


def estimate_step(config: TrainConfig, footprint: Footprint, chip: Chip) -> Estimate:
    """From the recipe, what was compiled of it, and the chip's public figures."""
    chips = math.prod(footprint.mesh.values())
    flops = config.batch_size * pair_flops(config, footprint.trained) / chips
    sent = sum(collective.sent for collective in footprint.collectives)
    return Estimate(
        products=flops / chip.flops,
        exchange=sent / chip.interconnect,
        kernels=footprint.cycles / chip.clock,
    )


def pair_flops(config: TrainConfig, trained: frozenset[str]) -> int:
    """FLOPs of an update for one pair.

    A tower that is trained is run forward, backward at twice the price, and forward once more for
    each thing that recomputes it; a frozen one is run forward.
    """
    passes = 3 + (config.compute.remat == "full") + (config.micro_batch is not None)
    return sum(
        flops * (passes if tower in trained else 1)
        for tower, flops in forward_flops(config.model).items()
    )
