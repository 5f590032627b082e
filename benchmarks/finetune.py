"""What fine-tuning leaves of what a model knew: the clip-art ResNet after 60 steps on other data.

    python benchmarks/finetune.py WORKDIR

WORKDIR is that of a finished run of configs/clipart.py. Its model is fine-tuned on generated
scenes, which have nothing to do with clip art, through train.py and in three ways; eval.py says
what it and they can do on the recipe's own evaluation sets. Prints the table of docs/weights.md,
and writes it to --output as JSON. Takes about three minutes on two CPU cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from clip_jax.commandline import load_recipe
from clip_jax.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
RECIPE = "configs/clipart.py"

SETTINGS = (
    *("--data.train", "scenes:", "--data.augment.prompt-share", "0", "--data.augment.no-flip"),
    *("--steps", "60", "--batch-size", "64"),
    *("--optimizer.warmup-steps", "10", "--optimizer.weight-decay", "0.01"),
    *("--evaluation.zeroshot", "--evaluation.retrieval"),  # eval.py does that
)
RATE, FROZEN = "--optimizer.learning-rate", "--model.image.frozen-statistics"
WAYS = {
    "learning rate 1e-5, frozen statistics": (RATE, "1e-5", FROZEN),
    "learning rate 1e-5": (RATE, "1e-5"),
    "learning rate 1.5e-3, that of pre-training, frozen statistics": (RATE, "1.5e-3", FROZEN),
}
"""What is done -> the options in which they differ."""

METRICS = ("image_retrieval_recall@5", "text_retrieval_recall@5", "mean_per_class_recall")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path, help="of a finished run of configs/clipart.py")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    trained = arguments.workdir.resolve()
    print("| | recall@5 | | mean per class recall |\n|---|---|---|---|")
    rows = [row("before", trained)]
    for way, options in WAYS.items():
        with tempfile.TemporaryDirectory() as tuned:
            start = ("--init-from", str(trained), "--workdir", tuned)
            run("train.py", RECIPE, *start, *SETTINGS, *options)
            rows.append(row(way, Path(tuned)))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


def row(way: str, workdir: Path) -> dict[str, str | float]:
    """The metrics of a workdir's model; printed as a line of the table."""
    found = evaluate(workdir)
    metrics = {name: found[name] for name in METRICS}
    print(f"| {way} |", " | ".join(f"{value:.3f}" for value in metrics.values()), "|", flush=True)
    return {"way": way, **metrics}


def evaluate(workdir: Path) -> dict[str, float]:
    """All metrics of a workdir's model on the recipe's evaluation sets."""
    sets = load_recipe(str(ROOT / RECIPE), TrainConfig).evaluation
    metrics: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        for task, specs in {"zeroshot": sets.zeroshot, "retrieval": sets.retrieval}.items():
            for spec in specs:
                options = ("--model", str(workdir), "--data", spec, "--output", str(result))
                run("eval.py", task, *options)
                metrics |= json.loads(result.read_text())["metrics"]
    return metrics


def run(script: str, *arguments: str) -> None:
    """One of the two scripts, from the project's root, where the recipe's data are looked for."""
    command = [sys.executable, script, *arguments]
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"{' '.join(command)} failed")


if __name__ == "__main__":
    main()
