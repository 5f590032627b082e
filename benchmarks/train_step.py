"""Training speed beside open_clip: the same model, weights, pairs and batch on the same device.

    python benchmarks/train_step.py [ViT-B/32 ...] [configs/NAME.py ...] --peer-python PATH

PATH is the Python of an environment with torch and open_clip; without open_clip, transformers'
CLIPModel is the peer. It is compiled on GPUs, or by --peer-compile, with fused AdamW and autocast
to bfloat16 if that is the --dtype. --before REVISION compares with this project as it was instead.

Each side is a process that compiles once; they then take turns (A B B A, medians). That both
compute the same loss on the same weights is checked first. Two rows a model: with every caption at
the full length, and with captions in groups by length, as the trainer has them; the peer has only
the first. Utilisation counts the dense model, against a matrix product measured in the same run.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from beside import (
    Dtype,
    compare,
    load_prepared,
    main,
    matrix_rate,
    peak_bytes,
    print_head,
    two_sides,
    write,
)
from turns import Side, machine, measure, serve

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}
"""Of the losses, relative."""
GROUPS = {"full length": 1, "by length": 3}


def run_model(model: str, arguments: argparse.Namespace) -> None:
    """The rows of one model."""
    with two_sides(__file__, arguments, model) as (ours, peer, _):
        check_losses(ours, peer)
        print_head(ours, peer)
        flops = dict.fromkeys(GROUPS, ours.ready["flops"])
        rows = compare(ours, peer, model, flops, arguments.seconds)
        write(rows, ours, peer, arguments.output)


def check_losses(ours: Side, peer: Side) -> None:
    """End the program if the sides do not compute the same."""
    here, there = ours.ready["loss"], peer.ready["loss"]
    if abs(here - there) > TOLERANCE[ours.ready["dtype"]] * there:
        sys.exit(f"the losses differ: {here} here, {there} there; nothing to compare")
    print(f"first loss {here:.6f} here, {there:.6f} there")


def take_turns(folder: Path, dtype: Dtype | None) -> None:
    """This project's side."""
    import jax

    from clip_jax.data.text.ids import text_lengths
    from clip_jax.models.clip import CLIP
    from clip_jax.models.config import Compute, resolve_compute
    from clip_jax.parallel.mesh import MeshConfig, batch_shards, make_mesh, put_batch
    from clip_jax.training.lengths import plan_groups
    from clip_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
    from clip_jax.training.state import state_from
    from clip_jax.training.step import make_train_step
    from clip_jax.training.utilisation import update_flops

    config, variables, images, tokens = load_prepared(folder)
    mesh = make_mesh(MeshConfig())
    platform = mesh.devices.flat[0].platform
    dtype = dtype or ("float32" if platform == "cpu" else "bfloat16")
    compute = resolve_compute(Compute(dtype=dtype, unroll=platform != "tpu"), platform)
    model, settings = CLIP(config, compute), OptimizerConfig(warmup_steps=10)
    optimizer, schedule = make_optimizer(settings, 1000), learning_rate_schedule(settings, 1000)
    step = make_train_step(model, optimizer, schedule, mesh)
    share, lengths = tokens.shape[1] // batch_shards(mesh), text_lengths(tokens).ravel()
    batches = {}
    for name, limit in GROUPS.items():
        groups = plan_groups(lengths, tokens.shape[-1], share, limit)
        batches[name] = [
            put_batch({"images": pixels, **(groups.arrange(texts) or {"tokens": texts})}, mesh)
            for pixels, texts in zip(images, tokens, strict=True)
        ]
    state = state_from(variables, model, optimizer, mesh)

    def update(name: str, number: int) -> Any:
        nonlocal state
        state, metrics = step(state, batches[name][number % len(images)])
        return metrics

    losses = [float(update(name, 0)["loss"]) for name in GROUPS]

    def timed(name: str) -> Any:
        def turn(seconds: float) -> dict[str, float]:
            work, wait = partial(update, name), jax.block_until_ready
            return {"samples_per_second": measure(work, wait, images.shape[1], seconds)}

        return turn

    ready = {
        "name": "clip_jax",
        "loss": losses[0],
        "dtype": dtype,
        "batch_size": images.shape[1],
        "flops": update_flops(config, frozenset({"image", "text"})),
        "matrix_rate": matrix_rate(dtype),
        "machine": machine(),
    }
    tasks = {name: timed(name) for name in GROUPS}
    serve(ready, tasks | {"memory": lambda _: {"bytes": peak_bytes()}})


if __name__ == "__main__":
    main(__doc__, run_model, take_turns)
