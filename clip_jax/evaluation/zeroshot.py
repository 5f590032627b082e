"""Zero-shot classification (paper, section 3.1): class names as prompts, the nearest one wins."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clip_jax.data.prompts import class_prompts
from clip_jax.data.samples import LabelledImages, Templates
from clip_jax.evaluation.classifier_cache import cached
from clip_jax.evaluation.embed import embed_readable, embed_tokens
from clip_jax.evaluation.likelihood import score_classes
from clip_jax.model import Model, check_embeds_text


@dataclass(frozen=True)
class Scores:
    """How near each image of a set lies to each class."""

    values: np.ndarray
    """Cosines, float32 [readable images, classes]; of a model that predicts, how probable the
    classes' prompts are (likelihood.score_classes)."""
    labels: np.ndarray
    """The labels of these images: [readable images] int, or [readable images, classes] bool."""
    images: np.ndarray
    """Which images of the set these are: [readable images] int."""


def build_classifier(
    model: Model,
    classnames: list[str],
    templates: Templates,
    on_batch: Callable[[int], None] = lambda done: None,
    cache: bool = False,
) -> np.ndarray:
    """One unit vector a class, the mean over its prompts: float32 [classes, embed].

    Each prompt's embedding is normalised before the mean, and the mean after it. on_batch is called
    with the number of prompts that are done. cache: keep the classifier on disk, and take it from
    there if the same model has built it before. Raises InputError for a model whose texts have no
    embeddings.
    """
    check_embeds_text(model.config)
    prompts = class_prompts(classnames, templates)
    tokens = model.tokenize([prompt for own in prompts for prompt in own], truncate=True)
    sizes = [len(own) for own in prompts]
    if cache:
        return cached(model, tokens, sizes, lambda: average_prompts(model, tokens, sizes, on_batch))
    return average_prompts(model, tokens, sizes, on_batch)


def average_prompts(
    model: Model, tokens: np.ndarray, sizes: list[int], on_batch: Callable[[int], None]
) -> np.ndarray:
    """Token ids of all classes' prompts, and how many each has -> float32 [classes, embed]."""
    embedded = embed_tokens(model, tokens, on_batch=on_batch)
    mean = np.add.reduceat(embedded, np.cumsum([0, *sizes[:-1]])) / np.array(sizes)[:, None]
    return (mean / np.linalg.norm(mean, axis=-1, keepdims=True)).astype(np.float32)


def score_images(
    model: Model,
    data: LabelledImages,
    on_batch: Callable[[int], None] = lambda done: None,
    cache: bool = False,
) -> Scores:
    """Scores of the images that can be read for the classes.

    on_batch is called with the number of prompts and of images that are done.
    """
    if not model.config.embeds_text:
        return score_by_likelihood(model, data, on_batch)
    classifier = build_classifier(model, data.classnames, data.templates, on_batch, cache)
    rows, images = embed_readable(model, data.images, on_batch=on_batch)
    return Scores(rows @ classifier.T, data.labels[images], images)


def score_by_likelihood(
    model: Model, data: LabelledImages, on_batch: Callable[[int], None]
) -> Scores:
    """score_images by a model that predicts: the prompts are read together with the images."""
    prompts = class_prompts(data.classnames, data.templates)
    encode = score_classes(model, prompts)
    on_batch(sum(map(len, prompts)))
    rows, images = embed_readable(model, data.images, on_batch=on_batch, encode=encode)
    return Scores(rows, data.labels[images], images)


def evaluate_zeroshot(
    model: Model, data: LabelledImages, on_batch: Callable[[int], None] = lambda done: None
) -> dict[str, float]:
    """The metrics of a set: those of single labels, or of a multilabel set."""
    return metrics_of(score_images(model, data, on_batch))


def metrics_of(scores: Scores) -> dict[str, float]:
    """acc1, acc5 and mean_per_class_recall, or mean_average_precision of a multilabel set."""
    multilabel = scores.labels.ndim == 2
    metrics = multilabel_metrics if multilabel else classification_metrics
    return metrics(scores.values, scores.labels)


def classification_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """scores [images, classes], labels [images] int -> metrics as CLIP_benchmark computes them.

    acc5 takes at least 5 classes; mean_per_class_recall is over the classes that occur.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    hits = ranked == labels[:, None]
    metrics = {"acc1": float(hits[:, 0].mean())}
    if scores.shape[1] >= 5:
        metrics["acc5"] = float(hits.any(axis=1).mean())
    recalls = [hits[labels == label, 0].mean() for label in np.unique(labels)]
    metrics["mean_per_class_recall"] = float(np.mean(recalls))
    return metrics


def multilabel_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """scores and labels [images, classes], labels bool -> metrics as CLIP_benchmark computes them.

    A class's average precision is the mean, over its images, of the precision among the images
    that score at least as high; 0 for a class without images.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    right = np.take_along_axis(labels, order, axis=0)
    precision = np.cumsum(right, axis=0) / np.arange(1, len(right) + 1)[:, None]
    average = (precision * right).sum(axis=0) / np.maximum(right.sum(axis=0), 1)
    return {"mean_average_precision": float(average.mean())}
