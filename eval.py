"""Evaluate a model: python eval.py TASK --model SOURCE --data SPEC [--output results.json]"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import jax
import tyro

from clip_jax.cache import keep_compiled
from clip_jax.commandline import main, parse
from clip_jax.evaluation.analyses.bias.probe import Probe as BiasProbe
from clip_jax.models.generate import Decoding
from clip_jax.parallel.processes import ProcessesConfig, same_errors, start_processes

if TYPE_CHECKING:
    from clip_jax.evaluation.results import Result
    from clip_jax.model import Model


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How models are loaded and run."""

    tokenizer: str | None = None
    """The vocabulary, if it is not with the weights: a directory, a merges file, hf://org/name."""
    activation: Literal["quick_gelu", "gelu"] | None = None
    """The activation, for a weight file without a config."""
    image_size: int | None = None
    """Another input resolution than the model's."""
    frames: int | None = None
    """Data are videos: so many frames of each are embedded and averaged. A model of videos reads as
    many as it was trained with."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation."""
    processes: ProcessesConfig = field(default_factory=ProcessesConfig)
    """How the processes of an evaluation on several hosts meet."""

    def check_outputs(self) -> None:
        """Raise InputError if what is to be written cannot be, before anything is computed."""
        from clip_jax.evaluation.results import check_writable

        with same_errors():
            if jax.process_index() == 0:
                for option in ("output", "sheet", "page"):
                    if getattr(self, option, None) is not None:
                        check_writable(Path(getattr(self, option)))

    def load(self, source: str) -> "Model":
        """A model on all devices."""
        import clip_jax
        from clip_jax.evaluation.embed import on_all_devices

        with same_errors():
            model = clip_jax.load(
                source,
                self.dtype,
                activation=self.activation,
                image_size=self.image_size,
                frames=self.frames,
                tokenizer=self.tokenizer,
            )
        return on_all_devices(model)


@dataclass(frozen=True, kw_only=True)
class Task(Settings):
    """What protocols on one data set take."""

    model: str
    """The model: an OpenAI name such as ViT-B/32, hf://org/name, a directory or file in the layout
    of OpenAI, open_clip or Hugging Face, or the workdir of a train.py run."""
    data: str
    """What to evaluate on: wds:PATH, a data set in CLIP_benchmark's layout; one on the hub, such as
    hf://clip-benchmark/wds_cifar10; scenes: or moving_scenes:; and for all but retrieval
    folder:PATH, one folder a class, or tfds:NAME:SPLIT."""
    output: str | None = None
    """Write the result here, as CLIP_benchmark's JSON."""

    def picture(self) -> Path | None:
        """Where the plot goes: beside the output."""
        from clip_jax.evaluation.results import check_output

        output = None if self.output is None else Path(self.output)
        check_output(output)
        return output and output.with_suffix(".png")

    def report(self, result: "Result") -> None:
        """Print the result, and write it if asked."""
        from clip_jax.evaluation.results import print_results, write_result

        if jax.process_index() == 0:
            print_results([result])
            if self.output is not None:
                write_result(result, Path(self.output))


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Task):
    """Zero-shot classification: acc1, acc5, mean per class recall; of several labels, mAP.

    By cosine; by models that predict captions or their words, by how probable the prompts are."""

    classnames: str | None = None
    """Class names in place of the data set's: a file of one a line, or JSON."""
    templates: str | None = None
    """Prompts in place of the data set's, with {c} for the class name: one such text, a file of one
    a line, or JSON, also {class: [prompts]} with prompts as they stand."""
    by_class: bool = False
    """Also tell the accuracy of each class, and compare each prompt alone with all together; beside
    the output as .csv and as a chart, .png."""
    cache: bool = True
    """Keep classifiers in ~/.cache/clip_jax and take them from there."""

    def run(self) -> None:
        from clip_jax.data.prompts import PromptFiles
        from clip_jax.evaluation.pictures.wordings import run_by_class
        from clip_jax.evaluation.run import run_zeroshot

        prompts = PromptFiles(self.classnames, self.templates)
        model = self.load(self.model)
        if self.by_class:
            output = None if self.output is None else Path(self.output)
            self.report(run_by_class(model, self.model, self.data, prompts, output))
        else:
            self.report(run_zeroshot(model, self.model, self.data, prompts, self.cache)[0])


@dataclass(frozen=True, kw_only=True)
class Retrieval(Task):
    """Image and text retrieval: recall at 1, 5 and 10 both ways."""

    recall_at: tuple[int, ...] = ()
    """Other ranks than 1, 5 and 10."""

    def run(self) -> None:
        from clip_jax.evaluation.run import run_retrieval

        self.report(run_retrieval(self.load(self.model), self.model, self.data, self.recall_at)[0])


