"""The contrastive loss on a pod, by the TPU compiler: what it exchanges, and its memory."""

import jax
import jax.numpy as jnp

from clip_jax.losses import contrastive_loss
from clip_jax.parallel.hlo import collectives
from clip_jax.parallel.mesh import MeshConfig, batch_sharding, make_mesh
from clip_jax.parallel.topology import parse_slice, tpu_devices

PAIRS, WIDTH = 32_768, 768
FLOAT = 4


def test_on_256_chips_texts_are_gathered_once_and_nothing_larger_is_exchanged(tpu):
    mesh = make_mesh(MeshConfig(), tpu_devices(parse_slice("tpu:v5e-256")))
    rows = batch_sharding(mesh)

    def loss(image, text, scale):
        return contrastive_loss(image, text, scale, mesh=mesh)

    embeddings = jax.ShapeDtypeStruct((PAIRS, WIDTH), jnp.float32, sharding=rows)
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))
    program = jax.jit(gradients, out_shardings=(None, (rows, rows, None)))
    compiled = program.lower(embeddings, embeddings, scale).compile()

    found = collectives(compiled.as_text())
    assert [c.bytes for c in found if c.kind == "all-gather"] == [PAIRS * WIDTH * FLOAT]
    reduced = sorted((c.bytes for c in found if c.kind != "all-gather"), reverse=True)
    few_scalars = 16
    assert 0 <= reduced[0] - PAIRS * WIDTH * FLOAT <= few_scalars  # the texts' gradients
    assert max(reduced[1:]) <= 2 * PAIRS * FLOAT
    assert {c.kind for c in found} <= {"all-gather", "all-reduce", "reduce-scatter"}
    assert compiled.memory_analysis().peak_memory_in_bytes < 130e6
