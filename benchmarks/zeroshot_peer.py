"""open_clip's and CLIP_benchmark's side of zeroshot.py and classifier.py, in their environment.

python zeroshot_peer.py make FOLDER MODEL [DATA]     random weights and the vocabulary
python zeroshot_peer.py evaluate FOLDER REQUEST      a data set by CLIP_benchmark
python zeroshot_peer.py classifier FOLDER REQUEST    open_clip's classifier of some prompts

REQUEST is a JSON object. Figures go to the last line of the output, as JSON; a classifier to
FOLDER/peer.npy, the scores of a classification set to FOLDER/peer_scores.npz.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import webdataset
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from open_clip.push_to_hf_hub import save_config_for_hf
from safetensors.torch import save_file

BATCH, WORKERS = 64, 4  # CLIP_benchmark's defaults
IMAGES = ("webp", "png", "jpg", "jpeg")
ToTensor = Callable[..., torch.Tensor]


def make(folder: Path, name: str, data: str | None = None) -> None:
    """Weights in which every parameter matters: norms away from 1, biases away from 0.

    data: a classification set whose first images and whose class names are spread around the origin
    by the last biases. Random towers give all inputs nearly the same features, and ranks by chance.
    """
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(name, force_quick_gelu=True)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key != "logit_scale" and parameter.ndim < 2:
                parameter += 0.1 * torch.randn_like(parameter)
        if data is not None:
            spread(model.eval(), transform, open_clip.get_tokenizer(name), Path(data))
    config = open_clip.get_model_config(name) | {"quick_gelu": True}
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / "open_clip_config.json", model_config=config)
    vocabulary = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    shutil.copy(vocabulary, folder)
    (folder / "name").write_text(name)


def spread(model: torch.nn.Module, transform: ToTensor, tokenizer: ToTensor, data: Path) -> None:
    """Take the mean output of each tower's last norm from that norm's bias."""
    images, _ = next(iter(open_shards(data, 1, "classification", transform)))
    tokens = tokenizer(read_lines(data / "classnames.txt"))
    outputs = {}
    for norm in (model.visual.ln_post, model.ln_final):
        norm.register_forward_hook(lambda norm, _, output: outputs.update({norm: output}))
    model(images, tokens)
    model.visual.ln_post.bias -= outputs[model.visual.ln_post][:, 0].mean(dim=0)
    last = outputs[model.ln_final][torch.arange(len(tokens)), tokens.argmax(dim=-1)]
    model.ln_final.bias -= last.mean(dim=0)


def evaluate(folder: Path, request: dict) -> dict:
    """What `clip_benchmark eval` does, and the seconds from a loaded model to the metrics."""
    model, transform, tokenizer = load(folder)
    start = time.perf_counter()
    root = Path(request["data"])
    kind = read_lines(root / "dataset_type.txt") or ["classification"]
    shards = int((root / "test" / "nshards.txt").read_text())
    dataset = open_shards(root, shards, kind[0], transform)
    workers = min(WORKERS, shards)  # webdataset has no work for more
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers)
    if kind[0] == "retrieval":
        metrics = zeroshot_retrieval.evaluate(model, loader, tokenizer, "cpu", False, [1, 5, 10])
    else:
        dataset.classes = read_lines(root / "classnames.txt")
        own = read_lines(root / "zeroshot_classification_templates.txt")
        templates = request.get("templates") or own
        keep_scores(folder / "peer_scores.npz")
        metrics = zeroshot_classification.evaluate(
            model, loader, tokenizer, dataset.classes, templates, "cpu", amp=False
        )
    return {"metrics": metrics, "seconds": time.perf_counter() - start}


def keep_scores(path: Path) -> None:
    """Have CLIP_benchmark write the logits and labels that it computes metrics from."""
    run_classification = zeroshot_classification.run_classification

    def run_and_keep(*arguments: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logits, target = run_classification(*arguments, **options)
        np.savez(path, scores=logits.numpy(), labels=target.numpy())
        return logits, target

    zeroshot_classification.run_classification = run_and_keep


def open_shards(root: Path, count: int, kind: str, transform: ToTensor) -> webdataset.WebDataset:
    """Batches as CLIP_benchmark's build_wds_dataset gives them; its module wants more packages."""
    target = {"classification": "cls", "multilabel": "npy", "retrieval": "txt"}[kind]
    shards = [str(root / "test" / f"{number}.tar") for number in range(count)]
    decoder = webdataset.autodecode.ImageHandler("pil", extensions=list(IMAGES))
    dataset = webdataset.WebDataset(shards, shardshuffle=False, nodesplitter=lambda urls: urls)
    dataset = dataset.decode(decoder).to_tuple(";".join(IMAGES), target)
    return dataset.map_tuple(transform, str.splitlines if kind == "retrieval" else None).batched(
        BATCH
    )


def read_lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines()] if path.is_file() else []


def classifier(folder: Path, request: dict) -> dict:
    """The classifier by open_clip's own function, in batches of ten classes as it comes."""
    model, _, tokenizer = load(folder)
    templates = [template.replace("{c}", "{}") for template in request["templates"]]
    start = time.perf_counter()
    weights = open_clip.build_zero_shot_classifier(
        model, tokenizer, request["classnames"], templates
    )
    seconds = time.perf_counter() - start
    np.save(folder / "peer.npy", weights.T.numpy())
    return {"seconds": seconds}


def load(folder: Path) -> tuple:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), transform, open_clip.get_tokenizer((folder / "name").read_text())


if __name__ == "__main__":
    task, target = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if task == "make":
        make(target, *sys.argv[3:])
    else:
        run = {"evaluate": evaluate, "classifier": classifier}[task]
        print(json.dumps(run(target, json.loads(sys.argv[3]))))
