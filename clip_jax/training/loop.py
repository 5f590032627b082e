"""A run from its recipe to its results: set up or continue, loop, save, evaluate."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import shutil
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from clip_jax.data.augment import Augment
from clip_jax.data.pipeline import Batches
from clip_jax.data.samples import PairSource
from clip_jax.data.sources.spec import (
    describe_problems,
    open_captioned,
    open_labelled,
    open_pairs,
)
from clip_jax.data.text.hub import local_vocabulary
from clip_jax.data.text.tokenizers import Tokenizer, train_sentencepiece
from clip_jax.data.text.vocabulary import open_tokenizer
from clip_jax.data.workers import Batch
from clip_jax.errors import InputError
from clip_jax.evaluation.run import evaluate_all
from clip_jax.loading import load
from clip_jax.model import Model, resize_of
from clip_jax.models.clip import CLIP
from clip_jax.parallel.mesh import BATCH_AXES, batch_shards, make_mesh, process_share
from clip_jax.parallel.processes import gather, same_errors
from clip_jax.parallel.sharding import whole_over
from clip_jax.training.assemble import build_model, build_step
from clip_jax.training.checkpoints import Checkpoints
from clip_jax.training.config import OPERATIONAL, TrainConfig, check_train_config, flatten_config
from clip_jax.training.curve import draw_curve
from clip_jax.training.feed import BadCount, as_reasons, on_devices
from clip_jax.training.lengths import LengthGroups, plan_groups
from clip_jax.training.lock import alone_in
from clip_jax.training.metrics import StepLogger, write_results
from clip_jax.training.optimizer import check_rates, make_optimizer
from clip_jax.training.record import record_start
from clip_jax.training.state import TrainState, abstract_state, init_state, state_from
from clip_jax.training.stopping import stop_on_signal
from clip_jax.weights.workdir import TOKENIZER, config_to_json

VOCABULARY_CAPTIONS = 100_000
"""Captions read at most to train a vocabulary."""

LENGTH_CAPTIONS = 1000
"""Captions read at most to plan the groups by length."""


@contextlib.contextmanager
def explain_memory() -> Iterator[None]:
    """A device that runs out of memory says what to do."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            "the devices' memory is too small; --micro-batch embeds a batch in parts, and the same "
            "command with --dry-run here (of several hosts: tpu:SLICE) says which parts fit"
        ) from error


