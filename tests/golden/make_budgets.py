"""Writes budgets.json: what the paper's train steps cost on TPU slices, by the TPU compiler.

    PYTHONPATH=. python tests/golden/make_budgets.py

Run it after a change that is meant to move these figures, and say why in the commit: the test
that reads the file (tests/training/test_budgets.py) allows a little more than what it holds.
"""

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BUDGETS = Path(__file__).with_name("budgets.json")


def budget(name: str, target: str, fsdp: int, batch_size: int) -> dict[str, Any]:
    """The recipe's step, compiled for a slice.

    sent: bytes that each device sends, by the kind of collective. temporaries: bytes of a device
    at the fullest moment, beside what stays from step to step. cycles: of its kernels, as the
    compiler expects. flops: of a device, as XLA counts them; the body of a loop counts once, so
    that they show work that is added to a layer, not the number of layers.
    """
    from clip_jax.commandline import load_recipe
    from clip_jax.parallel.hlo import collectives, kernel_cycles
    from clip_jax.parallel.mesh import MeshConfig, make_mesh
    from clip_jax.parallel.topology import parse_slice, tpu_devices
    from clip_jax.training.assemble import build_model, build_step
    from clip_jax.training.config import TrainConfig
    from clip_jax.training.footprint import abstract_batch, held_bytes, needed_bytes
    from clip_jax.training.optimizer import make_optimizer
    from clip_jax.training.state import abstract_state

    recipe = load_recipe(str(ROOT / "configs" / name), TrainConfig)
    config = dataclasses.replace(recipe, batch_size=batch_size, mesh=MeshConfig(fsdp=fsdp))
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
    kept = sum(held.values()) - held["batches ahead"]
    return {
        "sent": dict(sorted(sent.items())),
        "temporaries": needed_bytes(compiled.memory_analysis(), "tpu") - kept,
        "flops": int(compiled.cost_analysis()["flops"]),
        "cycles": kernel_cycles(text),
    }


CASES = {
    "vit_b32.py on v5e-32, fsdp 8": ("vit_b32.py", "tpu:v5e-32", 8, 4096),
    "vit_b32.py on v5e-256": ("vit_b32.py", "tpu:v5e-256", 1, 32_768),
}

if __name__ == "__main__":
    from clip_jax.parallel.topology import ENVIRONMENT

    os.environ |= ENVIRONMENT
    found = {name: budget(*case) for name, case in CASES.items()}
    BUDGETS.write_text(json.dumps(found, indent=1) + "\n")
