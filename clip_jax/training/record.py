"""What is needed to repeat a run, a line of workdir/starts.jsonl each time that it is started.

Nothing reads it but people; what decides whether a run may be continued is in its checkpoints.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

import clip_jax
from clip_jax.data.samples import Indexed, PairSource
from clip_jax.training.config import TrainConfig, flatten_config

STARTS = "starts.jsonl"

ENVIRONMENT = ("XLA_", "JAX_", "LIBTPU_", "NCCL_")
"""Variables with these prefixes change what is computed, or how."""


def record_start(
    workdir: Path, config: TrainConfig, mesh: Mesh, source: PairSource, step: int
) -> None:
    """Append what a run from `step` on depends on; of several processes, the first one does."""
    if jax.process_index() != 0:
        return
    about = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": step,
        "command": sys.argv,
        "config": flatten_config(config),
        "data": {
            "pairs": len(source),
            "index": source.digest() if isinstance(source, Indexed) else None,
        },
        "devices": describe_devices(mesh),
        "code": describe_code(Path(clip_jax.__file__).parent),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": installed_packages(),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(ENVIRONMENT)
        },
    }
    with (workdir / STARTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(about) + "\n")


def describe_devices(mesh: Mesh) -> dict[str, Any]:
    """The devices that a run computes on, and how they are laid out."""
    device = mesh.devices.flat[0]
    return {
        "kind": device.device_kind,
        "count": mesh.devices.size,
        "mesh": dict(mesh.shape),
        "processes": jax.process_count(),
        "runtime": device.client.platform_version,
    }


def describe_code(package: Path) -> dict[str, Any]:
    """A hash of a package's modules; and of the git checkout that it is in, if there is git.

    commit and modified (whether a tracked file differs from it) are None where git does not say.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    root = package.parent
    checkout = _git(root, "rev-parse", "--show-toplevel") == str(root.resolve())
    changes = _git(root, "status", "--porcelain", "--untracked-files=no") if checkout else None
    return {
        "sha256": digest.hexdigest(),
        "commit": _git(root, "rev-parse", "HEAD") if checkout else None,
        "modified": None if changes is None else bool(changes),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None if it is not installed, or refuses."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def installed_packages() -> dict[str, str]:
    """Name -> version of all that is installed: a driver's library may matter as much as jax."""
    found = {package.name: package.version for package in metadata.distributions()}
    return dict(sorted(found.items()))
