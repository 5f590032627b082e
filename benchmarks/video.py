"""What each model of time learns of moving scenes: configs/moving_scenes.py, once for each.

    python benchmarks/video.py WORKDIR [--times none after inside beside] [--steps N]

Trains through train.py into WORKDIR/TIME (what is there and finished is not trained again), then
asks of every held-out video whether its caption fits better than that of the same motion backwards,
and which of all 96 fits best. Prints the table of docs/video.md, and writes it to WORKDIR as
video.json, and with some videos as video.png.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import clip_jax
from clip_jax.data.samples import LabelledImages
from clip_jax.data.sources.moving_scenes import MOTIONS, held_out_moving_scenes
from clip_jax.data.video.frames import as_video
from clip_jax.evaluation.zeroshot import Scores, metrics_of, score_images

ROOT = Path(__file__).parents[1]
RECIPE = "configs/moving_scenes.py"
TIMES = ("none", "after", "inside", "beside")
PAIRS = {forth: f"{forth} / {back}" for forth, back in MOTIONS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--times", nargs="+", choices=TIMES, default=TIMES)
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()
    steps = [] if arguments.steps is None else ["--steps", str(arguments.steps)]
    rows = {name: row(name, arguments.workdir.resolve() / name, steps) for name in arguments.times}
    columns = list(next(iter(rows.values())))
    print("| time |", " | ".join(columns), "|\n|---|" + "---|" * len(columns))
    for name, values in rows.items():
        print(f"| {name} |", " | ".join(f"{value:.3g}" for value in values.values()), "|")
    (arguments.workdir / "video.json").write_text(json.dumps(rows, indent=1) + "\n")
    draw(rows, arguments.workdir / "video.png")


def row(name: str, workdir: Path, steps: list[str]) -> dict[str, float]:
    """Seconds of training, and accuracies between a motion and its reverse, and among all."""
    seconds = workdir / "seconds.json"
    if not seconds.is_file():
        start = time.perf_counter()
        options = ["--model.video.time", name, "--workdir", str(workdir), *steps]
        subprocess.run([sys.executable, "train.py", RECIPE, *options], cwd=ROOT, check=True)
        seconds.write_text(json.dumps(time.perf_counter() - start))
    model = clip_jax.load(workdir)
    assert model.config.frames is not None
    data = held_out_moving_scenes(model.config.image.image_size, model.config.frames)
    scores = score_images(model, data)
    return {
        "training, seconds": json.loads(seconds.read_text()),
        **between_reverses(scores, data),
        "among all 96": metrics_of(scores)["acc1"],
    }


def between_reverses(scores: Scores, data: LabelledImages) -> dict[str, float]:
    """Share of the videos of each motion and its reverse that fit their own caption better."""
    own = np.take_along_axis(scores.values, scores.labels[:, None], axis=1)[:, 0]
    reverse = scores.labels ^ 1  # forwards and backwards are neighbours among the classes
    other = np.take_along_axis(scores.values, reverse[:, None], axis=1)[:, 0]
    forwards = [data.classnames[label & ~1] for label in scores.labels]
    found = {}
    for motion, pair in PAIRS.items():
        rows = [name.endswith(f" {motion}") for name in forwards]
        found[pair] = float((own > other)[rows].mean())
    return found


def draw(rows: dict[str, dict[str, float]], path: Path) -> None:
    """A video of each kind of motion as a strip, above the accuracies of each model."""
    from matplotlib.figure import Figure

    data, strips = held_out_moving_scenes(96, 4), {}
    for index, label in enumerate(data.labels):
        motion = next((m for m in PAIRS if data.classnames[label].endswith(f" {m}")), None)
        if motion is not None and motion not in strips:
            pictures = as_video(data.images[index]).frames(range)
            strips[motion] = np.concatenate(pictures, axis=1)
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.6)).flat
    for axes, motion in zip(above.subplots(2, 2).flat, PAIRS, strict=True):
        axes.set_axis_off()
        axes.set_title(motion, size=9)
        if motion in strips:
            axes.imshow(strips[motion])
    axes = below.subplots()
    for number, (name, values) in enumerate(rows.items()):
        heights = [values[pair] for pair in PAIRS.values()]
        places = np.arange(len(PAIRS)) + 0.8 * number / len(rows)
        axes.bar(places, heights, width=0.75 / len(rows), label=name, align="edge")
    axes.axhline(0.5, color="black", linewidth=1, linestyle=":")
    axes.set(ylim=(0, 1), ylabel="accuracy between the two")
    axes.set_xticks(np.arange(len(PAIRS)) + 0.4, PAIRS.values(), size=8)
    axes.legend(title="model.video.time", ncols=len(rows), loc="lower right", fontsize=8)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
