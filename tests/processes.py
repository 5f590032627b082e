"""Programs that run as several processes of this machine, each with simulated CPU devices."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """What a process left."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True)
class Group:
    """Running processes, whose outputs are files of a folder."""

    processes: list[subprocess.Popen]
    folder: Path

    def wait(self, seconds: float = 150) -> list[Ended]:
        """Wait until all have ended, at most so long for each."""
        codes = [process.wait(seconds) for process in self.processes]
        texts = [
            [(self.folder / f"{kind}{index}").read_text(errors="replace") for kind in "oe"]
            for index in range(len(codes))
        ]
        return [Ended(code, *text) for code, text in zip(codes, texts, strict=True)]


@contextmanager
def running(
    command: Sequence[str], processes: int, devices: int, slurm: bool = False
) -> Iterator[Group]:
    """`python COMMAND` as so many processes, which are told of each other as on plain hosts.

    Or as tasks of a SLURM step. A single process is told of none.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        group = Group([], Path(folder))
        try:
            for index in range(processes):
                told = _settings(processes, index, port) if processes > 1 and not slurm else []
                environment = _slurm(processes, index, port) if slurm else {}
                with (
                    (group.folder / f"o{index}").open("w") as output,
                    (group.folder / f"e{index}").open("w") as errors,
                ):
                    process = subprocess.Popen(
                        [sys.executable, *command, *told],
                        env=os.environ | _devices(devices) | environment,
                        cwd=ROOT,
                        stdout=output,
                        stderr=errors,
                    )
                group.processes.append(process)
            yield group
        finally:
            for process in group.processes:
                process.kill()
            for process in group.processes:
                process.wait()


def together(
    command: Sequence[str], processes: int, devices: int, slurm: bool = False
) -> list[Ended]:
    """`running`, until all have ended."""
    with running(command, processes, devices, slurm) as group:
        return group.wait()


def free_port() -> int:
    """A port at which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _devices(count: int) -> dict[str, str]:
    """Simulated devices, for which programs are compiled quickly rather than well."""
    devices = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(count)}
    return devices | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}


def _settings(count: int, index: int, port: int) -> list[str]:
    settings = {"coordinator": f"localhost:{port}", "count": count, "index": index}
    return [f"--processes.{name}={value}" for name, value in settings.items()]


def _slurm(count: int, index: int, port: int) -> dict[str, str]:
    """What SLURM sets for a task of a step on one host, and the port for JAX to use."""
    values = {"JOB_ID": 1, "STEP_NODELIST": "localhost", "NTASKS": count}
    values |= {"PROCID": index, "LOCALID": index}
    settings = {f"SLURM_{name}": str(value) for name, value in values.items()}
    return settings | {"JAX_COORDINATOR_PORT": str(port)}
