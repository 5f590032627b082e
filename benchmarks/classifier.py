"""Building zero-shot classifiers beside open_clip: the same weights, prompts and cores.

    python benchmarks/classifier.py NAMES TEMPLATES --peer-python PATH [--peer-classes N]

NAMES and TEMPLATES are JSON lists (templates with {c}), or CLIP_benchmark's objects of such lists
by data set, of which imagenet1k is taken. PATH is the Python of an environment with open_clip and
CLIP_benchmark. Both sides take turns (A B B A) in processes of their own, in float32; the seconds
are those from a loaded model to the classifier, compilation included. Prints them, the ratio of the
seconds a class takes, and the largest difference between the two classifiers, whose rows have unit
length.

--peer-classes: how many of the classes open_clip builds, evenly spread, where all would take hours.
It takes ten at a time, always at the full context: twice the classes, twice the time.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from picture import draw_ratios
from turns import run, take_turn
from zeroshot import PEER, VOCABULARY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="?")
    parser.add_argument("templates", nargs="?")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--model", default="ViT-B-32", help="open_clip's name")
    parser.add_argument("--classes", type=int, default=1000, help="the first so many")
    parser.add_argument("--peer-classes", type=int, help="all by default")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        print(json.dumps(build(Path(arguments.turn[0]), json.loads(arguments.turn[1]))))
        return
    names = read(arguments.names)[: arguments.classes]
    templates = read(arguments.templates)
    peer_count = min(arguments.peer_classes or len(names), len(names))
    chosen = [i * len(names) // peer_count for i in range(peer_count)]
    with tempfile.TemporaryDirectory() as folder:
        run([arguments.peer_python, str(PEER), "make", folder, arguments.model])
        request = {"classnames": names, "templates": templates}
        few = {**request, "classnames": [names[i] for i in chosen]}
        peer = [arguments.peer_python, str(PEER), "classifier", folder, json.dumps(few)]
        ours = [sys.executable, __file__, "--turn", folder, json.dumps(request)]
        seconds = [take_turn(side)["seconds"] for side in (peer, ours, ours, peer)]
        there_rows, here_rows = (np.load(Path(folder) / f"{side}.npy") for side in ("peer", "ours"))
    there, here = statistics.median(seconds[::3]), statistics.median(seconds[1:3])
    values = {
        "model": arguments.model,
        "classes": {"clip_jax": len(names), "open_clip": peer_count},
        "templates": len(templates),
        "seconds": {"clip_jax": here, "open_clip": there, "turns": seconds},
        "speedup_a_class": there / peer_count / (here / len(names)),
        "largest_difference": float(np.abs(there_rows - here_rows[chosen]).max()),
    }
    print(json.dumps(values, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(values, indent=1) + "\n")
        told = f"{here / len(names):.3f} s : {there / peer_count:.3f} s a class"
        bar = (f"{arguments.model}, {len(templates)} prompts", values["speedup_a_class"], told)
        draw_ratios(
            [bar], "classes a second, times open_clip's", arguments.output.with_suffix(".png")
        )


def read(path: str) -> list[str]:
    """A list of texts, perhaps as one of many by data set."""
    values = json.loads(Path(path).read_text())
    return values["imagenet1k"] if isinstance(values, dict) else values


def build(folder: Path, request: dict) -> dict:
    """This project's turn; the model is on the device before the clock starts."""
    import time

    import jax

    import clip_jax
    from clip_jax.evaluation.zeroshot import build_classifier

    model = clip_jax.load(folder, tokenizer=folder / VOCABULARY)
    jax.block_until_ready(model.variables)
    start = time.perf_counter()
    classifier = build_classifier(model, request["classnames"], request["templates"])
    seconds = time.perf_counter() - start
    np.save(folder / "ours.npy", classifier)
    return {"seconds": seconds}


if __name__ == "__main__":
    main()
