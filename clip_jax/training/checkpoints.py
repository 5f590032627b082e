"""Saving and continuing a run, through Orbax."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from clip_jax.parallel.processes import gather
from clip_jax.training.config import CheckpointConfig
from clip_jax.training.state import TrainState
from clip_jax.weights.workdir import checkpoint_manager


class Checkpoints:
    """The checkpoints of a workdir. Each is whole or absent; writing goes on in the background."""

    def __init__(self, workdir: Path, config: CheckpointConfig):
        if jax.process_index() == 0:
            # Orbax would do so in a thread that outlives a run which is refused at once.
            for unfinished in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(unfinished, ignore_errors=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=config.keep, step_prefix=None)
        self._manager = checkpoint_manager(workdir, options)

    def latest(self) -> int | None:
        """Step of the newest checkpoint, as the first process sees it."""
        step: int | None = json.loads(gather(json.dumps(self._manager.latest_step()))[0])
        return step

    def read_run(self, step: int) -> dict[str, Any]:
        """What `save` was given as `run`."""
        return self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))[
            "run"
        ]

    def restore(self, step: int, target: TrainState) -> TrainState:
        """The state of a checkpoint, with the shardings of `target` (abstract_state)."""
        state = ocp.args.StandardRestore(target)
        return self._manager.restore(step, args=ocp.args.Composite(state=state))["state"]

    def save(self, step: int, state: TrainState, run: dict[str, Any]) -> None:
        """Save the state after `step` updates, and a JSON object that describes the run."""
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run))
        self._manager.save(step, args=items, force=True)

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.close()
