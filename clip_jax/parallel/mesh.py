"""The device mesh: which axes there are and how a batch lies on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clip_jax.errors import InputError

MESH_AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh; -1 takes what the others leave."""

    data: int = -1
    """Copies of the model, each with its share of the batch."""
    fsdp: int = 1
    """Devices that share one copy's parameters and optimizer state, and its share of the batch."""
    tensor: int = 1
    """Devices that split heads and MLP columns of one computation."""


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh ("data", "fsdp", "tensor") over `devices`, by default all of them."""
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    given = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or min(size if size != -1 else 1 for size in sizes) < 1:
        raise InputError(f"mesh sizes must be positive, at most one of them -1, got {sizes}")
    if -1 in sizes and len(devices) % given == 0:
        sizes[sizes.index(-1)] = len(devices) // given
    if -1 in sizes or math.prod(sizes) != len(devices):
        shape = " x ".join(f"{axis} {size}" for axis, size in zip(MESH_AXES, sizes, strict=True))
        raise InputError(f"a mesh of {shape} does not fit {len(devices)} devices; set --mesh.*")
    return jax.make_mesh(sizes, MESH_AXES, (AxisType.Auto,) * 3, devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis split over the data axes, the rest whole."""
    return NamedSharding(mesh, P(BATCH_AXES))


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts a batch is split."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def process_share(mesh: Mesh) -> tuple[int, int]:
    """(p, P): of a batch cut into P equal parts, this process is to supply part p.

    Processes whose devices hold the same rows, as with a tensor axis that spans processes, supply
    the same part. Which rows of the global array a part becomes is up to the mesh's device order.
    """
    held: dict[int, list[int]] = {}
    for shard, copies in enumerate(mesh.devices.reshape(batch_shards(mesh), -1)):
        for process in {device.process_index for device in copies}:
            held.setdefault(process, []).append(shard)
    parts = sorted({tuple(shards) for shards in held.values()})
    if len({len(part) for part in parts}) > 1 or sum(map(len, parts)) > batch_shards(mesh):
        sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
        raise InputError(
            f"a mesh of {sizes} gives processes unequal or overlapping parts of a batch; set "
            "--mesh.tensor to a divisor or a multiple of a process's devices"
        )
    return parts.index(tuple(held[jax.process_index()])), len(parts)


def mesh_of(tree: Any) -> Mesh:
    """The mesh on which arrays lie; a mesh of one device for those that were not put on any."""
    sharding = getattr(next(iter(jax.tree.leaves(tree)), None), "sharding", None)
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        return sharding.mesh
    device = next(iter(sharding.device_set)) if sharding else jax.local_devices()[0]
    return make_mesh(MeshConfig(), [device])


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """This process's part of a global batch -> global arrays, sharded over the data axes.

    batch: a tree of NumPy arrays, each with rows along its first axis.
    """
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch)
