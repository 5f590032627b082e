"""Saving and continuing a run, through Orbax: what is written is whole, what is read is checked.

Whether a checkpoint belongs to the run at hand is the caller's business.
"""

import json
import logging
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, EveryNSteps, LatestN

from clip_jax.errors import InputError
from clip_jax.parallel.processes import gather, same_errors
from clip_jax.training.config import CheckpointConfig
from clip_jax.training.state import TrainState
from clip_jax.weights.workdir import (
    OTHER_NUMBERS,
    checkpoint_manager,
    checksum,
    first_line,
    read_sealed,
    sealed,
)

Saved = tuple[int, TrainState, dict[str, Any]]

logging.getLogger("absl").setLevel(logging.CRITICAL)  # what fails is reported here, in one line


class Checkpoints:
    """The checkpoints of a workdir. Each is whole or absent; writing goes on in the background.

    All processes make the same calls at the same points. Raises InputError if a file is where the
    checkpoints are to be.
    """

    def __init__(self, workdir: Path, config: CheckpointConfig):
        self._workdir, self._folder = workdir, (workdir / "checkpoints").resolve()
        if self._folder.exists() and not self._folder.is_dir():
            raise InputError(f"{self._folder}: is not a directory; move it away")
        self._clear_unfinished()  # Orbax would do so in a thread that outlives a refused run
        kept = [LatestN(config.keep)]
        kept += [EveryNSteps(config.keep_every)] if config.keep_every is not None else []
        options = ocp.CheckpointManagerOptions(preservation_policy=AnyPreservationPolicy(kept))
        self._manager = checkpoint_manager(workdir, options)
        self._saving: int | None = None
        self._began = 0.0
        self._problem = ""

    def steps(self) -> list[int]:
        """Steps of which there are checkpoints, newest first, as the first process sees them."""
        there = [int(path.name) for path in self._folder.glob("*") if path.name.isdecimal()]
        steps: list[int] = json.loads(gather(json.dumps(there))[0])
        return sorted(steps, reverse=True)

    def restore(self, target: TrainState, check: Callable[[dict[str, Any]], None]) -> Saved:
        """The newest checkpoint that is whole, as (step, state, run).

        target: abstract_state, whose shardings the state gets. check: raises InputError for a
        `run` that is not to be continued. Damaged checkpoints newer than the one returned are
        reported and moved to workdir/damaged. Raises InputError if none is whole.
        """
        damaged: dict[int, str] = {}
        for step in self.steps():
            try:
                state, run = self._read(step, target, check)
            except _DamagedError as error:
                damaged[step] = str(error)
                continue
            self._set_aside(damaged, step)
            return step, state, run
        reasons = "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
        raise InputError(
            f"{self._folder}: no checkpoint is whole ({reasons}); put back a copy of one, or start "
            "anew in another --workdir"
        )

    def save(self, step: int, state: TrainState, run: dict[str, Any]) -> None:
        """Begin to save the state after `step` updates, and a JSON object that describes the run.

        A save that failed, as on a full disk, is reported when the next one begins; of several
        processes, which cannot agree on how far it came, it raises InputError.
        """
        self._wait()
        self._report_problem()
        self._began = time.perf_counter()
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        run = run | {"step": step, "state_sum": int(checksum(state))}
        run = sealed(run | {"weights_sum": int(checksum(variables))})
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run))
        self._saving = step
        try:
            self._manager.save(step, args=items, force=True)
        except Exception as error:
            self._failed(step, error)

    def finish(self) -> float:
        """Wait until the last save is done; the seconds it took. Raises InputError if it failed."""
        self._wait()
        problem, self._problem = self._problem, ""
        if problem:
            raise InputError(f"{problem}; make room and run the same command again")
        return time.perf_counter() - self._began

    def close(self) -> None:
        """Wait for what is being written."""
        self._wait()
        self._report_problem()
        self._manager.close()

    def _wait(self) -> None:
        saving, self._saving = self._saving, None
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._failed(saving, error)

    def _report_problem(self) -> None:
        if self._problem:
            _report(self._problem)
        self._problem = ""

    def _failed(self, step: int | None, error: Exception) -> None:
        """Note a save that failed, and give back the room that it took."""
        self._saving = None
        self._clear_unfinished()
        self._manager.reload()  # it has forgotten older ones, which it was to delete afterwards
        newest = self._manager.latest_step()
        there = "there is no checkpoint" if newest is None else f"the newest is of step {newest}"
        self._problem = f"the checkpoint of step {step} cannot be written ({first_line(error)}); "
        self._problem += there
        if jax.process_count() > 1:
            raise InputError(self._problem) from error

    def _read(
        self, step: int, target: TrainState, check: Callable[[dict[str, Any]], None]
    ) -> tuple[TrainState, dict[str, Any]]:
        """One checkpoint, or _DamagedError on all processes.

        Read by handlers alone: Orbax's manager has processes wait for each other inside, for ever
        where one of them fails.
        """
        folder, problem = self._folder / str(step), ""
        with same_errors():
            try:
                run = read_sealed(folder)
                check(run)
                expected = run["state_sum"]
                saved = ocp.args.StandardRestore(target)
                state = ocp.StandardCheckpointHandler().restore(folder / "state", args=saved)
            except (InputError, jax.errors.JaxRuntimeError):
                raise  # another recipe, or too little memory
            except Exception as error:
                problem = first_line(error)
        problem = next(filter(None, gather(problem)), "")
        if not problem and int(checksum(state)) != expected:
            problem = OTHER_NUMBERS
        if problem:
            raise _DamagedError(problem)
        return state, run

    def _set_aside(self, damaged: dict[int, str], used: int) -> None:
        """Move damaged checkpoints to where they are in nobody's way, and say so."""
        if not damaged:
            return
        if jax.process_index() == 0:
            for step, reason in damaged.items():
                aside = self._workdir / "damaged" / str(step)
                aside.parent.mkdir(exist_ok=True)
                shutil.rmtree(aside, ignore_errors=True)
                (self._folder / str(step)).rename(aside)
                _report(f"the checkpoint of step {step} is damaged ({reason}): moved to {aside}")
            _report(f"the run continues from step {used}")
        gather("")  # not before they are moved
        self._manager.reload()

    def _clear_unfinished(self) -> None:
        if jax.process_index() == 0:
            for unfinished in self._folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(unfinished, ignore_errors=True)


class _DamagedError(Exception):
    """A checkpoint that cannot be read, or is not what was saved."""


def _report(message: str) -> None:
    if jax.process_index() == 0:
        print(message, file=sys.stderr, flush=True)
