"""Zero-shot evaluation beside CLIP_benchmark: the same weights, data sets and cores.

    python benchmarks/zeroshot.py --peer-python PATH --data SET [SET ...] [--templates FILE]

PATH is the Python of an environment with open_clip and CLIP_benchmark, SET a directory in its
layout: classification, multilabel or retrieval. open_clip makes random weights; both sides evaluate
them in float32 on each set, in processes of their own that take turns (A B B A). Prints the metrics
of both, how far they are apart, and the seconds from a loaded model to the metrics, classifier and
compilation included; no classifier is taken from disk. Of a classification set also: how far the
logits are apart; the ties, pairs of images that a class ranks in another order there than here,
and the largest distance of their logits; and how far this project's metrics of the peer's logits
are from the peer's own. The peer leaves the order of equal logits open: of a multilabel set also in
how many pairs of images, of which one has a class and one has not, the class has equal logits, and
which metrics the two orders of all such pairs give.

--templates: prompts for all sets, JSON. --spread: a set by whose images and classes the weights are
made to tell inputs apart; without it a random model ranks by rounding.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from turns import run, take_turn

PEER = Path(__file__).with_name("zeroshot_peer.py")
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--model", default="ViT-B-32", help="open_clip's name")
    parser.add_argument("--spread", nargs=1, default=[], help="a classification set")
    parser.add_argument("--templates", help="a JSON list of prompts with {c}")
    parser.add_argument("--once", action="store_true", help="one turn each: metrics, no speed")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        print(json.dumps(evaluate(Path(arguments.turn[0]), json.loads(arguments.turn[1]))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make = [arguments.peer_python, str(PEER), "make", folder, arguments.model]
        run([*make, *arguments.spread])
        peer = [arguments.peer_python, str(PEER), "evaluate", folder]
        ours = [sys.executable, __file__, "--turn", folder]
        for data in arguments.data:
            request = {"data": data, "file": arguments.templates}
            if arguments.templates:
                request["templates"] = json.loads(Path(arguments.templates).read_text())
            sides = (peer, ours) if arguments.once else (peer, ours, ours, peer)
            turns = [take_turn([*side, json.dumps(request)]) for side in sides]
            rows.append({"data": Path(data).name, **compare(turns)})
            if (scores := Path(folder) / "ours_scores.npy").is_file():
                there = np.load(Path(folder) / "peer_scores.npz")
                rows[-1] |= compare_scores(np.load(scores), **there, peer=turns[0]["metrics"])
                scores.unlink()
            print(json.dumps(rows[-1], indent=1), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


def evaluate(folder: Path, request: dict) -> dict:
    """This project's turn; the model is on the device before the clock starts."""
    import time

    import jax

    import clip_jax
    from clip_jax.data.prompts import PromptFiles
    from clip_jax.data.sources.clip_benchmark import dataset_type, open_classification
    from clip_jax.evaluation.run import classify, run_retrieval

    model = clip_jax.load(folder, tokenizer=folder / VOCABULARY)
    jax.block_until_ready(model.variables)
    start = time.perf_counter()
    if dataset_type(Path(request["data"])) == "retrieval":
        result, _ = run_retrieval(model, "", request["data"])
    else:
        data = open_classification(request["data"], PromptFiles(templates=request["file"]))
        result, scores = classify(model, "", data)
        np.save(folder / "ours_scores.npy", 100 * scores.values)
    return {"metrics": result.metrics, "seconds": time.perf_counter() - start}


def compare(turns: list[dict]) -> dict:
    """Metrics and medians of the turns peer, ours, ours, peer."""
    peer, ours = turns[0]["metrics"], turns[1]["metrics"]
    metrics = {
        "metrics": {name: {"clip_jax": ours[name], "clip_benchmark": peer[name]} for name in ours},
        "largest_difference": max(abs(ours[name] - peer[name]) for name in ours),
    }
    if len(turns) == 2:
        return metrics
    seconds = [turn["seconds"] for turn in turns]
    there, here = statistics.median(seconds[::3]), statistics.median(seconds[1:3])
    return {
        **metrics,
        "seconds": {"clip_jax": here, "clip_benchmark": there, "turns": seconds},
        "speedup": there / here,
    }


def compare_scores(ours: np.ndarray, scores: np.ndarray, labels: np.ndarray, peer: dict) -> dict:
    """100 times the cosines here and there, [images, classes], and what metrics make of theirs."""
    from clip_jax.evaluation.zeroshot import Scores, metrics_of

    labels = labels.astype(bool) if labels.ndim == 2 else labels
    again = metrics_of(Scores(scores, labels, np.arange(len(scores))))
    ties, widest = 0, 0.0
    for here, there in zip(ours.T, scores.T, strict=True):
        gaps = there[:, None] - there
        swapped = (gaps > 0) & (here[:, None] <= here)
        ties += int(swapped.sum())
        widest = max(widest, float(gaps[swapped].max(initial=0)))
    found = {
        "largest_difference_of_logits": float(np.abs(ours - scores).max()),
        "ties": ties,
        "widest_tie": widest,
        "metrics_of_the_same_logits": max(abs(again[name] - peer[name]) for name in again),
    }
    return found | (equal_logits(scores, labels) if labels.ndim == 2 else {})


def equal_logits(scores: np.ndarray, labels: np.ndarray) -> dict:
    """Pairs of images with and without a class that have equal logits, and what their order does.

    Both [images, classes], labels bool.
    """
    from clip_jax.evaluation.zeroshot import multilabel_metrics

    pairs = 0
    for logits, has in zip(scores.T, labels.T, strict=True):
        pairs += int((logits[has][:, None] == logits[~has]).sum())
    orders = {"with_the_class_first": np.argsort(~labels, axis=0, kind="stable")}
    orders["with_the_class_last"] = orders["with_the_class_first"][::-1]
    taken = {
        name: multilabel_metrics(*(np.take_along_axis(x, order, axis=0) for x in (scores, labels)))
        for name, order in orders.items()
    }
    return {"pairs_of_equal_logits": pairs, "metrics_by_order_of_equal_logits": taken}


if __name__ == "__main__":
    main()