@explain_memory()
def train(config: TrainConfig) -> Model:
    """Run a recipe to its end, continuing what its workdir holds; the trained model.

    Raises InputError for anything in the recipe, the data or the workdir that cannot work, before
    memory is allocated for the model.
    """
    with same_errors():
        check_train_config(config)
        mesh = make_mesh(config.mesh)
        check_batch(config, mesh)
        source = open_pairs(
            config.data.train,
            config.model.image.image_size,
            config.data.fields,
            config.data.weights,
        )
        check_evaluation(config)
    check_processes_agree(config, source)
    if source.problems and jax.process_index() == 0:
        print(describe_problems(source.problems))
    workdir = make_workdir(config.workdir)
    with (
        alone_in(workdir),
        contextlib.closing(Checkpoints(workdir, config.checkpoint)) as checkpoints,
    ):
        bad: dict[str, int] = {}
        if checkpoints.steps():
            run, start, state, bad = resume(config, mesh, workdir, source, checkpoints)
        else:
            start, (run, state) = 0, begin(config, mesh, workdir, source)
        record_start(workdir, config, mesh, source, start)
        if start < config.steps:
            state = run.loop(start, state, checkpoints, bad)
    model = run.model(state)
    metrics, evaluation = workdir / "metrics.jsonl", config.evaluation
    first = jax.process_index() == 0
    if first:
        draw_curve(metrics, workdir / "loss.png")
    results = evaluate_all(model, evaluation.zeroshot, evaluation.retrieval, workdir)
    if first:
        write_results(metrics, config.steps, results)
    return model


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from a run's first step to its last."""

    config: TrainConfig
    mesh: Mesh
    workdir: Path
    source: PairSource
    tokenizer: Tokenizer

    @functools.cached_property
    def module(self) -> CLIP:
        """The model, with the vocabulary in use and kernels for the mesh's devices."""
        return build_model(self.config, self.tokenizer.vocab_size, self.mesh)

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        return make_optimizer(self.config.optimizer, self.config.steps)

    def initial_state(self, variables: Any = None) -> TrainState:
        """The state before the first step, from given variables or random ones."""
        if variables is None:
            return init_state(self.module, self.optimizer, self.mesh, self.config.seed)
        return state_from(variables, self.module, self.optimizer, self.mesh)

    def abstract(self) -> TrainState:
        return abstract_state(self.module, self.optimizer, self.mesh)

    def model(self, state: TrainState) -> Model:
        """The model of a state, whose parameters are whole wherever rows of a batch are."""
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        shardings = jax.tree.map(lambda leaf: leaf.sharding, variables)
        whole = jax.device_put(variables, whole_over(BATCH_AXES, shardings))
        return Model(
            self.module.config, **whole, tokenizer=self.tokenizer, compute=self.module.compute
        )

    def batches(self, start: int) -> Iterator[Batch]:
        """This process's part of batch number `start`, `start` + 1, ..."""
        process, processes = process_share(self.mesh)
        return Batches(
            source=self.source,
            tokenizer=self.tokenizer,
            resize=resize_of(self.config.model),
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            augment=self.config.data.augment,
            workers=self.config.data.workers,
            threads=self.config.data.threads,
            process=process,
            processes=processes,
        ).start_at(start)

    @functools.cached_property
    def groups(self) -> LengthGroups:
        """How captions are cut by length: the same on all processes, and when the run goes on."""
        share = self.config.batch_size // batch_shards(self.mesh)
        lengths = caption_lengths(self.source, self.config.data.augment, self.tokenizer)
        parts = share // (self.config.micro_batch or share)
        return plan_groups(
            lengths, self.tokenizer.context_length, share, self.config.text_groups, parts
        )

    def describe(self, bad: BadCount) -> dict[str, Any]:
        """What a checkpoint says about the run it belongs to."""
        return {
            "config": flatten_config(self.config),
            "model": config_to_json(self.module.config),
            "data": fingerprint(self.source),
            "bad_samples": as_reasons(bad.total),
        }

    def loop(
        self, start: int, state: TrainState, checkpoints: Checkpoints, bad_before: dict[str, int]
    ) -> TrainState:
        """Updates `start` + 1 to the last, saved at intervals and at the end.

        While updates are skipped the state is not saved: it would take the place of good ones. The
        last one is, unless so many were skipped that the run has failed.
        """
        config = self.config
        train_step = build_step(config, self.module, self.optimizer, self.mesh)
        bad = BadCount(self.mesh, bad_before)
        with (
            contextlib.closing(on_devices(self.batches(start), self.mesh, self.groups)) as batches,
            stop_on_signal() as stopping,
            StepLogger(self.workdir, start, config, bad) as logger,
        ):
            for step in range(start + 1, config.steps + 1):
                batch, bad_here, examples = next(batches)
                state, metrics = train_step(state, batch)
                bad.add(bad_here, examples)
                logger.push(step, metrics)
                stop = stopping(step)
                last = step == config.steps
                due = last or step % config.checkpoint.every == 0
                skipped_before = config.max_skipped if last else 1
                if stop or (due and metrics["skipped_in_a_row"] < skipped_before):
                    checkpoints.save(step, state, self.describe(bad))
                if stop:
                    finish_early(step, checkpoints)
            checkpoints.finish()
        return state


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


def make_workdir(path: str) -> Path:
    """Create the workdir, and check that all processes see the same one."""
    workdir, (mark, *_) = Path(path), gather(f".{uuid.uuid4().hex}")
    first = jax.process_index() == 0
    with same_errors():
        if first:
            try:
                workdir.mkdir(parents=True, exist_ok=True)
                (workdir / mark).touch()
            except OSError as error:
                raise InputError(f"{path}: cannot be the workdir ({error.strerror})") from None
    with same_errors():
        if not (workdir / mark).exists():
            raise InputError(f"{path}: not that of process 0; give a workdir that all hosts share")
    if first:
        (workdir / mark).unlink()
    return workdir


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


def finish_early(step: int, checkpoints: Checkpoints) -> NoReturn:
    """Wait until the checkpoint is written, say how long that took, and end the run."""
    seconds = checkpoints.finish()
    if jax.process_index() == 0:
        print(f"stopped after step {step}, saved in {seconds:.1f} s", file=sys.stderr)
    raise KeyboardInterrupt


def resume(
    config: TrainConfig, mesh: Mesh, workdir: Path, source: PairSource, checkpoints: Checkpoints
) -> tuple[Run, int, TrainState, dict[str, int]]:
    """The run that the workdir holds, its step and state, and the bad samples it has met."""
    with same_errors():
        run = open_run(config, mesh, workdir, source)
    check = functools.partial(check_same_recipe, config=config, source=source)
    step, state, saved = checkpoints.restore(run.abstract(), check)
    return run, step, state, saved["bad_samples"]


