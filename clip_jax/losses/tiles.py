"""What the losses share: work over the shards of a batch, and over a shard's rows in tiles.

A tile is a few rows of the similarity matrix. The losses compute one at a time, so that no array
of all pairs with all pairs ever exists, on however many devices.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clip_jax.parallel.mesh import BATCH_AXES

Array = jax.Array
Axes = tuple[str, ...]

SPLIT, WHOLE = True, False
"""How an array lies on the devices: its rows divided over them, or the whole on each."""

TILE_ROWS = 256
"""Rows of a tile at most: at 32,768 pairs a tile of float32 takes 32 MiB."""


def over_shards(function: Callable, mesh: Mesh | None, in_specs: Any, out_specs: Any) -> Callable:
    """Run function(axes, *arrays) on every shard of a batch, or on the whole without a mesh.

    `axes` are the mesh's axes that carry data, over which `function` may communicate. The specs are
    trees of SPLIT and WHOLE.
    """
    if mesh is None:
        return lambda *arrays: function((), *arrays)
    axes = data_axes(mesh)
    specs = jax.tree.map(lambda split: P(axes) if split else P(), (in_specs, out_specs))
    return jax.shard_map(
        lambda *arrays: function(axes, *arrays),
        mesh=mesh,
        in_specs=specs[0],
        out_specs=specs[1],
        check_vma=False,  # losses that communicate define their gradients themselves
    )


def data_axes(mesh: Mesh) -> tuple[str, ...]:
    """The mesh's axes over which a batch is divided."""
    return tuple(axis for axis in BATCH_AXES if axis in mesh.shape)


def first_row(count: int, axes: Axes) -> Array | int:
    """The number, in the whole batch, of the first of this shard's `count` rows."""
    return jax.lax.axis_index(axes) * count if axes else 0


def in_tiles(rows: tuple[Array, ...]) -> Any:
    """Arrays [n, ...] -> [tiles, at most TILE_ROWS, ...], the last tile filled up with zeros.

    Comes with the rows' numbers, [tiles, rows] int32, in which -1 marks what was filled up.
    """
    count = len(rows[0])
    tiles = -(-count // TILE_ROWS)
    size = -(-count // tiles)
    fill = tiles * size - count

    def cut(array: Array, value: int = 0) -> Array:
        width = ((0, fill),) + ((0, 0),) * (array.ndim - 1)
        filled = jnp.pad(array, width, constant_values=value) if fill else array
        return filled.reshape(tiles, size, *array.shape[1:])

    return cut(jnp.arange(count, dtype=jnp.int32), -1), *map(cut, rows)


def from_tiles(tiles: Array, count: int) -> Array:
    """Undo in_tiles: [tiles, size, ...] -> [count, ...]."""
    return tiles.reshape(-1, *tiles.shape[2:])[:count]


def check_pairs(name: str, image: Array, text: Array, mesh: Mesh | None) -> None:
    """Raise ValueError unless both are [N, d] with at least two pairs that the mesh divides."""
    if image.shape != text.shape or image.ndim != 2 or len(image) < 2:
        raise ValueError(
            f"{name} needs two arrays [N, d] of one shape with N at least 2, "
            f"got {image.shape} and {text.shape}"
        )
    if mesh is None:
        return
    if not data_axes(mesh):
        raise ValueError(f"{name}: the mesh has none of the axes {BATCH_AXES}: {mesh.axis_names}")
    shards = math.prod(mesh.shape[axis] for axis in data_axes(mesh))
    if len(image) % shards:
        raise ValueError(f"{name}: {len(image)} pairs cannot be divided among {shards} devices")


def product(a: Array, b: Array) -> Array:
    """The matrix product in full float32 on every kind of device."""
    return jnp.matmul(a, b, precision="highest")
