"""Writes budgets.json: what train steps cost on TPU slices, by the TPU compiler.

    PYTHONPATH=. python tests/golden/make_budgets.py

Run it after a change that is meant to move these figures, and say why in the commit: the test
that reads the file (tests/training/test_budgets.py) allows a little more than what it holds. It
compiles for some minutes: ViT-L/14's recipe as it is, and a small ViT split over fsdp.
"""

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from clip_jax.commandline import load_recipe
from clip_jax.parallel.hlo import collectives, kernel_cycles
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.parallel.topology import ENVIRONMENT, parse_slice, tpu_devices
from clip_jax.training.assemble import build_model, build_step
from clip_jax.training.config import TrainConfig
from clip_jax.training.footprint import abstract_batch, held_bytes, needed_bytes
from clip_jax.training.optimizer import make_optimizer
from clip_jax.training.state import abstract_state

ROOT = Path(__file__).parents[2]
BUDGETS = Path(__file__).with_name("budgets.json")


def recipe(name: str) -> TrainConfig:
    """One of configs/."""
    return load_recipe(str(ROOT / "configs" / name), TrainConfig)


def small() -> TrainConfig:
    """Three layers of width 256, 128 pairs a chip: it compiles in less than a minute."""
    config = recipe("vit_b32.py")
    sizes = {"width": 256, "layers": 3, "heads": 4}
    model = dataclasses.replace(
        config.model,
        embed_dim=256,
        image=dataclasses.replace(config.model.image, image_size=64, **sizes),
        text=dataclasses.replace(config.model.text, vocab_size=4096, **sizes),
    )
    return dataclasses.replace(config, model=model, batch_size=4096, mesh=MeshConfig(fsdp=8))


def budget(config: TrainConfig, target: str) -> dict[str, Any]:
    """The recipe's step, compiled for a slice.

    sent: bytes that each device sends, by the kind of collective. memory: bytes of a device at the
    fullest moment; temporaries: those of them that do not stay from step to step. cycles: of its
    kernels, as the compiler expects. flops: of a device, as XLA counts them; the body of a loop
    counts once, so that they show work that is added to a layer, not the number of layers.
    """
    mesh = make_mesh(config.mesh, tpu_devices(parse_slice(target)))
    model = build_model(config, config.model.text.vocab_size, mesh)
    optimizer = make_optimizer(config.optimizer, config.steps)
    state, batch = abstract_state(model, optimizer, mesh), abstract_batch(config, mesh)
    step: Any = build_step(config, model, optimizer, mesh)
    compiled = step.lower(state, batch).compile()
    text = compiled.as_text()
    sent: Counter[str] = Counter()
    for collective in collectives(text):
        sent[collective.kind] += collective.sent
    held = held_bytes(state, batch)
    memory = needed_bytes(compiled.memory_analysis(), "tpu") + held["batches ahead"]
    return {
        "sent": dict(sorted(sent.items())),
        "memory": memory,
        "temporaries": memory - sum(held.values()),
        "flops": int(compiled.cost_analysis()["flops"]),
        "cycles": kernel_cycles(text),
    }


CASES = {
    "ViT-L/14 on v5e-256": (recipe("vit_l14.py"), "tpu:v5e-256"),
    "a small ViT on v5e-32, fsdp 8": (small(), "tpu:v5e-32"),
}

if __name__ == "__main__":
    os.environ |= ENVIRONMENT
    found = {name: budget(config, target) for name, (config, target) in CASES.items()}
    BUDGETS.write_text(json.dumps(found, indent=1) + "\n")
