"""Weights in and out: do OpenAI's nine models give the same features here as in their reference?

    python benchmarks/parity.py --peer-python PYTHON [--models RN50 ViT-B/32 ...]

For each model, open_clip makes random weights in which every parameter matters. They are loaded
here from open_clip's files and from a TorchScript archive in half precision like OpenAI's own,
written in both layouts, loaded by open_clip and transformers, and loaded back. An error is the norm
of the difference of the features over the norm of their deviation from their mean over the inputs.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clip_jax import Model, available_models

HERE = Path(__file__).parent
PEER = HERE / "parity_peer.py"
Arrays = Mapping[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="interpreter that has open_clip")
    parser.add_argument("--models", nargs="*", default=available_models(), help="default: all nine")
    parser.add_argument("--output", type=Path, help="write the table here, as JSON")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(compare(arguments.child[0], Path(arguments.child[1]))))
        return
    rows = []
    for name in arguments.models:
        rows.append({"model": name, **measure(name, arguments.peer_python)})
        print(json.dumps(rows[-1]), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=2) + "\n")


def measure(name: str, peer: str) -> dict[str, float]:
    """All figures of one model."""
    with tempfile.TemporaryDirectory() as folder:
        run = [peer, str(PEER), "make", name.replace("/", "-").replace("@336px", "-336"), folder]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        ours = [sys.executable, __file__, "--peer-python", peer, "--child"]
        first = json.loads(subprocess.check_output([*ours, "load", folder]).splitlines()[-1])
        subprocess.run([peer, str(PEER), "check", folder], check=True, stdout=subprocess.DEVNULL)
        second = json.loads(subprocess.check_output([*ours, "reload", folder]).splitlines()[-1])
    return first | second


def compare(task: str, folder: Path) -> dict[str, float]:
    """In a process of its own, so that its peak of memory is that of loading."""
    import jax

    import clip_jax
    import clip_jax.loading

    clip_jax.create("ViT-tiny")  # what the libraries take for themselves is not counted
    jax.config.update("jax_default_matmul_precision", "highest")
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "features.npz")
    figures = {}
    if task == "load":
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        model = clip_jax.load(folder / "open_clip")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        weights = sum(leaf.nbytes for leaf in jax.tree.leaves(model.variables))
        figures["load_peak_over_weights"] = peak * 1024 / weights
        figures |= errors("open_clip", model, inputs, expected)
        figures["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        clip_jax.save(model, folder / "exported_oc", layout="open_clip")
        if isinstance(model.config.image, clip_jax.ViTConfig):
            clip_jax.save(model, folder / "exported_hf", layout="huggingface")
        rough = clip_jax.load(folder / "openai.pt", dtype="bfloat16")
        figures |= {"bfloat16_cosine": cosine(rough, inputs, expected)}
        del model, rough
        figures |= errors("openai_pt", clip_jax.load(folder / "openai.pt"), inputs, expected)
        return figures
    for name in ("open_clip", "transformers"):
        if (folder / f"features_{name}.npz").is_file():
            features = np.load(folder / f"features_{name}.npz")
            figures[f"exported_to_{name}"] = max(
                spread_error(features[kind], expected[kind]) for kind in ("image", "text")
            )
    if (folder / "transformers").is_dir():
        again = clip_jax.load(folder / "transformers")
        figures |= errors("transformers", again, inputs, expected)
    return figures


def errors(name: str, model: Model, inputs: Arrays, expected: Arrays) -> dict[str, float]:
    """The larger of the errors of image and text features."""
    features = encode(model, inputs)
    return {f"from_{name}": max(spread_error(features[kind], expected[kind]) for kind in features)}


def cosine(model: Model, inputs: Arrays, expected: Arrays) -> float:
    """The smallest cosine between features here and there."""
    smallest = []
    for kind, features in encode(model, inputs).items():
        there = expected[kind]
        norms = np.linalg.norm(features, axis=-1) * np.linalg.norm(there, axis=-1)
        smallest.append(((features * there).sum(-1) / norms).min())
    return float(min(smallest))


def encode(model: Model, inputs: Arrays) -> dict[str, np.ndarray]:
    return {
        "image": np.asarray(model.encode_image(inputs["images"])),
        "text": np.asarray(model.encode_text(inputs["tokens"])),
    }


def spread_error(actual: np.ndarray, expected: np.ndarray) -> float:
    spread = np.linalg.norm(expected - expected.mean(axis=0))
    return float(np.linalg.norm(actual - expected) / spread)


if __name__ == "__main__":
    main()
