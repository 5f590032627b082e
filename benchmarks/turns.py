"""What the benchmarks share: one side's turn in a process of its own, and where it was measured."""

import json
import os
import platform
import subprocess
import sys
from typing import Any


def take_turn(command: list[str]) -> dict[str, Any]:
    """Run one side; it prints a JSON object on its last line."""
    return json.loads(run(command).splitlines()[-1])


def run(command: list[str]) -> str:
    """What a command prints; if it fails, so does this program."""
    done = subprocess.run(command, capture_output=True, text=True)
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
