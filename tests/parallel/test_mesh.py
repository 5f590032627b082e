"""Meshes: their shapes, what is refused, and where a batch lies."""

import jax
import numpy as np
import pytest

from clip_jax.errors import InputError
from clip_jax.parallel.mesh import MeshConfig, batch_shards, make_mesh, put_batch


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
