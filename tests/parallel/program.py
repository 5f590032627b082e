"""What the processes of test_processes.py run: program.py ROLE [--processes.* ...]"""

import json
import os
import signal
import sys
from dataclasses import dataclass, field

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clip_jax.commandline import main, parse
from clip_jax.errors import InputError
from clip_jax.parallel.mesh import MESH_AXES, MeshConfig, make_mesh, process_share, put_batch
from clip_jax.parallel.processes import (
    ProcessesConfig,
    ask_all,
    gather,
    same_errors,
    start_processes,
)
from clip_jax.parallel.sharding import put_tree

# The processes of a v5e:4x4's chips in the order of jax.make_mesh, for 16 x 1 and 4 x 4.
V5E = [0, 0, 1, 1, 1, 1, 0, 2, 3, 3, 3, 3, 2, 2, 2, 0]
V5E_TENSOR = [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]


@dataclass(frozen=True)
class Options:
    """What program.py takes after its first argument."""

    processes: ProcessesConfig = field(default_factory=ProcessesConfig)


def run(arguments):
    role, *options = arguments
    start_processes(parse(Options, options, "program.py").processes)
    if role == "hear":
        say(gather("x"))
    if role == "fail":
        gather("")
        if jax.process_index() == 1:
            raise InputError("picture 3 is broken")
        gather("")
    if role == "lose":
        gather("")
        if jax.process_index() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        gather("")
    if role == "meet":
        said = {"devices": [jax.local_device_count(), jax.device_count()]}
        said |= {"texts": gather("ä" * jax.process_index()), "refusal": refusal()}
        say(said | {"agreed": agreed(), "rows": rows(), "tree": tree()})


def say(what):
    """One line of JSON; not to standard output, into whose lines Gloo may write its own."""
    print(json.dumps(what), file=sys.stderr)


def refusal():
    """What each process gets if one refuses."""
    try:
        with same_errors():
            if jax.process_index() == 1:
                raise InputError("no such file")
    except InputError as error:
        with same_errors():
            return str(error)


def agreed():
    """What each process hears if all, all but one, or one of them say yes."""
    meshes = make_mesh(MeshConfig()), make_mesh(MeshConfig(data=2, tensor=8))
    others = jax.process_index() != 1
    return [
        [answer() for answer in [ask_all(holds, mesh) for holds in (True, others, not others)]]
        for mesh in meshes
    ]


def rows():
    """The batch that the parts of all processes become, by mesh."""
    meshes = {
        "data": make_mesh(MeshConfig()),
        "tensor inside": make_mesh(MeshConfig(fsdp=2, tensor=2)),
        "tensor across": make_mesh(MeshConfig(data=2, tensor=8)),
        "whole": make_mesh(MeshConfig(data=1, tensor=16)),
        "TPU": mesh_owned_by(V5E, 1),
        "TPU tensor": mesh_owned_by(V5E_TENSOR, 4),
    }
    batches = {}
    for name, mesh in meshes.items():
        part, parts = process_share(mesh)
        batch = put_batch({"x": np.arange(16).reshape(parts, -1)[part]}, mesh)["x"]
        batches[name] = jax.device_put(batch, NamedSharding(mesh, P())).tolist()
    return batches


def mesh_owned_by(owners, tensor):
    """A mesh with so many devices along tensor, given by the process that has each device."""
    own = [[d for d in jax.devices() if d.process_index == owner] for owner in range(4)]
    devices = np.array([own[owner].pop(0) for owner in owners])
    return Mesh(devices.reshape(-1, 1, tensor), MESH_AXES)


def tree():
    """What this process's devices hold of arrays that all processes have whole."""
    mesh = make_mesh(MeshConfig())
    shardings = {"a": NamedSharding(mesh, P("data")), "b": NamedSharding(mesh, P())}
    arrays = put_tree({"a": np.arange(16), "b": np.arange(3)}, shardings)
    return {
        name: [shard.data.tolist() for shard in array.addressable_shards]
        for name, array in arrays.items()
    }


if __name__ == "__main__":
    sys.exit(main("program.py", run))
