"""A run of several processes: how they meet, how they agree, and how they part.

Every process runs the same program; which rows of a batch each of them reads is in mesh.py. A
process without others starts nothing here and waits for nothing.
"""

import functools
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clip_jax.errors import InputError

PARTING_SECONDS = 5
"""How long a process that fails waits for the others to fail too, before it leaves them."""


@dataclass(frozen=True)
class ProcessesConfig:
    """How the processes of a run on plain hosts meet; on SLURM and TPU pods they do by themselves.

    coordinator, count and index are given together, or count 1 alone.
    """

    coordinator: str | None = None
    """HOST:PORT at which process 0 listens and the others find it; any free port."""
    count: int | None = None
    """Number of processes; 1 is a run alone, whatever SLURM or the TPU pod says."""
    index: int | None = None
    """Number of this process, from 0."""
    timeout: int = 300
    """Seconds to wait for the others at the start."""
    heartbeat: int = 100
    """Seconds without a sign of life from one process after which the others end."""


def start_processes(config: ProcessesConfig) -> None:
    """Meet the other processes of this run, if there are any; before anything uses a device.

    Raises InputError if the settings are partial or contradict each other, or if the others have
    not come within `timeout` seconds.
    """
    for name in ("timeout", "heartbeat"):
        if getattr(config, name) < 1:
            raise InputError(f"processes.{name} must be at least 1, got {getattr(config, name)}")
    named = (config.coordinator, config.count, config.index) != (None, None, None)
    how = _plain_hosts(config) if named else _cluster()
    if how is None:
        return
    place = f"at {config.coordinator}" if config.coordinator else "as the cluster says"
    _report(f"waiting for the other processes {place}, for at most {config.timeout} s")
    how["heartbeat_timeout_seconds"] = config.heartbeat
    _meet(how, place, config.timeout)
    processes, devices = jax.process_count(), jax.device_count()
    if devices != processes * jax.local_device_count():
        raise InputError(
            f"{processes} processes with {devices} devices, of which process "
            f"{jax.process_index()} has {jax.local_device_count()}; all need equally many"
        )
    if jax.process_index() == 0:
        _report(f"{processes} processes with {devices} devices")


def gather(text: str) -> list[str]:
    """The texts that all processes give, in their order. All call this at the same point."""
    if jax.process_count() == 1:
        return [text]
    content = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(content)))
    padded = np.zeros(lengths.max() + 1, np.uint8)
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:length]).decode() for row, length in zip(rows, lengths, strict=True)]


def ask_all(holds: bool, mesh: Mesh) -> Callable[[], bool]:
    """Ask whether something holds on all processes; the answer, which waits until it is there.

    All call this at the same point. The question stands behind what the devices are already given
    to do, and what comes after it does not delay the answer.
    """
    if jax.process_count() == 1:
        return lambda: holds
    each = np.full(jax.local_device_count(), holds)
    sharding = NamedSharding(mesh, P(mesh.axis_names))
    asked = jax.make_array_from_process_local_data(sharding, each)
    answer = _all_on(mesh)(asked)
    return lambda: bool(answer)


@functools.cache
def _all_on(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(jnp.all, out_shardings=NamedSharding(mesh, P()))


@contextmanager
def same_errors() -> Iterator[None]:
    """An InputError in the block on one process is one on all, which else would wait for it.

    All enter the block at the same point and wait for each other at its end.
    """
    problem = None
    try:
        yield
    except InputError as error:
        problem = error
    problems = gather(str(problem or ""))
    if problem is not None:
        raise problem
    for process, message in enumerate(problems):
        if message:
            raise InputError(f"process {process}: {message}")


def leave(code: int) -> None:
    """End this process after a failure: with the others if they fail too, else without them.

    Otherwise it would wait for them as it exits, and they for its share of the work. Alone, it
    does nothing.
    """
    if not jax.distributed.is_initialized():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    together = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    together.start()
    together.join(PARTING_SECONDS)
    os._exit(code)


def _plain_hosts(config: ProcessesConfig) -> dict[str, Any] | None:
    """Arguments of jax.distributed.initialize from the settings; None for a run alone."""
    coordinator, count, index = config.coordinator, config.count, config.index
    if count is not None and count < 1:
        raise InputError(f"processes.count must be at least 1, got {count}")
    if count == 1 and not index:
        return None
    if coordinator is None or count is None or index is None:
        raise InputError(
            "several processes on plain hosts need --processes.coordinator, --processes.count and "
            "--processes.index, all three"
        )
    if not 0 <= index < count:
        raise InputError(f"processes.index must be from 0 to below the count {count}, got {index}")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"processes.coordinator must be HOST:PORT, got {coordinator!r}")
    if index == 0:
        _check_free(int(port))
    return {
        "coordinator_address": coordinator,
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "deactivate",
    }


def _check_free(port: int) -> None:
    """Refuse a port that is in use: JAX would crash, or mix its processes with another run's."""
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise InputError(
            f"processes.coordinator: port {port} cannot be used here ({error.strerror}); choose "
            "another for all processes"
        ) from None


def _cluster() -> dict[str, Any] | None:
    """Arguments of jax.distributed.initialize in a SLURM step or TPU pod; None elsewhere.

    A single task or host starts nothing, so that two programs may run there side by side.
    """
    if "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        return {"cluster_detection_method": "slurm"}
    config: Any = jax.config
    if "tpu" not in (config.jax_platforms or "").split(","):  # which JAX sets on a TPU's host
        return None
    hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES")
    slices = int(os.environ.get("MEGASCALE_NUM_SLICES") or "1")
    if hosts is None:
        known_to_server = "TPU_SKIP_MDS_QUERY" not in os.environ
        return {} if known_to_server else None
    return {} if slices * len(hosts.split(",")) > 1 else None


def _meet(how: dict[str, Any], place: str, timeout: int) -> None:
    """jax.distributed.initialize, with InputError where the others do not come in time.

    In a thread, for JAX then ends the process with a stack trace, and cannot be interrupted before.
    """
    problems: list[Exception] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(
                **how,
                initialization_timeout=2 * timeout + 60,
            )
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=initialize, daemon=True)
    thread.start()
    thread.join(timeout)
    alone = "for a run alone: --processes.count 1"
    if thread.is_alive():
        raise InputError(
            f"the processes did not all meet {place} within {timeout} s; start all of them, check "
            f"that process 0 can be reached there, or set --processes.timeout ({alone})"
        )
    for problem in problems:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise InputError(f"the processes cannot meet {place}: {reason} ({alone})") from problem


def _report(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
