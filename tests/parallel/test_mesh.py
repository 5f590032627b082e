"""Meshes: their shapes, what is refused, and where a batch lies."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from clip_jax.errors import InputError
from clip_jax.parallel.mesh import (
    MeshConfig,
    batch_sharding,
    batch_shards,
    make_mesh,
    mesh_of,
    process_share,
    put_batch,
)


@pytest.mark.parametrize(
    ("config", "shape", "shards"),
    [
        (MeshConfig(), (8, 1, 1), 8),
        (MeshConfig(-1, 2, 2), (2, 2, 2), 4),
        (MeshConfig(1, 8, 1), (1, 8, 1), 8),
        (MeshConfig(2, -1, 1), (2, 4, 1), 8),
    ],
)
def test_shapes(config, shape, shards):
    mesh = make_mesh(config)
    assert tuple(mesh.shape.values()) == shape
    assert batch_shards(mesh) == shards


@pytest.mark.parametrize(
    "config", [MeshConfig(3), MeshConfig(-1, 3), MeshConfig(-1, -1), MeshConfig(0), MeshConfig(16)]
)
def test_meshes_that_do_not_fit_are_refused(config):
    with pytest.raises(InputError, match="mesh"):
        make_mesh(config)


def test_batch_is_split_over_data_axes_and_copied_over_tensor():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    rows = np.arange(16).reshape(8, 2)
    array = put_batch({"x": rows}, mesh)["x"]
    np.testing.assert_array_equal(array, rows)
    held = sorted(tuple(shard.data.ravel().tolist()) for shard in array.addressable_shards)
    expected = sorted(tuple(rows[2 * i : 2 * i + 2].ravel().tolist()) for i in range(4))
    assert held == sorted(expected * 2)
    assert len(jax.devices()) == 8


def process_of_devices(*owners):
    """A mesh ("data", 1, "tensor"), given by the process that has each device."""
    devices = np.vectorize(lambda owner: SimpleNamespace(process_index=owner))(np.array(owners))
    data, tensor = devices.shape
    shape = {"data": data, "fsdp": 1, "tensor": tensor}
    return SimpleNamespace(devices=devices.reshape(data, 1, tensor), shape=shape)


# The processes of a v5e:4x4's chips in the order of jax.make_mesh, for 16 x 1 and 4 x 4.
V5E = [[0], [0], [1], [1], [1], [1], [0], [2], [3], [3], [3], [3], [2], [2], [2], [0]]
V5E_TENSOR = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


@pytest.mark.parametrize(
    ("owners", "shares"),
    [
        ([[0], [0]], [(0, 1)]),
        ([[0], [0], [1], [1]], [(0, 2), (1, 2)]),
        ([[1], [1], [0], [0]], [(1, 2), (0, 2)]),
        ([[0, 0], [1, 1], [2, 2]], [(0, 3), (1, 3), (2, 3)]),
        ([[0, 1], [2, 3]], [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ([[0, 0, 1, 1]], [(0, 1), (0, 1)]),
        (V5E, [(0, 4), (1, 4), (2, 4), (3, 4)]),
        (V5E_TENSOR, [(0, 2), (0, 2), (1, 2), (1, 2)]),
    ],
)
def test_shares_of_processes(monkeypatch, owners, shares):
    for process, share in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        assert process_share(process_of_devices(*owners)) == share


@pytest.mark.parametrize(
    "owners", [[[0, 0, 1], [1, 2, 2]], [[0], [0], [1]], [[0, 1], [1, 0], [2, 2]]]
)
def test_meshes_that_share_a_batch_unequally_are_refused(owners):
    with pytest.raises(InputError, match="unequal or overlapping parts"):
        process_share(process_of_devices(*owners))


def test_arrays_tell_their_mesh():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    assert mesh_of(jax.device_put({"a": np.zeros(8)}, batch_sharding(mesh))) == mesh
    device = jax.devices()[3]
    assert list(mesh_of(jax.device_put(np.zeros(8), device)).devices.flat) == [device]
    assert list(mesh_of(np.zeros(8)).devices.flat) == [jax.devices()[0]]
