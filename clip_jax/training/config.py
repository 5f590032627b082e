"""What a recipe says: one frozen dataclass, which is also the command line of train.py."""

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from clip_jax.data.augment import Augment
from clip_jax.data.sources.fields import FieldNames
from clip_jax.errors import InputError
from clip_jax.models.config import CLIPConfig, Compute, TextConfig, check_config
from clip_jax.parallel.mesh import MeshConfig
from clip_jax.parallel.processes import ProcessesConfig
from clip_jax.training.objectives import OBJECTIVES, ObjectiveName
from clip_jax.training.optimizer import OptimizerConfig


@dataclass(frozen=True)
class DataConfig:
    """Where pairs come from and how they become batches."""

    train: str | tuple[str, ...] = "scenes:"
    """Pairs to train on, from one or more sources: wds:PATH (tars), folder:, csv:, parquet:,
    arrayrecord:PATH, tfds:NAME:SPLIT or scenes: (generated); see docs/data.md."""
    weights: tuple[float, ...] = ()
    """How often each of several sources is drawn from, in any unit; by default all are one set."""
    fields: FieldNames = field(default_factory=FieldNames)
    """What the data calls its pictures and captions."""
    tokenizer: str | None = None
    """SentencePiece .model, OpenAI's merges file, a directory with a vocabulary or hf://org/name;
    by default one is trained on the captions."""
    vocab_size: int = 8192
    """Most token ids of a vocabulary that is trained here."""
    augment: Augment = field(default_factory=Augment)
    """What is changed at random."""
    workers: int | None = None
    """Processes that prepare pairs ahead of the devices, 0 for threads of the trainer's own; by
    default 0 up to 16 cores, above that one for every 8."""
    threads: int | None = None
    """Threads in each of these processes; by default as many as make all cores busy."""
    max_bad: float = 0.1
    """Share of broken images, empty captions and other bad samples above which the run stops; until
    then they are replaced by others and counted."""


@dataclass(frozen=True)
class CheckpointConfig:
    """When the run is saved."""

    every: int = 1000
    """Steps between checkpoints; the last step is always saved."""
    keep: int = 2
    """Newest checkpoints kept."""
    keep_every: int | None = None
    """Steps of which every multiple's checkpoint is kept for good, besides the newest."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated with the model that training leaves, and before."""

    zeroshot: tuple[str, ...] = ()
    """Classification sets: wds:PATH in CLIP_benchmark's layout, or scenes:."""
    retrieval: tuple[str, ...] = ()
    """Retrieval sets, likewise."""
    every: int | None = None
    """Steps between evaluations on the way, best a multiple of checkpoint.every; by default there
    are none but after the last step."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    model: CLIPConfig
    """Architecture. text.vocab_size is replaced by the size of the vocabulary in use."""
    init_from: str | None = None
    """Start from these weights instead of random ones: anything clip_jax.load takes. The vocabulary
    comes with them; position embeddings are interpolated to model.image.image_size."""
    data: DataConfig = field(default_factory=DataConfig)
    """Training pairs."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer and schedule."""
    steps: int = 1000
    """Updates in the whole run; the learning rate reaches 0 at the last."""
    objective: ObjectiveName = "contrastive"
    """What is minimised: CLIP's symmetric cross-entropy; SigLIP's loss, which needs
    model.initial_logit_bias; or, by a model that is made for it, the prediction of a caption's bag
    of words, of its words one by one, or that and CLIP's together (CoCa)."""
    caption_weight: float = 2.0
    """Of objective coca: weight of the caption loss; that of the contrastive loss is 1."""
    batch_size: int = 256
    """Pairs an update, over all devices and processes."""
    micro_batch: int | None = None
    """Pairs that a device embeds at once, if not its whole share of the batch: less memory for the
    same update, at the price of one more forward pass. --dry-run finds the largest that fits, if
    the step does not."""
    text_groups: int = 3
    """At most so many groups of captions by length, each computed at its own length, for the same
    update; 1 computes all at the context length."""
    seed: int = 0
    """Seed of initialisation, order and crops."""
    workdir: str = "runs/default"
    """Where checkpoints, metrics and pictures go; a run that is there is continued."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """How devices share the work."""
    processes: ProcessesConfig = field(default_factory=ProcessesConfig)
    """How the processes of a run on several hosts meet."""
    compute: Compute = field(default_factory=Compute)
    """Precision, kernels and memory."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When the run is saved."""
    max_skipped: int = 10
    """Updates in a row with a loss or gradient that is not finite after which the run stops; each
    of them is skipped."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """What is evaluated after the last step, and on the way."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    profile: bool = False
    """Trace a few steps after the first ones into the workdir, and print where their time goes."""
    dry_run: str | None = None
    """Instead of training, say what a step needs of this machine: a TPU slice such as tpu:v5e-256
    (of v4, v5e, v5p or v6e), or here. The step is compiled for it, no data is read."""

    @property
    def most_groups(self) -> int:
        """Groups of captions by length that make sense: bags of words cost nothing by length, and
        what a decoder reads in micro-batches has to stay with its images."""
        of_pairs = self.model.decoder is not None and self.micro_batch is not None
        return 1 if of_pairs or not isinstance(self.model.text, TextConfig) else self.text_groups


# Fields that a run may be continued with other values of: they do not change what is computed.
OPERATIONAL = (
    "workdir",
    "mesh.",
    "processes.",
    "micro_batch",
    "text_groups",
    "compute.attention",
    "compute.unroll",
    "compute.remat",
    "checkpoint.",
    "max_skipped",
    "evaluation.",
    "log_every",
    "data.train",
    "data.workers",
    "data.threads",
    "data.max_bad",
    "profile",
    "dry_run",
)


