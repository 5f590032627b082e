"""Protocols on small sets, one after the other: protocols.py FOLDER [--processes.* ...]"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
from random_model import random_model

from clip_jax.commandline import main, parse
from clip_jax.data.prompts import PromptFiles
from clip_jax.evaluation.embed import on_all_devices
from clip_jax.evaluation.pictures.caption import run_caption
from clip_jax.evaluation.pictures.classify import run_classify
from clip_jax.evaluation.pictures.wordings import run_by_class
from clip_jax.evaluation.probes.run import run_few_shot, run_probe
from clip_jax.evaluation.robustness.run import run_robustness
from clip_jax.evaluation.run import run_zeroshot
from clip_jax.models.config import DecoderConfig
from clip_jax.models.generate import Decoding
from clip_jax.models.presets import PRESETS
from clip_jax.parallel.processes import ProcessesConfig, start_processes


@dataclasses.dataclass(frozen=True)
class Options:
    """What protocols.py takes after its first argument."""

    processes: ProcessesConfig = dataclasses.field(default_factory=ProcessesConfig)


def random_captioner():
    """A model of random weights that predicts captions."""
    text = dataclasses.replace(PRESETS["ViT-tiny"].text, read="none")
    return random_model(text=text, decoder=DecoderConfig(1))


def run_protocols(model, captioner, folder, out):
    """Metrics of each protocol on FOLDER/pets; files go to a folder `out`, pictures apart."""
    out.mkdir(exist_ok=True)
    pets, few = str(folder / "pets"), folder / "few"
    results = [
        run_probe(model, "m", pets, cache=False),
        run_few_shot(model, "m", pets, shots=(1, 2), seeds=2, cache=False),
        run_by_class(model, "m", pets, PromptFiles(), out / "pets.json"),
        *run_robustness(lambda name: model, ["m"], pets, [str(few)], cache=False),
        run_zeroshot(captioner, "c", pets)[0],
    ]
    images, sheet = [str(folder / "pictures")], out / "sheet.png"
    run_classify(lambda name: model, "m", images, "cat,dog", "a {c}", 2, out / "labels.json", sheet)
    written = out / "captions.json"
    run_caption(lambda name: captioner, "c", images, Decoding(length=9), 0, written, sheet)
    return [[result.dataset, result.task, result.metrics] for result in results]


def run(arguments):
    folder, *options = arguments
    start_processes(parse(Options, options, "protocols.py").processes)
    out = Path(folder) / "out"
    models = map(on_all_devices, (random_model(), random_captioner()))
    results = run_protocols(*models, Path(folder), out)
    (out / f"results-{jax.process_index()}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    sys.exit(main("protocols.py", run))