@dataclass(frozen=True, kw_only=True)
class Suite(Settings):
    """All data sets below some directories, by one or more models, with a report as a page."""

    model: tuple[str, ...]
    """The models, as for the other tasks."""
    data: tuple[str, ...]
    """Directories at or below which lie data sets in CLIP_benchmark's layout, or hf://org/name."""
    output: str = "results"
    """Directory of the results. What an earlier call left there is not evaluated again, unless the
    model or the data changed."""
    cache: bool = True
    """Keep classifiers in ~/.cache/clip_jax and take them from there."""

    def run(self) -> None:
        from clip_jax.evaluation.suite.run import run_suite

        run_suite(self.load, self.model, self.data, Path(self.output), self.cache)


@dataclass(frozen=True, kw_only=True)
class FittedTask(Task):
    """What protocols that fit classifiers to features take."""

    space: Literal["features", "embeddings"] = "features"
    """What is classified: a ViT's features before the projection to the space shared with texts,
    or the embeddings after it. For a ResNet and for videos both are the same."""
    cache: bool = True
    """Keep features in ~/.cache/clip_jax and take them from there."""


@dataclass(frozen=True, kw_only=True)
class Probe(FittedTask):
    """Linear probe: logistic regression on features of the train split, its strength searched."""

    seed: int = 0
    """Which fifth of the training images is held out for the search."""

    def run(self) -> None:
        from clip_jax.evaluation.probes.run import run_probe

        how = (self.space, self.seed, self.cache, self.picture())
        self.report(run_probe(self.load(self.model), self.model, self.data, *how))


@dataclass(frozen=True, kw_only=True)
class FewShot(FittedTask):
    """Linear probes on few training images a class, beside zero-shot."""

    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    """How many images of each class."""
    seeds: int = 3
    """How often the images are drawn."""

    def run(self) -> None:
        from clip_jax.evaluation.probes.run import run_few_shot

        how = (self.space, self.shots, self.seeds, self.cache, self.picture())
        self.report(run_few_shot(self.load(self.model), self.model, self.data, *how))


@dataclass(frozen=True, kw_only=True)
class Robustness(Settings):
    """Zero-shot accuracy under natural distribution shift: ImageNet against its variants."""

    model: tuple[str, ...]
    """The models, as for the other tasks."""
    data: str
    """The reference set, ImageNet."""
    shifted: tuple[str, ...]
    """Sets with the same or fewer classes, called the same: ImageNet-V2, -A, -R, -Sketch, ..."""
    baseline: str | None = None
    """Accuracies of other models, for effective robustness: a CSV with the columns model, dataset,
    reference, shifted, or a JSON list of such objects. By default the models given, from three."""
    output: str | None = None
    """Write the results here, as a JSON list, and the plot beside it."""
    cache: bool = True
    """Keep classifiers in ~/.cache/clip_jax and take them from there."""

    def run(self) -> None:
        from clip_jax.evaluation.robustness.run import run_robustness

        baseline, output = (None if p is None else Path(p) for p in (self.baseline, self.output))
        how = (baseline, output, self.cache)
        run_robustness(self.load, self.model, self.data, self.shifted, *how)


@dataclass(frozen=True, kw_only=True)
class Overlap(Settings):
    """Near-duplicates between training data and evaluation sets, and what they do to accuracy."""

    train: str
    """The training data, as for train.py's --data.train."""
    data: tuple[str, ...]
    """Directories at or below which lie data sets in CLIP_benchmark's layout, or hf://org/name."""
    model: str | None = None
    """A model whose zero-shot accuracy is compared, as for the other tasks."""
    threshold: float = 0.7
    """Score from which two pictures count as the same."""
    output: str = "overlap"
    """Directory for overlap.json, overlap.png, and overlap.html with the pairs."""

    def run(self) -> None:
        from clip_jax.evaluation.analyses.overlap.run import run_overlap

        how = (self.model, self.threshold, Path(self.output))
        run_overlap(self.load, self.train, self.data, *how)


@dataclass(frozen=True, kw_only=True)
class Bias(Settings):
    """How a model treats groups of people: accuracy, harmful labels, the choice of classes."""

    model: str
    """The model, as for the other tasks."""
    data: str
    """A csv with a column of files and columns that say who is shown, such as FairFace's."""
    probe: Annotated[BiasProbe, tyro.conf.OmitArgPrefixes]
    output: str | None = None
    """Write the shares here, as a JSON list, and the bars beside it."""

    def run(self) -> None:
        from clip_jax.evaluation.analyses.bias.run import run_bias

        self.probe.check()
        output = None if self.output is None else Path(self.output)
        run_bias(self.load(self.model), self.model, Path(self.data), self.probe, output)


