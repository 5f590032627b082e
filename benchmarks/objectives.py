"""Objectives compared by what zero-shot accuracy an image seen in training buys (paper, figure 2).

    python benchmarks/objectives.py WORKDIR [--study objectives text projection temperature prompts]
    python benchmarks/objectives.py WORKDIR --arm CLIP=A.py --arm CoCa=B.py --train SPEC --data SPEC

A study compares arms: recipes with the same image encoder, data, order and budget, each trained
by train.py with several seeds into WORKDIR, and evaluated zero-shot at several of its checkpoints;
what is there and finished is not trained again. The studies of the paper are on generated scenes;
--arm names recipes of one's own instead, the first being what the others are measured against.
All arms are asked the same prompts (--templates), on --pictures of the set, evenly spread.

Prints for each arm the accuracy it ends with, and how many more images it needs than the first to
get as far as the lower of both; writes WORKDIR/STUDY.png and STUDY.json.
"""

import argparse
import dataclasses
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from turns import machine

import clip_jax
from clip_jax.commandline import load_recipe
from clip_jax.data.prompts import PromptFiles
from clip_jax.data.samples import LabelledImages
from clip_jax.data.sources.spec import open_labelled
from clip_jax.evaluation.zeroshot import metrics_of, score_images
from clip_jax.training.config import TrainConfig

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Arm:
    """A recipe with options, and the prompts that it is asked if not those of all."""

    recipe: str
    options: tuple[str, ...] = ()
    templates: str | None = None


CONTRASTIVE = Arm("configs/demo.py")
STUDIES = {
    "objectives": {
        "contrastive": CONTRASTIVE,
        "bag of words": Arm("configs/objectives/bag_of_words.py"),
        "caption": Arm("configs/objectives/caption.py"),
        "CoCa": Arm("configs/objectives/coca.py"),
    },
    "text": {"transformer": CONTRASTIVE, "CBOW": Arm("configs/objectives/cbow.py")},
    "projection": {
        "linear": CONTRASTIVE,
        "non-linear": Arm(CONTRASTIVE.recipe, ("--model.projection", "mlp")),
    },
    "temperature": {
        "learned": CONTRASTIVE,
        "fixed": Arm(CONTRASTIVE.recipe, ("--optimizer.rates", "logit_scale", "0")),
    },
    "prompts": {
        "ensemble": dataclasses.replace(CONTRASTIVE, templates=""),
        "one prompt": CONTRASTIVE,
    },
}
"""The paper's figure 2, its pseudo-code's two text towers, and the small choices of section 2."""


@dataclass(frozen=True)
class Budget:
    """What all arms of a study share."""

    workdir: Path
    seeds: int
    steps: int | None
    train: str | None
    data: str | None
    templates: str
    pictures: int
    points: int