def open_run(config: TrainConfig, mesh: Mesh, workdir: Path, source: PairSource) -> Run:
    """The run with the vocabulary that lies in the workdir."""
    tokenizer = open_tokenizer(workdir / TOKENIZER, config.model.text.context_length)
    return Run(config, mesh, workdir, source, tokenizer)


def begin(
    config: TrainConfig, mesh: Mesh, workdir: Path, source: PairSource
) -> tuple[Run, TrainState]:
    """A new run, its vocabulary kept in the workdir, and the state it starts from."""
    if (workdir / "metrics.jsonl").exists() and jax.process_index() == 0:
        print(f"{workdir}: has no checkpoint; the run starts from the beginning", file=sys.stderr)
    with same_errors():
        given = load_initial(config)
        if jax.process_index() == 0:
            tokenizer = make_tokenizer(config, source, given)
            shutil.rmtree(workdir / TOKENIZER, ignore_errors=True)  # of a run that never saved
            tokenizer.save(workdir / TOKENIZER)
    with same_errors():
        run = open_run(config, mesh, workdir, source)
        check_rates(run.abstract().params, config.optimizer.rates)
    return run, run.initial_state(given and given.variables)


def load_initial(config: TrainConfig) -> Model | None:
    """The model that a run starts from, if the recipe names one; of the recipe's architecture."""
    if config.init_from is None:
        return None
    given = load(
        config.init_from,
        activation=config.model.activation,
        image_size=config.model.image.image_size,
        tokenizer=config.data.tokenizer,
    )
    here, there = flatten_config(config.model), flatten_config(given.config)
    free = (
        "text.vocab_size",
        "image.patch_dropout",
        "image.frozen_statistics",
        "initial_logit_scale",
    )
    differences = [
        f"{name} {there.get(name)} there, {here.get(name)} here"
        for name in sorted(here.keys() | there.keys())
        if name not in free and here.get(name) != there.get(name)
    ]
    if differences:
        raise InputError(
            f"{config.init_from}: not the recipe's architecture ({'; '.join(differences)}); "
            "set the recipe's model to that of the weights"
        )
    return given


def make_tokenizer(
    config: TrainConfig, source: PairSource, given: Model | None = None
) -> Tokenizer:
    """The vocabulary of a new run: of the model it starts from, named, or trained on captions."""
    if given is not None:
        if given.tokenizer is None:
            raise InputError(
                f"{config.init_from}: comes without its vocabulary; name it by --data.tokenizer"
            )
        return given.tokenizer
    length = config.model.text.context_length
    if config.data.tokenizer is not None:
        return open_tokenizer(local_vocabulary(config.data.tokenizer), length)
    chosen = spread(len(source), VOCABULARY_CAPTIONS)
    captions = (caption for i in chosen for caption in source.captions(i))
    return train_sentencepiece(captions, config.data.vocab_size, length)


def caption_lengths(source: PairSource, augment: Augment, tokenizer: Tokenizer) -> np.ndarray:
    """int [n]: lengths in tokens, start and end included, of captions spread over the data."""
    with ThreadPoolExecutor() as threads:  # one after the other, remote files would take long
        captions = list(threads.map(source.captions, spread(len(source), LENGTH_CAPTIONS)))
    rng = np.random.default_rng(0)
    texts = [augment.caption(given, rng) for given in captions if given]
    return tokenizer(texts, truncate=True).argmax(axis=1) + 1


def fingerprint(source: PairSource) -> str:
    """Tells one training set from another: their number of pairs and a hash of some captions."""
    captions = "\n".join("\n".join(source.captions(i)) for i in spread(len(source), 64))
    digest = hashlib.sha256(captions.encode("utf-8", errors="replace")).hexdigest()
    return f"{len(source)} pairs, {digest[:12]}"


def spread(length: int, count: int) -> list[int]:
    """At most `count` indices, evenly spread over a sequence of this length."""
    count = min(length, count)
    return [i * length // count for i in range(count)]


def check_evaluation(config: TrainConfig) -> None:
    """Open the evaluation sets, so that a wrong one is refused before training, not after."""
    size = config.model.image.image_size
    for spec in config.evaluation.zeroshot:
        open_labelled(spec, size)
    for spec in config.evaluation.retrieval:
        open_captioned(spec, size)
