"""What checkpoints cost: their share of the time of a recipe's steps, at its interval.

    python benchmarks/checkpoint.py configs/demo.py [--steps 20] [--turns 5]

Times so many steps on one batch with a save begun at the first, until it is written, against as
many without, in turns (A B B A), and takes the fastest of each. What the save adds, over the time
of the steps between two saves, is the share. Beside it stands what it would be if the run waited
for each save. The disk is the one of --folder.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from turns import machine

from clip_jax.commandline import load_recipe
from clip_jax.parallel.mesh import make_mesh, put_batch
from clip_jax.training.assemble import build_model, build_step
from clip_jax.training.checkpoints import Checkpoints
from clip_jax.training.config import TrainConfig, flatten_config
from clip_jax.training.optimizer import make_optimizer
from clip_jax.training.state import init_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    config = load_recipe(arguments.recipe, TrainConfig)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = measure(config, Path(folder), arguments.steps, arguments.turns)
    values = {"machine": machine(), "recipe": arguments.recipe, **found}
    print(json.dumps(values, indent=1))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(values, indent=1) + "\n")


def measure(config: TrainConfig, folder: Path, steps: int, turns: int) -> dict[str, float]:
    """Seconds of a step and of a save, and what share of the time the saves take."""
    mesh = make_mesh(config.mesh)
    model = build_model(config, config.data.vocab_size, mesh)
    optimizer = make_optimizer(config.optimizer, config.steps)
    step = build_step(config, model, optimizer, mesh)
    state = init_state(model, optimizer, mesh, config.seed)
    batch = put_batch(random_batch(config), mesh)
    run = {"config": flatten_config(config)}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    number, alone = 0, []
    with contextlib.closing(Checkpoints(folder, config.checkpoint)) as checkpoints:
        for save in [True, False] + [False, True, True, False] * turns:
            started = time.perf_counter()
            for place in range(steps):
                state, _ = step(state, batch)
                number += 1
                if save and place == 0:
                    checkpoints.save(number, state, run)
            jax.block_until_ready(state)
            checkpoints.finish()
            seconds[save].append(time.perf_counter() - started)
        for _ in range(turns):
            number += 1
            checkpoints.save(number, state, run)
            alone.append(checkpoints.finish())
    without, with_save = (min(seconds[save][1:]) for save in (False, True))
    between = without / steps * config.checkpoint.every
    return {
        "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        "seconds a step": without / steps,
        "steps between saves": config.checkpoint.every,
        "seconds that a save adds": with_save - without,
        "share of the time": (with_save - without) / between,
        "seconds of a save alone": statistics.median(alone),
        "share of the time if the run waited": statistics.median(alone) / between,
    }


def random_batch(config: TrainConfig) -> dict[str, np.ndarray]:
    """Noise and random tokens."""
    rng, size = np.random.default_rng(0), config.model.image.image_size
    length = config.model.text.context_length
    return {
        "images": rng.integers(0, 256, (config.batch_size, size, size, 3), np.uint8),
        "tokens": rng.integers(0, config.data.vocab_size, (config.batch_size, length), np.int32),
    }


if __name__ == "__main__":
    main()
