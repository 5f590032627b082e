"""A run from its recipe to its results: set up or continue, loop, save, evaluate."""

import contextlib
import dataclasses
import errno
import functools
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import optax
from jax.sharding import Mesh

from clip_jax.data.pipeline import Batches
from clip_jax.data.samples import PairSource
from clip_jax.data.sources.spec import (
    describe_problems,
    open_pairs,
)
from clip_jax.data.text.tokenizers import Tokenizer
from clip_jax.data.text.vocabulary import open_tokenizer
from clip_jax.data.workers import Batch
from clip_jax.errors import InputError
from clip_jax.evaluation.run import evaluate_all, evaluate_each
from clip_jax.loading import load
from clip_jax.lock import alone_in
from clip_jax.model import Model, resize_of
from clip_jax.models.clip import CLIP
from clip_jax.parallel.mesh import BATCH_AXES, batch_shards, make_mesh, process_share
from clip_jax.parallel.processes import gather, same_errors
from clip_jax.parallel.sharding import whole_over
from clip_jax.training.assemble import build_model, build_step
from clip_jax.training.captions import caption_lengths, make_tokenizer
from clip_jax.training.checkpoints import Checkpoints
from clip_jax.training.checks import (
    check_batch,
    check_evaluation,
    check_processes_agree,
    check_same_recipe,
    fingerprint,
)
from clip_jax.training.config import TrainConfig, check_train_config, flatten_config
from clip_jax.training.curve import draw_curve
from clip_jax.training.feed import BadCount, as_reasons, on_devices
from clip_jax.training.lengths import LengthGroups, plan_groups
from clip_jax.training.metrics import StepLogger, write_results
from clip_jax.training.optimizer import check_rates, make_optimizer, trained_towers
from clip_jax.training.pace import Pace
from clip_jax.training.profile import profiled
from clip_jax.training.record import record_start
from clip_jax.training.state import (
    TrainState,
    abstract_state,
    init_state,
    state_from,
    with_time,
)
from clip_jax.training.stopping import stop_on_signal
from clip_jax.training.utilisation import pairs_at_peak
from clip_jax.weights.workdir import TOKENIZER, config_to_json


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


@contextlib.contextmanager
def explain_full_disk(workdir: Path) -> Iterator[None]:
    """A disk without room says where; of a failed write the system does not."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(
            f"{error.filename or workdir}: {error.strerror}; make room and run the same command "
            "again"
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
            config.model.frames,
        )
        check_evaluation(config)
    check_processes_agree(config, source)
    if source.problems and jax.process_index() == 0:
        print(describe_problems(source.problems))
    workdir = make_workdir(config.workdir)
    with (
        explain_full_disk(workdir),
        alone_in(workdir, "stop it first, or choose another --workdir"),
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
        """The state before the first step, from given variables or random ones.

        A model of time that they lack starts fresh.
        """
        if variables is None:
            return init_state(self.module, self.optimizer, self.mesh, self.config.seed)
        variables = with_time(variables, self.module, self.config.seed)
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
            frames=self.config.model.frames,
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
            lengths, self.tokenizer.context_length, share, self.config.most_groups, parts
        )

    def pairs_at_peak(self) -> float | None:
        """Pairs a second at which the devices would be fully used; None if that is not known."""
        trained = trained_towers(self.abstract().params, self.config.optimizer.rates)
        return pairs_at_peak(self.module.config, trained, self.mesh)

    def evaluate_on_the_way(self, step: int, state: TrainState, logger: StepLogger) -> None:
        """Evaluate the state after update number `step`, if the recipe says so.

        It comes after the checkpoint: what is killed here is done again where the run goes on.
        """
        wanted = self.config.evaluation
        if wanted.every is None or step == 0 or step % wanted.every:
            return
        with logger.evaluating(step) as report:
            sets = (wanted.zeroshot, wanted.retrieval)
            done = evaluate_each(self.model(state), *sets, str(self.workdir))
            report([result for result, _ in done])

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
        step_function = build_step(config, self.module, self.optimizer, self.mesh)
        bad = BadCount(self.mesh, bad_before)
        pace = Pace(start, config.batch_size, self.pairs_at_peak())
        with (
            contextlib.closing(on_devices(self.batches(start), self.mesh, self.groups)) as batches,
            stop_on_signal() as stopping,
            StepLogger(self.workdir, start, config, bad, pace) as logger,
            profiled(step_function, config.profile, self.module.config, self.workdir) as train_step,
        ):
            for step in range(start + 1, config.steps + 1):
                self.evaluate_on_the_way(step - 1, state, logger)
                with pace.waiting():
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
    architecture = given.config
    if "video" not in given.params:  # what a model of time adds starts fresh
        architecture = dataclasses.replace(architecture, video=config.model.video)
    here, there = flatten_config(config.model), flatten_config(architecture)
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
