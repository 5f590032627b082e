"""TPU slices that one does not have: what their chips can do, and devices to compile for.

Slices have Cloud TPU's names, whose size counts chips on v5e and v6e but TensorCores on v4 and v5p,
two a chip. A shape always counts chips.
"""

import importlib.util
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import jax
from jax.experimental import topologies

from clip_jax.errors import InputError

Shape = tuple[int, ...]

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}
"""What must be in the environment before JAX is imported, for tpu_devices: no TPU is looked for,
and several processes may compile at once."""


@dataclass(frozen=True)
class Chip:
    """One TPU chip, which is one device to JAX."""

    name: str
    memory: int
    """Bytes of HBM, of which the runtime keeps a few for itself."""
    flops: float
    """Peak bfloat16 FLOP/s."""
    interconnect: float
    """Bytes that it can send to its neighbours in a second, over all links together."""
    clock: float
    """Cycles a second."""
    cores: int
    """TensorCores; the two of a chip work as one device."""
    dimensions: int
    """Of the grid in which chips are connected."""
    largest: int
    """Chips of the largest slice."""


# Memory, FLOP/s, interconnect (one way) and sizes: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e};
# v4's six links of 45 GB/s: jax-ml.github.io/scaling-book/tpus. The clock is what makes the peak of
# the matrix units, four of 128 x 128 a core, on v6e four of 256 x 256.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 32 << 30, 275e12, 270e9, 1.05e9, cores=2, dimensions=3, largest=4096),
        Chip("v5e", 16 << 30, 197e12, 200e9, 1.5e9, cores=1, dimensions=2, largest=256),
        Chip("v5p", 95 << 30, 459e12, 600e9, 1.75e9, cores=2, dimensions=3, largest=6144),
        Chip("v6e", 32 << 30, 918e12, 400e9, 1.75e9, cores=1, dimensions=2, largest=256),
    )
}

FLAT_SHAPES = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
SMALL_SHAPES = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
CUBE = 4
"""Larger slices in three dimensions are made of cubes with this edge."""


@dataclass(frozen=True)
class Slice:
    """Connected chips of one kind that can be rented together."""

    chip: Chip
    shape: Shape

    @property
    def chips(self) -> int:
        """How many they are."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """The number in Cloud TPU's name for it."""
        return self.chips * self.chip.cores

    def __str__(self) -> str:
        shape, plural = "x".join(map(str, self.shape)), "s" if self.chips > 1 else ""
        return f"{self.chip.name}-{self.size} ({self.chips} chip{plural}, {shape})"


def slices(chip: Chip) -> list[Slice]:
    """All slices of a chip, by docs.cloud.google.com/tpu/docs/types-topologies."""
    if chip.dimensions == 2:
        return [Slice(chip, shape) for shape in FLAT_SHAPES]
    edges = range(CUBE, chip.largest // CUBE**2 + 1, CUBE)
    cubes = combinations_with_replacement(edges, 3)
    fitting = (shape for shape in cubes if math.prod(shape) <= chip.largest)
    return [Slice(chip, shape) for shape in (*SMALL_SHAPES, *fitting)]


def parse_slice(target: str) -> Slice:
    """The slice that is called "tpu:v5e-256", or, by its shape, "tpu:v5p-4x4x8".

    Of the shapes of one size it is the one most like a cube, as in Cloud TPU. Raises InputError for
    what is no slice, naming those nearest to it.
    """
    found = re.fullmatch(r"tpu:(\w+)-(\d{1,5}(?:x\d{1,5})*)", target)
    if not found or found[1] not in CHIPS:
        names = ", ".join(CHIPS)
        raise InputError(
            f"{target}: no such machine; give a slice such as tpu:v5e-256 (of {names}), or here"
        )
    chip, size = CHIPS[found[1]], found[2]
    known = slices(chip)
    fitting = [s for s in known if size in (str(s.size), "x".join(map(str, s.shape)))]
    if not fitting:
        wanted = math.prod(map(int, size.split("x"))) * (chip.cores if "x" in size else 1)
        near = " or ".join(map(str, _nearest(known, wanted)))
        raise InputError(f"{target}: {chip.name} has no such slice; near it: {near}")
    return _most_cubic(fitting)


def _nearest(known: Sequence[Slice], size: int) -> list[Slice]:
    """The slices of the next smaller and the next larger size, where there are any."""
    below = max((s.size for s in known if s.size <= size), default=None)
    above = min((s.size for s in known if s.size > size), default=None)
    return [_most_cubic([s for s in known if s.size == n]) for n in (below, above) if n]


def _most_cubic(fitting: Sequence[Slice]) -> Slice:
    return min(fitting, key=lambda s: sum(s.shape))


def check_compiler() -> None:
    """Raise InputError if the TPU compiler is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise InputError("compiling for a TPU needs its compiler: pip install 'clip_jax[tpu]'")


def tpu_devices(wanted: Slice) -> list[jax.Device]:
    """Devices of a slice that programs can be compiled for, but not run on; needs ENVIRONMENT.

    https://docs.jax.dev/en/latest/aot.html and jax.experimental.topologies.
    """
    shape = wanted.shape
    host = (min(2, shape[0]), min(2, shape[1]), 1)
    options = {"chip_config_name": "megacore"} if wanted.chip.cores == 2 else {}
    return topologies.get_topology_desc(
        platform="tpu",
        topology_name=f"{wanted.chip.name}:{'x'.join(map(str, shape))}",
        chips_per_host_bounds=host,
        **options,
    ).devices
