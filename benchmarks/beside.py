"""What train_step.py and embed.py share: one model for two sides, and the table of several.

A model is an OpenAI name, with random pixels and captions of common lengths, or a recipe, with its
own pairs. Its weights are random. What the sides need lies in a folder, which a process on the CPU
writes, so that the devices are theirs alone. Nothing but jax, flax, optax and numpy is needed here
for a name, and torch with open_clip or transformers there.
"""

import argparse
import contextlib
import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from picture import draw_ratios
from turns import Side, alternate, run

from clip_jax import CLIPConfig

PEER = Path(__file__).with_name("torch_peer.py")
MODELS = ("ViT-B/32", "ViT-B/16", "ViT-L/14", "RN50")
BATCHES = 4
ON_CPU = {"JAX_PLATFORMS": "cpu"}
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Both sides hold a GPU's memory at the same time."""
COLUMNS = ("clip_jax", "peer", "ratio", "mfu", "peer mfu", "memory", "peer memory")
Dtype = Literal["float32", "bfloat16"]


def main(
    doc: str,
    run_model: Callable[[str, argparse.Namespace], None],
    take_turns: Callable[[Path, Dtype | None], None],
) -> None:
    """The program of either: rows of each model; or, as a process of these, inputs or a side."""
    arguments = parser(doc).parse_args()
    if arguments.prepare is not None:
        model, folder, library = arguments.prepare
        prepare(model, Path(folder), library, arguments.batch_size)
    elif arguments.turn is not None:
        take_turns(arguments.turn, arguments.dtype)
    else:
        for model in arguments.models:
            run_model(model, arguments)


def parser(doc: str) -> argparse.ArgumentParser:
    """The options that both benchmarks have."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("models", nargs="*", default=["ViT-B/32"], help="OpenAI names or recipes")
    made.add_argument("--peer-python", default=sys.executable, help="of open_clip's environment")
    made.add_argument("--peer-compile", action=argparse.BooleanOptionalAction)
    made.add_argument("--before", metavar="REVISION", help="the peer: this project as it was")
    made.add_argument("--batch-size", type=int, help="default: the recipe's, or 256")
    made.add_argument("--dtype", choices=("float32", "bfloat16"))
    made.add_argument("--seconds", type=float, default=5, help="of each turn")
    made.add_argument("--output", type=Path, help="JSON, to which rows are added")
    made.add_argument("--prepare", nargs=3, help=argparse.SUPPRESS)
    made.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    return made


# --- the inputs of both sides


def prepare(model: str, folder: Path, library: str, batch_size: int | None) -> None:
    """Write the architecture, random weights by the library's names, and a few batches."""
    import jax

    from clip_jax.errors import InputError
    from clip_jax.models.clip import CLIP, init_variables
    from clip_jax.models.presets import OPENAI
    from clip_jax.weights.huggingface import config_to_huggingface, huggingface_layout
    from clip_jax.weights.layout import write_tensors
    from clip_jax.weights.open_clip import config_to_open_clip
    from clip_jax.weights.openai import openai_layout

    rng = np.random.default_rng(0)
    if model in OPENAI:
        config = OPENAI[model]
        pixels, tokens = random_batches(config, batch_size or 256, rng)
    else:
        try:
            config, pixels, tokens = recipe_batches(model, batch_size)
        except InputError as error:
            sys.exit(f"{error}; the models are {', '.join(OPENAI)}")
    variables = jax.jit(lambda key: init_variables(CLIP(config), key))(jax.random.key(0))
    ours: dict[str, Any] = write_tensors(openai_layout(config), variables)
    np.savez(folder / "weights.npz", **ours)
    about: Any = config_to_open_clip(config, own_vocabulary=False)
    if library == "transformers":
        about, _ = config_to_huggingface(config)
        theirs: dict[str, Any] = write_tensors(huggingface_layout(config), variables)
        np.savez(folder / "peer.npz", **theirs)
    mean, std = config.preprocess.mean, config.preprocess.std
    (folder / "peer.json").write_text(json.dumps({"config": about, "mean": mean, "std": std}))
    (folder / "config.pickle").write_bytes(pickle.dumps(config))
    np.savez(folder / "batches.npz", images=pixels, tokens=tokens)