def check_train_config(config: TrainConfig) -> None:
    """Raise InputError with one line if fields contradict each other."""
    try:
        check_config(config.model)
    except ValueError as error:
        raise InputError(str(error)) from None
    check_objective(config)
    check_micro_batch(config)
    sets = (*config.evaluation.zeroshot, *config.evaluation.retrieval)
    if config.evaluation.every is not None and not sets:
        raise InputError("evaluation.every has nothing to evaluate; set --evaluation.zeroshot SET")
    every_nth, evaluated = config.checkpoint.keep_every, config.evaluation.every
    positive = {
        "steps": config.steps,
        "micro_batch": 1 if config.micro_batch is None else config.micro_batch,
        "checkpoint.every": config.checkpoint.every,
        "checkpoint.keep": config.checkpoint.keep,
        "checkpoint.keep_every": 1 if every_nth is None else every_nth,
        "evaluation.every": 1 if evaluated is None else evaluated,
        "max_skipped": config.max_skipped,
        "text_groups": config.text_groups,
        "log_every": config.log_every,
        "data.threads": 1 if config.data.threads is None else config.data.threads,
    }
    for name, value in positive.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if not config.data.train:
        raise InputError("data.train names no source; give --data.train wds:PATH")
    optimizer, augment = config.optimizer, config.data.augment
    shares = {
        "optimizer.beta1": optimizer.beta1,
        "optimizer.beta2": optimizer.beta2,
        "data.augment.prompt_share": augment.prompt_share,
        "data.max_bad": config.data.max_bad,
    }
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"{name} must be in [0, 1], got {share}")
    if not augment.templates:
        raise InputError('data.augment.templates is empty; "{c}" is the caption alone')
    if config.data.workers is not None and config.data.workers < 0:
        raise InputError(f"data.workers must not be negative, got {config.data.workers}")
    if optimizer.clip_norm is not None and not 0 < optimizer.clip_norm < math.inf:
        raise InputError(f"optimizer.clip_norm must be positive, got {optimizer.clip_norm}")
    if optimizer.warmup_steps < 0 or not 0 <= config.seed < 2**31:
        raise InputError("optimizer.warmup_steps and seed must not be negative, nor seed over 2^31")
    if config.batch_size < 2:
        raise InputError(f"batch_size must be at least 2 to have a negative: {config.batch_size}")
    if not 0 < config.data.augment.min_crop_area <= 1:
        raise InputError(
            f"data.augment.min_crop_area must be in (0, 1], got {config.data.augment.min_crop_area}"
        )
    for rule, factor in optimizer.rates:
        try:
            re.compile(rule)
        except re.error as error:
            raise InputError(
                f"optimizer.rates: {rule!r} is no regular expression ({error})"
            ) from None
        if not 0 <= factor < math.inf:
            raise InputError(f"optimizer.rates: the factor of {rule!r} is negative: {factor}")
    for template in config.data.augment.templates:
        if "{c}" not in template:
            raise InputError(f"data.augment.templates: {template!r} has no {{c}} for the caption")
    if config.optimizer.warmup_steps >= config.steps:
        raise InputError(
            f"optimizer.warmup_steps {config.optimizer.warmup_steps} leaves nothing of "
            f"{config.steps} steps; set --optimizer.warmup-steps lower"
        )


def check_objective(config: TrainConfig) -> None:
    """Raise InputError if the objective does not go with the model."""
    bias = config.model.initial_logit_bias
    makes = OBJECTIVES[config.objective].makes
    if config.model.makes != makes:
        fitting = [name for name, o in OBJECTIVES.items() if o.makes == config.model.makes]
        raise InputError(
            f"objective {config.objective} trains a model that makes {makes}, this one makes "
            f"{config.model.makes}; set --objective {' or '.join(fitting)}, or start from a recipe "
            "of that objective (docs/objectives.md)"
        )
    if not 0 <= config.caption_weight < math.inf:
        raise InputError(f"caption_weight must not be negative: {config.caption_weight}")
    if config.objective != "coca" and config.caption_weight != TrainConfig.caption_weight:
        raise InputError("caption_weight is for --objective coca; no other loss has two terms")
    if config.objective == "sigmoid" and bias is None:
        raise InputError(
            "objective sigmoid adds a bias to the logits; set --model.initial-logit-bias -10 and "
            "--model.initial-logit-scale 10, as SigLIP does"
        )
    if config.objective != "sigmoid" and bias is not None:
        raise InputError(
            "model.initial_logit_bias is for --objective sigmoid; no other loss depends on it"
        )


def check_micro_batch(config: TrainConfig) -> None:
    """Raise InputError if micro-batches would change what is computed."""
    if config.micro_batch is not None and config.model.updates_statistics:
        raise InputError(
            "micro_batch would normalise a ResNet by each part's statistics instead of the "
            "batch's; leave it out, or set --model.image.frozen-statistics"
        )


def flatten_config(config: Any) -> dict[str, Any]:
    """A nested dataclass as {"optimizer.beta1": 0.9, ...}, tuples as lists."""
    return {name: _as_lists(value) for name, value, _ in _leaves(config)}


def flatten_defaults(config: Any) -> dict[str, Any]:
    """The same of the values that fields have by default, where they have any."""
    defaults = {name: default for name, _, default in _leaves(config)}
    return {n: _as_lists(v) for n, v in defaults.items() if v is not dataclasses.MISSING}


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted name, the value and the default of each field of a nested dataclass."""
    for item in dataclasses.fields(config):
        value, name = getattr(config, item.name), f"{prefix}{item.name}"
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value, item.default


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value
