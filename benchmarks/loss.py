"""Memory and time of the losses with their gradients, beside the form that holds the N x N matrix.

    python benchmarks/loss.py [--pairs 8192 16384 32768 131072] [--width 512] [--peer-python PATH]

Every line is measured in a process of its own, on one device, float32. Temporaries are the
compiler's own account; the process's peak is how much its resident memory grew over the inputs,
which contains the gradients (not on accelerators). A form that would not fit this machine's memory
is compiled but not run; 131,072 pairs take two CPU cores ten minutes a form. PATH is the Python of
an environment with open_clip, whose loss is then timed too. Writes all of it to --output as JSON,
and a chart beside it.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from picture import draw_growth
from turns import machine, take_turn

PEER = Path(__file__).with_name("loss_peer.py")
FORMS = ("contrastive", "contrastive, plain", "sigmoid", "sigmoid, plain")
PEER_BYTES = 20
"""open_clip's loss takes about so much for each pair of an image and a text: five matrices."""
SECONDS = 5
"""A form is repeated for about so long, if it takes less."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[8192, 16384, 32768, 131072])
    parser.add_argument("--width", type=int, default=512, help="of the embeddings")
    parser.add_argument("--peer-python", help="of an environment with open_clip")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn is not None:
        form, pairs = arguments.turn
        print(json.dumps(measure(form, int(pairs), arguments.width)))
        return
    rows = []
    print(f"{'':20} {'pairs':>8} {'temporaries':>12} {'peak':>10} {'gradients':>10} {'time':>9}")
    for pairs in arguments.pairs:
        for form in FORMS:
            width = ["--width", str(arguments.width)]
            turn = [sys.executable, __file__, "--turn", form, str(pairs), *width]
            rows.append({"form": form, "pairs": pairs, **take_turn(turn)})
            print_row(rows[-1])
        if arguments.peer_python and PEER_BYTES * pairs**2 < 0.8 * memory():
            turn = [arguments.peer_python, str(PEER), str(pairs), str(arguments.width)]
            rows.append({"form": "open_clip", "pairs": pairs, **take_turn(turn)})
            print_row(rows[-1])
    if arguments.output is not None:
        values = {"machine": machine(), "width": arguments.width, "rows": rows}
        arguments.output.write_text(json.dumps(values, indent=1) + "\n")
        draw(rows, arguments.output.with_suffix(".png"))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Temporaries and time of each form over the pairs."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for title, name, unit in (
        ("temporaries, MiB", "temporaries", 2**20),
        ("seconds", "seconds", 1),
    ):
        curves = panels.setdefault(title, {})
        for row in rows:
            if row.get(name) is not None:
                curves.setdefault(row["form"], []).append((row["pairs"], row[name] / unit))
    draw_growth(panels, "pairs", path)


def print_row(row: dict) -> None:
    def size(name: str) -> str:
        return f"{row[name] / 2**20:,.0f} MiB" if row.get(name) is not None else "-"

    seconds = f"{row['seconds']:.2f} s" if row.get("seconds") is not None else "not run"
    print(
        f"{row['form']:20} {row['pairs']:8,} {size('temporaries'):>12} {size('peak'):>10} "
        f"{size('gradients'):>10} {seconds:>9}",
        flush=True,
    )


def measure(form: str, pairs: int, width: int) -> dict[str, float | None]:
    """Compile value and gradients of one form, and run them if they fit."""
    import jax
    import jax.numpy as jnp

    from clip_jax import losses

    def loss(image: jax.Array, text: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        if form == "contrastive":
            return losses.contrastive_loss(image, text, scale)
        if form == "contrastive, plain":
            return losses.contrastive_loss_reference(image, text, scale)
        if form == "sigmoid":
            return losses.sigmoid_loss(image, text, scale, bias)
        return losses.sigmoid_loss_reference(image, text, scale, bias)

    @jax.jit
    def embeddings(key: jax.Array) -> jax.Array:
        rows = jax.random.normal(key, (pairs, width))
        return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)

    # Pairs that fit each other a little, as early in training.
    image = embeddings(jax.random.key(0))
    text = jax.jit(lambda image, noise: (image + 3 * noise) / 10**0.5)(
        image, embeddings(jax.random.key(1))
    )
    inputs = jax.block_until_ready((image, text, jnp.float32(20), jnp.float32(-10)))
    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3))).lower(*inputs).compile()
    stats = compiled.memory_analysis()
    assert stats is not None
    result: dict[str, float | None] = {
        "temporaries": stats.temp_size_in_bytes,
        "gradients": stats.output_size_in_bytes,
        "peak": None,
        "seconds": None,
    }
    if stats.temp_size_in_bytes + stats.output_size_in_bytes > 0.8 * memory():
        return result
    before, start = forget_peak(), time.perf_counter()
    value, _ = jax.block_until_ready(compiled(*inputs))
    seconds = time.perf_counter() - start
    grown = resident("VmHWM") - before
    if seconds < SECONDS:  # else the first call, slower by little, is enough
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < SECONDS:
            jax.block_until_ready(compiled(*inputs))
            count += 1
        seconds = (time.perf_counter() - start) / count
    on_cpu = jax.default_backend() == "cpu"
    return result | {
        "peak": grown if on_cpu else None,
        "seconds": seconds,
        "loss": float(value),
    }


def forget_peak() -> int:
    """Begin to record this process's largest resident memory anew; what it is now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(name: str) -> int:
    """VmRSS, what this process has resident now, or VmHWM, the most it had, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} in /proc/self/status")


def memory() -> int:
    """Bytes that a form may take: the device's, or the free ones of this machine."""
    import jax

    stats = jax.devices()[0].memory_stats()
    if stats is not None:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


if __name__ == "__main__":
    main()
