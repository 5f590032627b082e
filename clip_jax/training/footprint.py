"""What a recipe's train step needs of a machine: the step is compiled for it and not run.

It is done in a process of its own (`answer`), because what JAX is to compile for is settled when it
is imported, and because a compiler at work cannot be interrupted.
"""

import math
import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from clip_jax.errors import InputError
from clip_jax.parallel.hlo import Collective, collectives, kernel_cycles
from clip_jax.parallel.mesh import batch_sharding, make_mesh
from clip_jax.parallel.topology import parse_slice, tpu_devices
from clip_jax.training.assemble import build_model, build_step
from clip_jax.training.checks import check_batch
from clip_jax.training.config import TrainConfig
from clip_jax.training.feed import AHEAD
from clip_jax.training.optimizer import check_rates, make_optimizer, trained_towers
from clip_jax.training.state import TrainState, abstract_state

HERE = "here"
"""The machine that consists of this one's devices."""


@dataclass(frozen=True)
class Footprint:
    """One device's part of a train step, the fullest device's where they differ."""

    mesh: dict[str, int]
    """Devices along each axis."""
    held: dict[str, int]
    """Bytes that stay from step to step and those of the batch, by kind."""
    needed: int
    """Bytes at the fullest moment; if they are more than `memory`, a lower bound."""
    memory: int
    """Bytes that are there."""
    trained: frozenset[str]
    """What is not frozen altogether of "image", "text", "video" and "decoder"."""
    collectives: tuple[Collective, ...] = ()
    """None where the step does not fit."""
    cycles: int = 0
    """By hlo.kernel_cycles; 0 if not known."""

    @property
    def fits(self) -> bool:
        """Whether the step can run."""
        return self.needed <= self.memory


def measure(config: TrainConfig) -> Footprint:
    """Compile the step of a recipe for config.dry_run. Raises InputError for what cannot work."""
    devices, memory = _machine(config.dry_run or HERE)
    mesh = make_mesh(config.mesh, devices)
    check_batch(config, mesh)
    model = build_model(config, vocabulary_size(config), mesh)
    optimizer = make_optimizer(config.optimizer, config.steps)
    state, batch = abstract_state(model, optimizer, mesh), abstract_batch(config, mesh)
    check_rates(state.params, config.optimizer.rates)
    trained = trained_towers(state.params, config.optimizer.rates)
    held = held_bytes(state, batch)
    ahead = held["batches ahead"]
    step: Any = build_step(config, model, optimizer, mesh)
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        needed, there = shortfall(str(error))
        return Footprint(dict(mesh.shape), held, needed + ahead, there, trained)
    text = compiled.as_text()
    return Footprint(
        dict(mesh.shape),
        held,
        needed_bytes(compiled.memory_analysis(), devices[0].platform) + ahead,
        memory,
        trained,
        tuple(found for found in collectives(text) if found.devices > 1),
        kernel_cycles(text),
    )


def vocabulary_size(config: TrainConfig) -> int:
    """The recipe's: of the vocabulary that it names, or the largest that it would train."""
    given = config.init_from is not None or config.data.tokenizer is not None
    return config.model.text.vocab_size if given else config.data.vocab_size


def abstract_batch(config: TrainConfig, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch, its captions at the full context length."""
    sharding, images = batch_sharding(mesh), (config.batch_size, *config.model.input_shape)
    tokens = (config.batch_size, config.model.text.context_length)
    return {
        "images": jax.ShapeDtypeStruct(images, "uint8", sharding=sharding),
        "tokens": jax.ShapeDtypeStruct(tokens, "int32", sharding=sharding),
    }


def held_bytes(state: TrainState, batch: Any) -> dict[str, int]:
    """Bytes of one device's part of the arguments, by kind."""
    kinds = {
        "parameters": state.params,
        "running statistics": state.batch_stats,
        "optimizer state": state.opt_state,
        "batch": batch,
        "batches ahead": [batch] * AHEAD,
    }
    return {kind: _bytes_per_device(tree) for kind, tree in kinds.items() if jax.tree.leaves(tree)}


def _bytes_per_device(tree: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def needed_bytes(stats: Any, platform: str) -> int:
    """Memory that a program takes at its fullest, from compiled.memory_analysis().

    The TPU compiler's sum of temporaries counts those that follow each other in one place; its peak
    is what it compares with the memory there is. Elsewhere the peak leaves temporaries out.
    """
    if platform == "tpu":
        return stats.peak_memory_in_bytes
    arguments, outputs = stats.argument_size_in_bytes, stats.output_size_in_bytes
    return arguments + outputs - stats.alias_size_in_bytes + stats.temp_size_in_bytes


def shortfall(message: str) -> tuple[int, int]:
    """(needed, there) bytes, from the TPU compiler's complaint that its memory is too small."""
    sizes = re.search(
        r"\(([\d.]+[KMGT])\) exceeds available HBM \(([\d.]+[KMGT])\)"
        r"|Used ([\d.]+[KMGT]) of ([\d.]+[KMGT]) hbm",
        message,
    )
    if sizes is None:
        raise InputError(f"the step cannot be compiled: {message.splitlines()[0]}")
    needed, there = filter(None, sizes.groups())
    return _bytes(needed), _bytes(there)


def _bytes(text: str) -> int:
    """ "15.75G" -> bytes."""
    return int(float(text[:-1]) * 1024 ** (1 + "KMGT".index(text[-1])))


def _machine(target: str) -> tuple[list[jax.Device], int]:
    """Its devices, and the memory of each in bytes."""
    if target != HERE:
        wanted = parse_slice(target)
        return tpu_devices(wanted), wanted.chip.memory
    devices = jax.devices()
    stats = devices[0].memory_stats()
    if stats is not None:
        return devices, stats["bytes_limit"]
    return devices, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(devices)


def answer(folder: str) -> None:
    """Measure the recipe in the file `config`; the Footprint or InputError into `answer`."""
    files = Path(folder)
    config = pickle.loads((files / "config").read_bytes())
    try:
        result: Footprint | InputError = measure(config)
    except InputError as error:
        result = error
    (files / "answer").write_bytes(pickle.dumps(result))
