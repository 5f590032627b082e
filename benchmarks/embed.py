"""Embedding speed beside open_clip: the same model, weights, images and texts on the same device.

    python benchmarks/embed.py [ViT-B/32 ...] [configs/NAME.py ...] --peer-python PATH

PATH, --peer-compile, --before and the turns are as in train_step.py. That both sides give the same
embeddings is checked first. Three rows a model: images; texts at the full length; captions sorted
by length and cut to that of their batch, as evaluation embeds them, which the peer embeds at the
full length. Utilisation counts the dense model, against a matrix product measured in the same run.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
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
from turns import machine, measure, serve

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Of a unit embedding, the largest distance."""
TASKS = {"images": "image", "texts": "text", "captions": "text"}
LENGTH_STEP = 4
"""Lengths are rounded up to multiples of it, as in clip_jax/evaluation/embed.py."""


def run_model(model: str, arguments: argparse.Namespace) -> None:
    """The rows of one model."""
    with two_sides(__file__, arguments, model) as (ours, peer, folder):
        check_embeddings(folder, ours.ready["dtype"])
        print_head(ours, peer)
        flops = {task: ours.ready["flops"][tower] for task, tower in TASKS.items()}
        rows = compare(ours, peer, model, flops, arguments.seconds)
        write(rows, ours, peer, arguments.output)


def check_embeddings(folder: Path, dtype: str) -> None:
    """End the program if the sides do not compute the same."""
    here, there = (np.load(folder / f"{side}_embeddings.npz") for side in ("ours", "peer"))
    for tower in ("image", "text"):
        distance = float(np.linalg.norm(here[tower] - there[tower], axis=-1).max())
        if distance > TOLERANCE[dtype]:
            sys.exit(f"{tower} embeddings differ by {distance:.2g}; nothing to compare")
        print(f"{tower} embeddings differ by at most {distance:.1e}")


def take_turns(folder: Path, dtype: Dtype | None) -> None:
    """This project's side."""
    import jax

    from clip_jax.models.clip import CLIP
    from clip_jax.models.config import Compute, resolve_compute
    from clip_jax.models.flops import forward_flops

    config, variables, images, tokens = load_prepared(folder)
    device = jax.devices()[0]
    dtype = dtype or ("float32" if device.platform == "cpu" else "bfloat16")
    # As clip_jax.load has it.
    model = CLIP(config, resolve_compute(Compute(dtype=dtype, unroll=False), device.platform))
    variables = jax.device_put(variables, device)

    def encoder(method: str) -> Any:
        encode = jax.jit(lambda v, x: model.apply(v, x, method=method, normalize=True))
        return lambda inputs: encode(variables, inputs)

    encode_image, encode_text = encoder("encode_image"), encoder("encode_text")
    work = {
        "images": (encode_image, jax.device_put(list(images), device)),
        "texts": (encode_text, jax.device_put(list(tokens), device)),
        "captions": (encode_text, jax.device_put(sorted_by_length(tokens), device)),
    }
    for encode, batches in work.values():
        jax.block_until_ready([encode(batch) for batch in batches])
    np.savez(
        folder / f"{side_name(folder)}_embeddings.npz",
        image=encode_image(images[0]),
        text=encode_text(tokens[0]),
    )

    def timed(encode: Any, batches: Any) -> Any:
        def encode_all(_: int) -> Any:
            return [encode(batch) for batch in batches]

        def turn(seconds: float) -> dict[str, float]:
            size, wait = len(batches) * images.shape[1], jax.block_until_ready
            return {"samples_per_second": measure(encode_all, wait, size, seconds)}

        return turn

    ready = {
        "name": "clip_jax",
        "dtype": dtype,
        "batch_size": images.shape[1],
        "flops": forward_flops(config),
        "matrix_rate": matrix_rate(dtype),
        "machine": machine(),
    }
    tasks = {name: timed(*inputs) for name, inputs in work.items()}
    serve(ready, tasks | {"memory": lambda _: {"bytes": peak_bytes()}})


def side_name(folder: Path) -> str:
    """ "ours", and for the second process that asks, which is this project as it was, "peer"."""
    return "peer" if (folder / "ours_embeddings.npz").exists() else "ours"


def sorted_by_length(tokens: np.ndarray) -> list[np.ndarray]:
    """[n, size, context] -> n batches of captions of like length, each cut to its longest."""
    from clip_jax.data.text.ids import text_lengths

    flat = tokens.reshape(-1, tokens.shape[-1])
    lengths = text_lengths(flat)
    order = np.argsort(lengths, kind="stable").reshape(len(tokens), -1)
    cut = [-(-lengths[batch[-1]] // LENGTH_STEP) * LENGTH_STEP for batch in order]
    return [flat[batch, :length] for batch, length in zip(order, cut, strict=True)]


if __name__ == "__main__":
    main(__doc__, run_model, take_turns)
