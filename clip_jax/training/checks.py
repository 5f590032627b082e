"""What a run refuses before it starts: batches, data or a workdir that do not fit its recipe."""

import hashlib
import json
from typing import Any

from jax.sharding import Mesh

from clip_jax.data.samples import PairSource
from clip_jax.data.sources.spec import open_captioned, open_labelled
from clip_jax.errors import InputError
from clip_jax.model import check_embeds_text
from clip_jax.parallel.mesh import batch_shards, process_share
from clip_jax.parallel.processes import gather, same_errors
from clip_jax.training.captions import spread
from clip_jax.training.config import OPERATIONAL, TrainConfig, flatten_config


def check_batch(config: TrainConfig, mesh: Mesh) -> None:
    """Refuse a batch that the mesh does not divide, and a share that micro-batches do not."""
    process_share(mesh)
    shards = batch_shards(mesh)
    if config.batch_size % shards:
        below = config.batch_size // shards * shards
        raise InputError(
            f"batch_size {config.batch_size} is not divisible by the {shards} parts into which "
            f"the mesh splits it; set --batch-size {below or shards} or --mesh.tensor"
        )
    share = config.batch_size // shards
    if config.micro_batch is not None and share % config.micro_batch:
        fitting = max(n for n in range(1, min(config.micro_batch, share) + 1) if share % n == 0)
        raise InputError(
            f"micro_batch {config.micro_batch} does not divide a device's share of the batch, "
            f"{share}; set --micro-batch {fitting}"
        )


def check_evaluation(config: TrainConfig) -> None:
    """Open the evaluation sets, so that a wrong one is refused before training, not after.

    Refuses sets that the model cannot be evaluated on, likewise.
    """
    if config.evaluation.retrieval:
        check_embeds_text(config.model)
    size, frames = config.model.image.image_size, config.model.frames
    for spec in config.evaluation.zeroshot:
        open_labelled(spec, size, frames=frames)
    for spec in config.evaluation.retrieval:
        open_captioned(spec, size, frames)


def check_processes_agree(config: TrainConfig, source: PairSource) -> None:
    """Refuse processes that were started with different recipes or see different data."""
    here = {"config": flatten_config(config), "data": fingerprint(source)}
    first, *_ = gather(json.dumps(here))
    with same_errors():
        differences = find_differences(json.loads(first), here, ("processes.index",))
        if differences:
            raise InputError(f"not the run of process 0 ({differences}); start all alike")


def check_same_recipe(saved: dict[str, Any], config: TrainConfig, source: PairSource) -> None:
    """Refuse to continue a run with another recipe or other data."""
    here = {"config": flatten_config(config), "data": fingerprint(source)}
    differences = find_differences(saved, here, OPERATIONAL)
    if differences:
        raise InputError(
            f"{config.workdir}: holds a run of another recipe ({differences})"
            "; choose another --workdir, or continue it as it was"
        )


def find_differences(there: dict[str, Any], here: dict[str, Any], but_for: tuple[str, ...]) -> str:
    """How two runs' "config" and "data" differ, but for fields with these prefixes; "" if not."""
    before, now = there["config"], here["config"]
    differences = [
        f"{name} {before.get(name)} there, {now.get(name)} here"
        for name in sorted(before.keys() | now.keys())
        if not name.startswith(but_for) and before.get(name) != now.get(name)
    ]
    if there["data"] != here["data"]:
        differences.append(f"data of {there['data']} there, {here['data']} here")
    more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
    return "; ".join(differences[:3]) + more


def fingerprint(source: PairSource) -> str:
    """Tells one training set from another: their number of pairs and a hash of some captions."""
    captions = "\n".join("\n".join(source.captions(i)) for i in spread(len(source), 64))
    digest = hashlib.sha256(captions.encode("utf-8", errors="replace")).hexdigest()
    return f"{len(source)} pairs, {digest[:12]}"