Curve = dict[int, float]
"""Accuracy by images seen."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--study", nargs="+", choices=STUDIES, default=["objectives"])
    parser.add_argument("--arm", action="append", metavar="NAME=RECIPE", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="by default the recipe's")
    parser.add_argument("--train", metavar="SPEC", help="by default the recipe's data")
    parser.add_argument("--data", metavar="SPEC", help="by default the recipe's zero-shot set")
    parser.add_argument("--templates", default="{c}", help="one prompt, or a file of them")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--points", type=int, default=8, help="evaluations of a run")
    arguments = parser.parse_args()
    studies: dict[str, dict[str, Arm]] = {name: STUDIES[name] for name in arguments.study}
    if arguments.arm:
        given = (arm.partition("=") for arm in arguments.arm)
        studies = {"arms": {name: Arm(recipe) for name, _, recipe in given}}
    names = [field.name for field in dataclasses.fields(Budget)]
    budget = Budget(**{name: getattr(arguments, name) for name in names})
    for name, arms in studies.items():
        check_arms(arms, budget)
        run_study(name, arms, budget)


def check_arms(arms: dict[str, Arm], budget: Budget) -> None:
    """Stop unless the recipes share what a comparison needs, and each can be evaluated."""
    recipes = {arm.recipe for arm in arms.values()}
    if len({Path(recipe).stem for recipe in recipes}) < len(recipes):
        sys.exit("two recipes have the same file name, and so would have the same workdir")
    for recipe in recipes:
        if budget.data is None and not load_recipe(recipe, TrainConfig).evaluation.zeroshot:
            sys.exit(f"{recipe} names no zero-shot set; give --data SPEC")
    for field in ("model.image", "data", "batch_size", "steps"):
        found = {
            name: shared(load_recipe(arm.recipe, TrainConfig), field) for name, arm in arms.items()
        }
        if len({repr(value) for value in found.values()}) > 1:
            sys.exit(f"the arms differ in {field}: {found}")


def shared(config: Any, field: str) -> Any:
    """A field by its dotted name."""
    for name in field.split("."):
        config = getattr(config, name)
    return config


def run_study(study: str, arms: dict[str, Arm], budget: Budget) -> None:
    """Train, evaluate, print and draw."""
    start = time.perf_counter()
    curves = {
        name: [run_arm(name, arm, seed, budget) for seed in range(budget.seeds)]
        for name, arm in arms.items()
    }
    rows = compare(curves)
    print(f"| {study} | {' | '.join(next(iter(rows.values())))} |")
    print("|---" * (1 + len(next(iter(rows.values())))) + "|")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells.values())} |", flush=True)
    values = {
        "machine": machine(),
        "budget": {name: value for name, value in vars(budget).items() if name != "workdir"},
        "seconds of this call": time.perf_counter() - start,
        "acc1 by images seen, by seed": curves,
        "table": rows,
    }
    (budget.workdir / f"{study}.json").write_text(json.dumps(values, indent=1) + "\n")
    draw(study, curves, budget.workdir / f"{study}.png")


def run_arm(name: str, arm: Arm, seed: int, budget: Budget) -> Curve:
    """Accuracy at each of the checkpoints of a run, which is trained if it is not there yet."""
    config = load_recipe(arm.recipe, TrainConfig)
    steps = budget.steps or config.steps
    every = max(steps // budget.points, 1)
    variant = "".join(arm.options).replace("--", "-").replace("/", "_")
    workdir = budget.workdir.resolve() / f"{Path(arm.recipe).stem}{variant}-{seed}"
    if not (workdir / "checkpoints" / str(steps)).is_dir():
        options = {"steps": steps, "seed": seed, "workdir": workdir, "log-every": every}
        options |= {"checkpoint.every": every, "checkpoint.keep-every": every}
        if budget.train is not None:
            options["data.train"] = budget.train
        command = [sys.executable, "train.py", arm.recipe, *arm.options, "--evaluation.zeroshot"]
        command += [f"--{option}={value}" for option, value in options.items()]
        subprocess.run(command, cwd=ROOT, check=True)
    templates = budget.templates if arm.templates is None else arm.templates
    curve = {}
    for step in sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*")):
        if step % every == 0 or step == steps:
            sets = config.evaluation.zeroshot
            spec = budget.data or sets[0]
            images = step * config.batch_size
            curve[images] = evaluate(workdir / "checkpoints" / str(step), spec, templates, budget)
            print(f"{name}, seed {seed}: {images:,} images, acc1 {curve[images]:.3f}", flush=True)
    return curve


def evaluate(checkpoint: Path, spec: str, templates: str, budget: Budget) -> float:
    """Zero-shot top-1 accuracy on some pictures of a set, kept in the workdir for the next time."""
    kept = checkpoint.parents[1] / "acc1.json"
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    asked = " ".join([checkpoint.name, spec, templates, str(budget.pictures)])
    if asked not in known:
        model = clip_jax.load(checkpoint)
        prompts = PromptFiles(templates=templates or None)
        data = some_of(open_labelled(spec, model.config.image.image_size, prompts), budget.pictures)
        known[asked] = metrics_of(score_images(model, data))["acc1"]
        kept.write_text(json.dumps(known, indent=1) + "\n")
    return known[asked]


def some_of(data: LabelledImages, count: int) -> LabelledImages:
    """At most so many of a set's pictures, evenly spread."""
    chosen = np.linspace(0, len(data.images), min(count, len(data.images)), endpoint=False)
    numbers = chosen.astype(int)
    return dataclasses.replace(data, images=Some(data.images, numbers), labels=data.labels[numbers])


class Some:
    """Some images of a source."""

    def __init__(self, images: Any, numbers: np.ndarray):
        self._images, self._numbers = images, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Any:
        return self._images[int(self._numbers[index])]


def compare(curves: dict[str, list[Curve]]) -> dict[str, dict[str, str]]:
    """By arm: final accuracy with its spread, and images needed beside the first arm's."""
    first, *_ = curves
    rows = {}
    for name, runs in curves.items():
        final = [list(run.values())[-1] for run in runs]
        ratio = images_ratio(mean_curve(runs), mean_curve(curves[first]))
        rows[name] = {
            "acc1 at the end, mean": f"{np.mean(final):.3f}",
            "least to most of the seeds": f"{min(final):.3f} to {max(final):.3f}",
            f"images it needs, in those of {first}": "" if name == first else f"{ratio:.2g}",
        }
    return rows


def mean_curve(runs: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Images seen, from 0, and the accuracy that the seeds reach on average; never falling."""
    images = sorted(runs[0])
    accuracy = [float(np.mean([run[seen] for run in runs])) for seen in images]
    return np.array([0, *images]), np.maximum.accumulate([0.0, *accuracy])


def images_ratio(slow: tuple[np.ndarray, np.ndarray], fast: tuple[np.ndarray, np.ndarray]) -> float:
    """How many times as many images one needs for the accuracy that both reach; nan if it is 0."""
    level = min(slow[1][-1], fast[1][-1])
    return math.nan if level == 0 else seen_at(level, *slow) / seen_at(level, *fast)


def seen_at(level: float, images: np.ndarray, accuracy: np.ndarray) -> float:
    """Images at which a curve reaches an accuracy, on a line between its points."""
    after = int(np.searchsorted(accuracy, level))
    if after == 0:
        return float(images[0])
    low, high = accuracy[after - 1], accuracy[after]
    share = (level - low) / (high - low)
    return float(images[after - 1] + share * (images[after] - images[after - 1]))


def draw(study: str, curves: dict[str, list[Curve]], path: Path) -> None:
    """Mean accuracy against images seen, with the range of the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, runs in curves.items():
        images = sorted(runs[0])
        values = np.array([[run[seen] for seen in images] for run in runs])
        (line,) = axes.plot(images, values.mean(0), marker="o", markersize=3, label=name)
        axes.fill_between(images, values.min(0), values.max(0), alpha=0.2, color=line.get_color())
    axes.set(xlabel="images seen", ylabel="zero-shot top-1 accuracy", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(title=study)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