@dataclass(frozen=True, kw_only=True)
class Difficulty(Task):
    """Accuracy by class beside that of people, zero-shot and with few examples."""

    people: str
    """A csv with the column class and any of zeroshot, 1_shot, 2_shot, ...: shares of 1."""
    seeds: int = 3
    """How often the examples are drawn."""
    cache: bool = True
    """Keep features and classifiers in ~/.cache/clip_jax and take them from there."""

    def run(self) -> None:
        from clip_jax.evaluation.analyses.difficulty import run_difficulty

        how = (Path(self.people), self.seeds, self.cache, self.picture())
        self.report(run_difficulty(self.load(self.model), self.model, self.data, *how))


@dataclass(frozen=True, kw_only=True)
class Classify(Settings):
    """Labels for any pictures: a table, and a contact sheet."""

    model: str
    """The model, as for the other tasks."""
    images: tuple[str, ...]
    """Pictures, and folders of them."""
    labels: str
    """What they may show: cat,dog or a file of one a line, or JSON."""
    templates: str | None = None
    """Prompts with {c} for the label: one such text, or a file as for zeroshot."""
    top: int = 3
    """Labels of a picture in the table."""
    output: str | None = None
    """Write the probabilities of all labels here: .csv, else JSON."""
    sheet: str = "classify.png"
    """Where the contact sheet is written."""

    def run(self) -> None:
        from clip_jax.evaluation.pictures.classify import run_classify

        output = None if self.output is None else Path(self.output)
        how = (self.labels, self.templates, self.top, output, Path(self.sheet))
        run_classify(self.load, self.model, self.images, *how)


@dataclass(frozen=True, kw_only=True)
class Caption(Settings):
    """Captions for any pictures, by a model with a decoder: a table, and a contact sheet."""

    model: str
    """The model, as for the other tasks: CoCa, or trained with objective caption or coca."""
    images: tuple[str, ...]
    """Pictures, and folders of them."""
    decoding: Annotated[Decoding, tyro.conf.OmitArgPrefixes]
    seed: int = 0
    """Of method nucleus: other draws."""
    output: str | None = None
    """Write the captions here: .csv, else JSON."""
    sheet: str = "caption.png"
    """Where the contact sheet is written."""

    def run(self) -> None:
        from clip_jax.evaluation.pictures.caption import run_caption

        output = None if self.output is None else Path(self.output)
        how = (self.decoding, self.seed, output, Path(self.sheet))
        run_caption(self.load, self.model, self.images, *how)


@dataclass(frozen=True, kw_only=True)
class Search(Settings):
    """Search in a folder of pictures, by an index that is built once and then kept up to date."""

    model: str
    """The model, as for the other tasks. An index belongs to the one that made it."""
    images: str | None = None
    """The folder: what is new, changed or gone is brought into the index. Without it, the index is
    searched as it is."""
    index: str = "index"
    """Directory of the index."""
    text: tuple[str, ...] = ()
    """Rank the pictures by how well they fit a text, or each of several."""
    image: tuple[str, ...] = ()
    """Likewise by how like they are to a picture."""
    unique: bool = False
    """Rank them by how little they are like their nearest others."""
    duplicates: float | None = None
    """Find groups of pictures whose cosines reach this, such as 0.95."""
    top: int = 20
    """Pictures of a ranking, and groups of near-duplicates, to show."""
    output: str | None = None
    """Write the answers here, as JSON."""
    page: str | None = None
    """Write the pictures here, as an HTML page that needs nothing else."""

    def run(self) -> None:
        from clip_jax.evaluation.pictures.search import Questions, run_search

        output, page = (None if p is None else Path(p) for p in (self.output, self.page))
        questions = Questions(
            texts=self.text,
            images=self.image,
            unique=self.unique,
            duplicates=self.duplicates,
            top=self.top,
        )
        run_search(self.load, self.model, self.images, Path(self.index), questions, output, page)


Tasks = (
    Annotated[ZeroShot, tyro.conf.subcommand("zeroshot")]
    | Annotated[Retrieval, tyro.conf.subcommand("retrieval")]
    | Annotated[Suite, tyro.conf.subcommand("suite")]
    | Annotated[Probe, tyro.conf.subcommand("probe")]
    | Annotated[FewShot, tyro.conf.subcommand("fewshot")]
    | Annotated[Robustness, tyro.conf.subcommand("robustness")]
    | Annotated[Classify, tyro.conf.subcommand("classify")]
    | Annotated[Caption, tyro.conf.subcommand("caption")]
    | Annotated[Search, tyro.conf.subcommand("search")]
    | Annotated[Overlap, tyro.conf.subcommand("overlap")]
    | Annotated[Bias, tyro.conf.subcommand("bias")]
    | Annotated[Difficulty, tyro.conf.subcommand("difficulty")]
)


def run(arguments: Sequence[str]) -> None:
    task = parse(Tasks, arguments, "eval.py")
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM ends an evaluation at once
    start_processes(task.processes)
    keep_compiled()
    task.check_outputs()
    task.run()


if __name__ == "__main__":
    sys.exit(main("eval.py", run))
