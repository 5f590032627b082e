"""What the benchmarks share: sides in processes of their own, turns, and where it was measured."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def take_turn(command: list[str]) -> dict[str, Any]:
    """Run one side; it prints a JSON object on its last line."""
    return json.loads(run(command).splitlines()[-1])


def run(command: list[str]) -> str:
    """What a command prints; if it fails, so does this program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return done.stdout


def machine() -> dict[str, Any]:
    """The device and the versions, for a result's file."""
    import jax

    devices = jax.devices()
    return {
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


class Side:
    """One side as a process that stays, so that what it compiled serves all of its turns."""

    def __init__(self, command: list[str], environment: Mapping[str, str] | None = None):
        self._command = command
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict(environment or {}),
        )
        self.ready = self._answer()
        """What it said once it was ready."""

    def turn(self, task: str, seconds: float) -> dict[str, Any]:
        """Have it do a task for about so long."""
        assert self._process.stdin is not None
        print(json.dumps({"task": task, "seconds": seconds}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"{' '.join(self._command[:3])} failed ({self._process.wait()})")

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def serve(ready: dict[str, Any], tasks: Mapping[str, Callable[[float], dict[str, Any]]]) -> None:
    """The other end of a Side: say what is ready, then do the tasks that are asked for."""
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(tasks[request["task"]](request["seconds"])), flush=True)


def measure(
    work: Callable[[int], Any], wait: Callable[[Any], Any], samples: int, seconds: float
) -> float:
    """Samples a second of calling work(0), work(1), ..., which the device does in the background.

    wait: until the result of a call is there. samples: of each call.
    """
    wait(work(0))
    start = time.perf_counter()
    wait(work(1))
    count = max(2, round(seconds / (time.perf_counter() - start)))
    start = time.perf_counter()
    for number in range(count):
        last = work(number)
    wait(last)
    return count * samples / (time.perf_counter() - start)


def alternate(ours: Side, peer: Side, task: str, seconds: float) -> dict[str, Any]:
    """Four turns, A B B A; the medians of both sides' samples a second, and their ratio."""
    rates = [side.turn(task, seconds)["samples_per_second"] for side in (peer, ours, ours, peer)]
    here, there = statistics.median(rates[1:3]), statistics.median(rates[::3])
    return {"clip_jax": here, "peer": there, "ratio": here / there, "turns": rates}


def resident_bytes() -> int:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
