"""Training speed beside open_clip: the same model, weights, pairs and batch on the same device.

    python benchmarks/train_step.py configs/clipart.py --peer-python PATH

PATH is the Python of an environment with open_clip and torch. The two run alternately (A B B A),
each in its own process; that both compute the same loss on the same weights is checked first.
Patch dropout is off: the two would draw different patches. Captions are in groups by length here,
as in the trainer; with --text-groups 1 both sides do the same work. Prints samples per second of
each and their ratio, and writes them to --output as JSON.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from turns import take_turn

from clip_jax.commandline import load_recipe
from clip_jax.training.config import TrainConfig

PEER = Path(__file__).with_name("train_step_peer.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=20, help="of each of the four turns")
    parser.add_argument("--text-groups", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn is not None:
        print(json.dumps(time_ours(arguments.turn, arguments.seconds, arguments.text_groups)))
        return
    config = load_recipe(arguments.recipe, TrainConfig)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        write_inputs(config, files)
        groups = ["--text-groups", str(arguments.text_groups)]
        ours = [sys.executable, __file__, "--turn", folder, *groups]
        peer = [arguments.peer_python, str(PEER), folder]
        seconds = ["--seconds", str(arguments.seconds)]
        turns = [peer, ours, ours, peer]  # the peer first: it makes the weights
        results = [take_turn([*turn, *seconds]) for turn in turns]
    report(results, arguments.recipe, arguments.output)


def write_inputs(config: TrainConfig, files: Path) -> None:
    """The architecture and real batches, for both sides."""
    from clip_jax.data.pipeline import Batches
    from clip_jax.data.sources.spec import open_pairs
    from clip_jax.model import resize_of
    from clip_jax.training.captions import make_tokenizer
    from clip_jax.weights.open_clip import CONFIG, config_to_open_clip

    source = open_pairs(config.data.train, config.model.image.image_size, config.data.fields)
    tokenizer = make_tokenizer(config, source)
    text = dataclasses.replace(config.model.text, vocab_size=tokenizer.vocab_size)
    model = dataclasses.replace(config.model, text=text)
    values = config_to_open_clip(model, own_vocabulary=False)
    (files / CONFIG).write_text(json.dumps(values))
    resize = resize_of(config.model)
    batches = Batches(source, tokenizer, resize, config.batch_size, seed=0).start_at(0)
    chosen = [next(batches) for _ in range(4)]
    np.savez(
        files / "batches.npz",
        images=np.stack([batch.images for batch in chosen]),
        tokens=np.stack([batch.tokens for batch in chosen]),
    )


def time_ours(files: Path, seconds: float, text_groups: int) -> dict[str, float]:
    """This project's step: loss on the peer's weights, then samples per second."""
    import time

    import jax

    from clip_jax import Compute
    from clip_jax.data.text.ids import text_lengths
    from clip_jax.models.clip import CLIP
    from clip_jax.parallel.mesh import MeshConfig, batch_shards, make_mesh, put_batch
    from clip_jax.training.lengths import plan_groups
    from clip_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
    from clip_jax.training.state import state_from
    from clip_jax.training.step import make_train_step
    from clip_jax.weights.pretrained import open_pretrained

    weights = open_pretrained(files, None)
    model, mesh = CLIP(weights.config, Compute(unroll=True)), make_mesh(MeshConfig())
    settings = OptimizerConfig(warmup_steps=10)
    optimizer, schedule = make_optimizer(settings, 1000), learning_rate_schedule(settings, 1000)
    state = state_from(weights.read(), model, optimizer, mesh)
    step = make_train_step(model, optimizer, schedule, mesh)
    arrays = np.load(files / "batches.npz")
    tokens, share = arrays["tokens"], arrays["tokens"].shape[1] // batch_shards(mesh)
    lengths = text_lengths(tokens).ravel()
    groups = plan_groups(lengths, tokens.shape[-1], share, text_groups)
    batches = [
        {"images": images, **(groups.arrange(texts) or {"tokens": texts})}
        for images, texts in zip(arrays["images"], tokens, strict=True)
    ]
    state, metrics = step(state, put_batch(batches[0], mesh))
    loss = float(metrics["loss"])
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        state, metrics = step(state, put_batch(batches[count % len(batches)], mesh))
        jax.block_until_ready(metrics)
        count += 1
    return {"loss": loss, "samples_per_second": count * len(batches[0]["images"]) / elapsed}


def report(results: list[dict[str, float]], recipe: str, output: Path | None) -> None:
    """Print and write the medians, after checking that the losses agree."""
    peer_loss, our_loss = results[0]["loss"], results[1]["loss"]
    if abs(our_loss - peer_loss) > 1e-4 * peer_loss:
        sys.exit(f"the losses differ: {our_loss} here, {peer_loss} there; nothing to compare")
    rates = [result["samples_per_second"] for result in results]
    peer = statistics.median([rates[0], rates[3]])
    ours = statistics.median(rates[1:3])
    print(f"first loss      {our_loss:.6f} here, {peer_loss:.6f} there")
    print(f"open_clip       {peer:8.1f} samples/s   ({rates[0]:.1f}, {rates[3]:.1f})")
    print(f"clip_jax        {ours:8.1f} samples/s   ({rates[1]:.1f}, {rates[2]:.1f})")
    print(f"ratio           {ours / peer:8.2f}")
    if output is not None:
        values = {"recipe": recipe, "open_clip": peer, "clip_jax": ours, "ratio": ours / peer}
        output.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
