"""What each memory lever costs and saves on this machine: time and memory of the train step.

    python benchmarks/memory.py [configs/NAME.py] [--batch-size 512]

The recipe's step is compiled with one lever after the other, and the variants run in turns, several
rounds, so that what else the machine does meets all of them; medians. Memory is what the step needs
at its fullest moment, by the compiler's account. The batch is random. Without a recipe, the model
is a ViT of 12 layers that two cores train. fsdp and tensor need several devices: docs/pods.md has
them for a slice. Writes the table to --output as JSON.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from turns import machine

from clip_jax import CLIPConfig, TextConfig, ViTConfig
from clip_jax.commandline import load_recipe
from clip_jax.parallel.mesh import make_mesh, put_batch
from clip_jax.training.assemble import build_model, build_step
from clip_jax.training.config import TrainConfig
from clip_jax.training.footprint import needed_bytes, vocabulary_size
from clip_jax.training.optimizer import OptimizerConfig, make_optimizer
from clip_jax.training.state import init_state

SMALL = TrainConfig(
    model=CLIPConfig(
        embed_dim=128,
        image=ViTConfig(image_size=64, patch_size=8, width=128, layers=12, heads=4),
        text=TextConfig(width=128, layers=12, heads=4, context_length=32),
    ),
    optimizer=OptimizerConfig(warmup_steps=10),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    base = load_recipe(arguments.recipe, TrainConfig) if arguments.recipe else SMALL
    base = dataclasses.replace(base, batch_size=arguments.batch_size)
    runs = {name: Variant(config) for name, config in variants(base).items()}
    for _ in range(arguments.rounds):
        for run in runs.values():
            run.step()
    rows: list[dict[str, Any]] = [
        {"lever": name, "bytes": run.bytes, "seconds": statistics.median(run.seconds)}
        for name, run in runs.items()
    ]
    print(f"{'':28} {'memory':>11} {'of it':>6} {'a step':>9} {'of it':>6}   loss")
    for row, run in zip(rows, runs.values(), strict=True):
        size, seconds = row["bytes"], row["seconds"]
        of_size, of_seconds = size / rows[0]["bytes"], seconds / rows[0]["seconds"]
        print(
            f"{row['lever']:28} {size / 2**20:7,.0f} MiB {of_size:6.2f} {seconds * 1e3:6,.0f} ms "
            f"{of_seconds:6.2f}   {run.loss:.6f}"
        )
    if arguments.output is not None:
        batch_size = arguments.batch_size
        values = {"machine": machine(), "batch_size": batch_size, "rows": rows}
        arguments.output.write_text(json.dumps(values, indent=1) + "\n")


def variants(base: TrainConfig) -> dict[str, TrainConfig]:
    """The recipe without any lever, then with one or two."""

    def change(
        micro_batches: int = 1, first_moment: Any = "float32", **compute: Any
    ) -> TrainConfig:
        settings: dict[str, Any] = {"remat": "none", "unroll": False} | compute
        return dataclasses.replace(
            base,
            micro_batch=None if micro_batches == 1 else base.batch_size // micro_batches,
            optimizer=dataclasses.replace(base.optimizer, first_moment=first_moment),
            compute=dataclasses.replace(base.compute, **settings),
        )

    return {
        "none": change(),
        "unroll": change(unroll=True),
        "remat dots": change(remat="dots"),
        "remat full": change(remat="full"),
        "8 micro-batches": change(8),
        "8 micro-batches, remat full": change(8, remat="full"),
        "32 micro-batches": change(32),
        "first moment bfloat16": change(first_moment="bfloat16"),
    }


class Variant:
    """A recipe's step, compiled, with its state."""

    def __init__(self, config: TrainConfig):
        mesh = make_mesh(config.mesh)
        model = build_model(config, vocabulary_size(config), mesh)
        optimizer = make_optimizer(config.optimizer, config.steps)
        self.batch = put_batch(random_batch(config), mesh)
        self.state = init_state(model, optimizer, mesh, seed=0)
        step: Any = build_step(config, model, optimizer, mesh)
        self.compiled = step.lower(self.state, self.batch).compile()
        platform = mesh.devices.flat[0].platform
        self.bytes = needed_bytes(self.compiled.memory_analysis(), platform)
        self.state, metrics = self.compiled(self.state, self.batch)
        self.loss = float(metrics["loss"])
        self.seconds: list[float] = []

    def step(self) -> None:
        """One update, timed."""
        start = time.perf_counter()
        self.state, metrics = self.compiled(self.state, self.batch)
        jax.block_until_ready((self.state, metrics))
        self.seconds.append(time.perf_counter() - start)


def random_batch(config: TrainConfig) -> dict[str, np.ndarray]:
    """Noise, and captions of random ids that end with the context."""
    rng, size = np.random.default_rng(0), config.model.image.image_size
    vocabulary, context = vocabulary_size(config), config.model.text.context_length
    tokens = rng.integers(1, vocabulary - 2, (config.batch_size, context), np.int32)
    tokens[:, -1] = vocabulary - 1
    images = rng.integers(0, 256, (config.batch_size, size, size, 3), np.uint8)
    return {"images": images, "tokens": tokens}


if __name__ == "__main__":
    main()
