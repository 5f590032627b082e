"""Weights, and what lies beside them."""

import json
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from fuzz.target import Parser, reads_file, target

from clip_jax.errors import InputError

Layout = Literal["open_clip", "huggingface"]
GOLDEN = Path(__file__).parents[2] / "golden"


def read_tensors(path: Path) -> None:
    """Open a file of weights, and read its tensors."""
    from clip_jax.weights.tensors import open_tensors

    for tensor in open_tensors(path).values():
        assert tensor.read().shape == tensor.shape


@target(share=2)
def torch_file(folder: Path) -> Parser:
    """Archives that torch wrote; one of them has a TorchScript module, one is a bare pickle."""
    seeds = [path.read_bytes() for path in sorted((GOLDEN / "torch_files").glob("*.pt"))]
    return seeds, reads_file(folder / "weights.pt", read_tensors)


@target(share=2)
def torch_pickle(folder: Path) -> Parser:
    """The data.pkl of an archive, in an archive that is whole."""
    seeds = []
    for path in sorted((GOLDEN / "torch_files").glob("[!l]*.pt")):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            seeds.append(archive.read(name))

    def run(content: bytes) -> None:
        with zipfile.ZipFile(folder / "weights.pt", "w") as archive:
            archive.writestr("archive/data.pkl", content)
            for key in range(20):
                archive.writestr(f"archive/data/{key}", bytes(200))
        read_tensors(folder / "weights.pt")

    return [*seeds, pickle.dumps({"a": [1, (2.5, "b")]}, protocol=2)], run


@target(share=2)
def safetensors(folder: Path) -> Parser:
    from safetensors.numpy import save

    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(0, np.float16)}
    seeds = [save(arrays), save({f"module.{name}": a for name, a in arrays.items()}, {"k": "v"})]
    return seeds, reads_file(folder / "weights", read_tensors)


@target()
def weights_index(folder: Path) -> Parser:
    """The index of weights in shards, which lie beside it."""
    from safetensors.numpy import save_file

    for shard in "ab":
        save_file({shard: np.ones(3, np.float32)}, folder / f"{shard}.safetensors")
    index = {"metadata": {"total_size": 24}, "weight_map": {s: f"{s}.safetensors" for s in "ab"}}
    return [json.dumps(index).encode()], reads_file(folder / "model.json", read_tensors)


def write_model(folder: Path, layout: Layout) -> None:
    """The weights of ViT-tiny, all zero, in the names of a format."""
    from safetensors.numpy import save_file

    from clip_jax.models.clip import CLIP, init_variables
    from clip_jax.models.presets import PRESETS
    from clip_jax.weights.huggingface import huggingface_layout
    from clip_jax.weights.layout import write_tensors
    from clip_jax.weights.openai import openai_layout

    config = PRESETS["ViT-tiny"]
    shapes = jax.eval_shape(partial(init_variables, CLIP(config)), jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    if layout == "open_clip":
        tensors, name = write_tensors(openai_layout(config), zeros), "open_clip_model.safetensors"
    else:
        tensors, name = write_tensors(huggingface_layout(config), zeros), "model.safetensors"
    save_file(tensors, folder / name)


def open_clip_configs() -> list[bytes]:
    from clip_jax.models.presets import PRESETS
    from clip_jax.weights.open_clip import config_to_open_clip

    names = ("ViT-tiny", "RN-tiny", "ViT-B/32")
    return [json.dumps(config_to_open_clip(PRESETS[name], False)).encode() for name in names]


def huggingface_configs() -> tuple[bytes, bytes]:
    """config.json and preprocessor_config.json."""
    from clip_jax.models.presets import PRESETS
    from clip_jax.weights.huggingface import config_to_huggingface

    model, preprocessor = config_to_huggingface(PRESETS["ViT-tiny"])
    return json.dumps(model).encode(), json.dumps(preprocessor).encode()


def opens_model(path: Path) -> Callable[[bytes], object]:
    """A function that opens the model in the directory of a file, but does not read weights."""
    from clip_jax.weights.pretrained import open_pretrained

    return reads_file(path, lambda path: open_pretrained(path.parent, None))


@target()
def open_clip_config(folder: Path) -> Parser:
    write_model(folder, "open_clip")
    return open_clip_configs(), opens_model(folder / "open_clip_config.json")


@target()
def huggingface_config(folder: Path) -> Parser:
    write_model(folder, "huggingface")
    return [huggingface_configs()[0]], opens_model(folder / "config.json")


@target()
def huggingface_preprocessor(folder: Path) -> Parser:
    write_model(folder, "huggingface")
    model, preprocessor = huggingface_configs()
    (folder / "config.json").write_bytes(model)
    return [preprocessor], opens_model(folder / "preprocessor_config.json")


@target(share=0.01)
def read_with_config(folder: Path) -> Parser:
    """Weights that are compared with what a config makes of them."""
    from clip_jax.weights.pretrained import open_pretrained

    write_model(folder, "open_clip")
    path = folder / "open_clip_config.json"
    return open_clip_configs(), reads_file(
        path, lambda path: open_pretrained(path.parent, None).read()
    )


@target()
def workdir_config(folder: Path) -> Parser:
    """What a checkpoint of train.py says of its model."""
    from clip_jax.models.presets import PRESETS
    from clip_jax.weights.workdir import config_from_json, config_to_json

    seeds = [json.dumps(config_to_json(PRESETS[n])).encode() for n in ("RN-tiny", "ViT-B/32")]
    return seeds, lambda content: config_from_json(parsed(content), "workdir")


def parsed(content: bytes) -> object:
    """The JSON in a file; what is none is refused here, as by Orbax."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError("not JSON") from error
