"""Zero-shot classification (paper, section 3.1): class names as prompts, the nearest one wins."""

from collections.abc import Callable, Sequence

import numpy as np

from clip_jax.data.samples import LabelledImages
from clip_jax.evaluation.embed import embed_images, embed_texts
from clip_jax.model import Model


def build_classifier(
    model: Model, classnames: Sequence[str], templates: Sequence[str]
) -> np.ndarray:
    """One unit vector a class, the mean over its prompts: float32 [classes, embed].

    Each prompt's embedding is normalised before the mean, and the mean after it.
    """
    prompts = [template.replace("{c}", name) for name in classnames for template in templates]
    embedded = embed_texts(model, prompts).reshape(len(classnames), len(templates), -1)
    mean = embedded.mean(axis=1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def evaluate_zeroshot(
    model: Model, data: LabelledImages, on_batch: Callable[[int], None] = lambda done: None
) -> dict[str, float]:
    """acc1, acc5 (with at least 5 classes) and mean_per_class_recall."""
    classifier = build_classifier(model, data.classnames, data.templates)
    images = embed_images(model, data.images, on_batch=on_batch)
    return classification_metrics(images @ classifier.T, data.labels)


def classification_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """scores [images, classes], labels [images] int -> metrics as CLIP_benchmark computes them.

    mean_per_class_recall is over the classes that occur.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    hits = ranked == labels[:, None]
    metrics = {"acc1": float(hits[:, 0].mean())}
    if scores.shape[1] >= 5:
        metrics["acc5"] = float(hits.any(axis=1).mean())
    recalls = [hits[labels == label, 0].mean() for label in np.unique(labels)]
    metrics["mean_per_class_recall"] = float(np.mean(recalls))
    return metrics