def random_batches(
    config: CLIPConfig, batch_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Noise; captions of 18 tokens in the median and 20 in the mean, few of them long."""
    size, context = config.image.image_size, config.text.context_length
    pixels = rng.integers(0, 256, (BATCHES, batch_size, size, size, 3), np.uint8)
    lengths = np.rint(rng.lognormal(math.log(18), 0.45, (BATCHES, batch_size)))
    ends = np.clip(lengths, 4, context).astype(int)[..., None] - 1
    ids = rng.integers(1, config.text.vocab_size - 2, (BATCHES, batch_size, context), np.int32)
    places = np.arange(context)
    tokens = np.where(places < ends, ids, 0)
    return pixels, np.where(places == ends, config.text.vocab_size - 1, tokens).astype(np.int32)


def recipe_batches(
    recipe: str, batch_size: int | None
) -> tuple[CLIPConfig, np.ndarray, np.ndarray]:
    """A recipe's architecture, with the vocabulary in use, and its first batches."""
    import dataclasses

    from clip_jax.commandline import load_recipe
    from clip_jax.data.pipeline import Batches
    from clip_jax.data.sources.spec import open_pairs
    from clip_jax.model import resize_of
    from clip_jax.training.captions import make_tokenizer
    from clip_jax.training.config import TrainConfig

    config = load_recipe(recipe, TrainConfig)
    source = open_pairs(config.data.train, config.model.image.image_size, config.data.fields)
    tokenizer = make_tokenizer(config, source)
    text = dataclasses.replace(config.model.text, vocab_size=tokenizer.vocab_size)
    size = batch_size or config.batch_size
    batches = Batches(source, tokenizer, resize_of(config.model), size, seed=0).start_at(0)
    chosen = [next(batches) for _ in range(BATCHES)]
    return (
        dataclasses.replace(config.model, text=text),
        np.stack([batch.images for batch in chosen]),
        np.stack([batch.tokens for batch in chosen]),
    )


def load_prepared(folder: Path) -> tuple[CLIPConfig, Any, np.ndarray, np.ndarray]:
    """What `prepare` wrote, for this project: config, variables, pixels and tokens."""
    import jax

    from clip_jax.models.clip import CLIP, init_variables
    from clip_jax.weights.layout import read_variables
    from clip_jax.weights.lazy import LazyTensor
    from clip_jax.weights.openai import openai_layout

    config = pickle.loads((folder / "config.pickle").read_bytes())
    stored = np.load(folder / "weights.npz")
    tensors = {
        name: LazyTensor(array.shape, array.dtype, partial(stored.__getitem__, name))
        for name, array in stored.items()
    }
    shapes = jax.eval_shape(lambda key: init_variables(CLIP(config), key), jax.random.key(0))
    variables = read_variables(openai_layout(config), tensors, shapes, str(folder))
    batches = np.load(folder / "batches.npz")
    return config, variables, batches["images"], batches["tokens"]


# --- the two sides


def library_of(python: str) -> str:
    """Whose CLIP is the peer: open_clip's, or transformers' where there is none."""
    names = "torch", "open_clip", "transformers"
    find = f"import importlib.util as u; print(*filter(u.find_spec, {names}))"
    torch, *libraries = [*run([python, "-c", find]).split(), ""]
    if torch != "torch" or not libraries[0]:
        sys.exit(
            f"{python} has no torch with open_clip or transformers; --peer-python names another"
        )
    return libraries[0]


@contextlib.contextmanager
def two_sides(script: str, arguments: argparse.Namespace, model: str) -> Iterator[tuple]:
    """This project and the peer, ready with the same weights and batches, and their folder."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, options = Path(name), options_of(arguments)
        library = "none" if arguments.before else library_of(arguments.peer_python)
        command = [sys.executable, script, "--prepare", model, name, library]
        command += ["--batch-size", str(arguments.batch_size)] if arguments.batch_size else []
        if code := subprocess.run(command, env=os.environ | ON_CPU).returncode:
            sys.exit(code)  # it has said why
        ours = [sys.executable, script, "--turn", name, *options]
        if arguments.before:
            checkout = stack.enter_context(worktree(arguments.before))
            there = [sys.executable, str(checkout / "benchmarks" / Path(script).name)]
            peer, path = [*there, "--turn", name, *options], {"PYTHONPATH": str(checkout)}
        else:
            peer = [arguments.peer_python, str(PEER), Path(script).stem, name, library, *options]
            path = {}
        sides = []
        for side, more in ((ours, {}), (peer, path)):
            sides.append(Side(side, SHARED | more))
            stack.callback(sides[-1].end)
        if arguments.before:
            sides[-1].ready["name"] = f"clip_jax at {arguments.before}"
        yield (*sides, folder)


def options_of(arguments: argparse.Namespace) -> list[str]:
    """What both sides are told."""
    chosen = [] if arguments.dtype is None else ["--dtype", arguments.dtype]
    if arguments.peer_compile is not None:
        chosen.append("--peer-compile" if arguments.peer_compile else "--no-peer-compile")
    return chosen


@contextlib.contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """A checkout of this project at another revision."""
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "before"
        run(["git", "-C", str(root), "worktree", "add", "--detach", str(checkout), revision])
        try:
            yield checkout
        finally:
            run(["git", "-C", str(root), "worktree", "remove", "--force", str(checkout)])


def matrix_rate(dtype: str) -> float:
    """FLOP/s of one large matrix product on this device, the best of a few tries."""
    import jax
    import jax.numpy as jnp
    from turns import measure

    size = 2048 if jax.devices()[0].platform == "cpu" else 8192
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(x, x))
    work, flops = lambda _: multiply(x, x), 2 * size**3
    return max(measure(work, jax.block_until_ready, flops, 0.3) for _ in range(5))


def peak_bytes() -> int:
    """The most memory that this project's side held: of the device, or on a CPU of the process."""
    import jax
    from turns import resident_bytes

    stats = jax.local_devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else resident_bytes()


# --- the table


def compare(
    ours: Side, peer: Side, model: str, flops: dict[str, int], seconds: float
) -> list[dict[str, Any]]:
    """A row for each task. flops: of one sample of a task, as the dense model has them."""
    rows = []
    for task, needed in flops.items():
        found = alternate(ours, peer, task, seconds)
        rate = ours.ready["matrix_rate"] / needed
        rows.append(
            {
                "model": model,
                "task": task,
                "batch_size": ours.ready["batch_size"],
                **found,
                "mfu": found["clip_jax"] / rate,
                "peer mfu": found["peer"] / rate,
                "memory": ours.turn("memory", 0)["bytes"],
                "peer memory": peer.turn("memory", 0)["bytes"],
            }
        )
        print_row(rows[-1])
    return rows


def print_head(ours: Side, peer: Side) -> None:
    """What is compared, and the names of the columns."""
    here, where = ours.ready, ours.ready["machine"]
    print(f"{where['device']}, {here['dtype']}: jax {where['jax']} beside {peer.ready['name']}")
    print(f"matrix products run at {here['matrix_rate'] / 1e12:,.2f} TFLOP/s")
    print(f"{'':34}" + "".join(f"{name:>12}" for name in COLUMNS))


def print_row(row: dict[str, Any]) -> None:
    cells = [f"{row['clip_jax']:,.1f}/s", f"{row['peer']:,.1f}/s", f"{row['ratio']:.2f}"]
    cells += [f"{row[name]:.1%}" for name in ("mfu", "peer mfu")]
    cells += [f"{row[name] / 2**20:,.0f} MiB" for name in ("memory", "peer memory")]
    print(f"{title(row):34}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def title(row: dict[str, Any]) -> str:
    """ "ViT-B/32, images"; of a recipe the file's name."""
    model = row["model"]
    return f"{Path(model).stem if model.endswith('.py') else model}, {row['task']}"


def write(rows: Sequence[dict[str, Any]], ours: Side, peer: Side, output: Path | None) -> None:
    """Add rows to the results, in place of earlier ones of the same name; draw them all."""
    if output is None:
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(output.read_text())["rows"] if output.exists() else []
    names = {(row["model"], row["task"]) for row in rows}
    about = {name: ours.ready[name] for name in ("machine", "dtype", "matrix_rate")}
    about["peer name"] = peer.ready["name"]
    kept = [row for row in known if (row["model"], row["task"]) not in names]
    rows = kept + [about | row for row in rows]
    output.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    bars = [
        (title(row), row["ratio"], f"{row['clip_jax']:,.0f}/s : {row['peer']:,.0f}/s")
        for row in rows
    ]
    meaning = f"samples a second, times those of {rows[-1]['peer name']}"
    draw_ratios(bars, meaning, output.with_suffix(".png"))
