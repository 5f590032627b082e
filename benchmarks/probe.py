"""The linear probe's search beside scikit-learn's: the same features, split, strengths and cores.

    python benchmarks/probe.py --peer-python PATH

PATH is the Python of an environment with scikit-learn. The two run alternately (A B B A), each in
its own process, compilation included, on float32 features. These are made up: overlapping classes,
falling spectrum. Accuracies are compared at every strength with scikit-learn's in float64, from
a turn that is not timed, and float32. Prints seconds and their ratio; --output writes JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PEER = Path(__file__).with_name("probe_peer.py")
AGREE = 0.001
VALIDATION = 10_000
"""Images on which accuracies are taken, so that 0.1 point are ten of them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-threads", type=int, default=os.cpu_count())
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn is not None:
        print(json.dumps(search(arguments.turn)))
        return
    sizes = (arguments.images, arguments.width, arguments.classes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npz"
        features: dict[str, Any] = make_features(*sizes)
        np.savez(file, **features)
        peer = [arguments.peer_python, str(PEER), str(file), "float32"]
        ours = [sys.executable, __file__, "--turn", str(file)]
        turns = [peer, ours, ours, peer, [*peer[:3], "float64"]]
        results = [take_turn(turn, arguments.peer_threads) for turn in turns]
    report(results, sizes, arguments.peer_threads, arguments.output)


def make_features(images: int, width: int, classes: int) -> dict[str, np.ndarray]:
    """Training and validation vectors about 10 long, as CLIP's, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images + VALIDATION)
    spectrum = (1 + np.arange(width)) ** -0.5
    basis, _ = np.linalg.qr(rng.normal(size=(width, width)))
    noise = 2 * rng.normal(size=(len(labels), width))
    rows = (0.4 * rng.normal(size=(classes, width))[labels] + noise) * spectrum @ basis + 0.05
    rows = (10 * rows / np.linalg.norm(rows, axis=1).mean()).astype(np.float32)
    return {
        "rows": rows[:images],
        "labels": labels[:images],
        "validation_rows": rows[images:],
        "validation_labels": labels[images:],
    }


def search(file: Path) -> dict[str, object]:
    """This project's side: seconds, strengths and accuracies."""
    import time

    from clip_jax.evaluation.probes.features import Features
    from clip_jax.evaluation.probes.probe import search_strength

    arrays = np.load(file)
    train = Features(arrays["rows"], arrays["labels"])
    validation = Features(arrays["validation_rows"], arrays["validation_labels"])
    start = time.perf_counter()
    found = search_strength(train, validation)
    seconds = time.perf_counter() - start
    accuracies = dict(zip(map(str, found.strengths), found.accuracies, strict=True))
    return {"seconds": seconds, "best": found.best, "accuracies": accuracies}


def take_turn(command: list[str], threads: int) -> dict[str, object]:
    """Run one side; it prints a JSON object on its last line."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(
    results: list[dict], sizes: tuple[int, int, int], threads: int, output: Path | None
) -> None:
    """Print and write the medians, and check that the accuracies agree."""
    single, ours, double = (results[turn]["accuracies"] for turn in (0, 1, 4))
    common = [strength for strength in ours if strength in double]
    worst = max(abs(double[strength] - ours[strength]) for strength in common)
    print("C          accuracy   scikit-learn in float64, float32")
    for strength in common:
        theirs = f"{double[strength]:.4f}, {single.get(strength, np.nan):.4f}"
        print(f"{float(strength):<9.3g}  {ours[strength]:.4f}     {theirs}")
    seconds = [result["seconds"] for result in results]
    peer, mine = statistics.median([seconds[0], seconds[3]]), statistics.median(seconds[1:3])
    print(f"worst difference {worst:8.4f} from float64, of {len(common)} common strengths")
    print(f"scikit-learn     {peer:8.1f} s   ({seconds[0]:.1f}, {seconds[3]:.1f})")
    print(f"clip_jax         {mine:8.1f} s   ({seconds[1]:.1f}, {seconds[2]:.1f})")
    print(f"ratio            {peer / mine:8.2f}")
    if output is not None:
        values = {
            **dict(zip(("images", "width", "classes"), sizes, strict=True)),
            "scikit_learn_seconds": peer,
            "clip_jax_seconds": mine,
            "ratio": peer / mine,
            "peer_threads": threads,
            "worst_accuracy_difference": worst,
        }
        output.write_text(json.dumps(values, indent=1) + "\n")
    if worst > AGREE:
        sys.exit(f"accuracies differ by more than {AGREE}")


if __name__ == "__main__":
    main()
