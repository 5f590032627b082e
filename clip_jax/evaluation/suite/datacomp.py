"""DataComp's evaluation suite: what its sets are called, which metric counts, and its averages.

From its tasklist.yml and aggregate_scores.py (Gadre et al. 2023, https://www.datacomp.ai). A set is
known by the name of its folder: wds_vtab-pets_test, or vtab-pets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip_jax.data.sources.clip_benchmark import open_metadata
from clip_jax.evaluation.results import Result
from clip_jax.evaluation.zeroshot import Scores


@dataclass(frozen=True)
class DataCompTask:
    """A set of the suite."""

    key: str
    """Its key in eval_results.jsonl."""
    name: str
    """Its name there."""
    metric: str = "acc1"
    """The metric that counts."""
    group: int | None = None
    """The field of the images' metadata by which they fall into groups, the worst of which counts:
    regions or levels of income."""
    guesses: int = 1
    """Of which one must be right, in a metric of groups."""


PER_CLASS, RETRIEVAL = "mean_per_class_recall", "mean_recall@1"
TASKS = (
    DataCompTask("vtab/caltech101", "Caltech-101", PER_CLASS),
    DataCompTask("cifar10", "CIFAR-10"),
    DataCompTask("vtab/cifar100", "CIFAR-100"),
    DataCompTask("vtab/clevr_count_all", "CLEVR Counts"),
    DataCompTask("vtab/clevr_closest_object_distance", "CLEVR Distance"),
    DataCompTask("country211", "Country211"),
    DataCompTask("vtab/dtd", "Describable Textures"),
    DataCompTask("vtab/eurosat", "EuroSAT"),
    DataCompTask("fgvc_aircraft", "FGVC Aircraft", PER_CLASS),
    DataCompTask("food101", "Food-101"),
    DataCompTask("gtsrb", "GTSRB"),
    DataCompTask("imagenet1k", "ImageNet 1k"),
    DataCompTask("imagenet_sketch", "ImageNet Sketch"),
    DataCompTask("imagenetv2", "ImageNet v2"),
    DataCompTask("imagenet-a", "ImageNet-A"),
    DataCompTask("imagenet-o", "ImageNet-O"),
    DataCompTask("imagenet-r", "ImageNet-R"),
    DataCompTask("vtab/kitti_closest_vehicle_distance", "KITTI Vehicle Distance"),
    DataCompTask("mnist", "MNIST"),
    DataCompTask("objectnet", "ObjectNet"),
    DataCompTask("vtab/flowers", "Oxford Flowers-102", PER_CLASS),
    DataCompTask("vtab/pets", "Oxford-IIIT Pet", PER_CLASS),
    DataCompTask("voc2007", "Pascal VOC 2007"),
    DataCompTask("vtab/pcam", "PatchCamelyon"),
    DataCompTask("renderedsst2", "Rendered SST2"),
    DataCompTask("vtab/resisc45", "RESISC45"),
    DataCompTask("cars", "Stanford Cars"),
    DataCompTask("stl10", "STL-10"),
    DataCompTask("sun397", "SUN397"),
    DataCompTask("vtab/svhn", "SVHN"),
    DataCompTask("retrieval/flickr30k", "Flickr", RETRIEVAL),
    DataCompTask("retrieval/mscoco_2014_5k_test_image_text_retrieval", "MSCOCO", RETRIEVAL),
    DataCompTask("wilds/iwildcam", "iWildCam", "F1-macro_all"),
    DataCompTask("wilds/camelyon17", "Camelyon17"),
    DataCompTask("wilds/fmow", "FMoW", "acc_worst_region", group=0),
    DataCompTask("fairness/dollar_street", "Dollar Street", "acc_top5_wg", group=0, guesses=5),
    DataCompTask("fairness/geode", "GeoDE", "acc_wg", group=0),
)
GROUPS = {
    "ImageNet": ("ImageNet 1k",),
    "ImageNet dist. shifts": (
        *("ImageNet Sketch", "ImageNet v2", "ImageNet-A"),
        *("ImageNet-O", "ImageNet-R", "ObjectNet"),
    ),
    "VTAB": (
        *("Caltech-101", "CIFAR-100", "CLEVR Counts", "CLEVR Distance", "Describable Textures"),
        *("EuroSAT", "KITTI Vehicle Distance", "Oxford Flowers-102", "Oxford-IIIT Pet"),
        *("PatchCamelyon", "RESISC45", "SVHN", "SUN397"),
    ),
    "Retrieval": ("Flickr", "MSCOCO", "WinoGAViL"),
}
"""DataComp's groups of sets, by their names there."""

COMMON = ("acc1", PER_CLASS, RETRIEVAL)
MAIN = {"zeroshot_classification": "acc1", "zeroshot_retrieval": RETRIEVAL}


def task_of(dataset: str) -> DataCompTask | None:
    """The task of the suite that a folder or a repository on the hub holds, if it is one."""
    short = dataset.removeprefix("wds_").removesuffix("_test")
    for task in TASKS:
        folder = task.key.replace("/", "-")
        if short in (folder, folder.removeprefix("fairness-"), folder.removeprefix("retrieval-")):
            return task
    return None


def own_metrics(dataset: str, folder: Path, scores: Scores) -> dict[str, float]:
    """The metric that counts, of a task in which it is none of those of all classification sets.

    The accuracy in the worst group, or the F1 score averaged over the classes that occur.
    """
    task = task_of(dataset)
    if task is None or task.metric in COMMON or scores.labels.ndim == 2:
        return {}
    if task.group is None:
        return {task.metric: macro_f1(scores.values.argmax(axis=1), scores.labels)}
    groups = open_metadata(folder)[scores.images, task.group]
    return {task.metric: worst_group(scores, groups, task.guesses)}


def worst_group(scores: Scores, groups: np.ndarray, guesses: int) -> float:
    """The smallest of the groups' accuracies; groups: [images] int."""
    ranked = np.argsort(-scores.values, axis=1, kind="stable")[:, :guesses]
    hits = (ranked == scores.labels[:, None]).any(axis=1)
    return min(float(hits[groups == group].mean()) for group in np.unique(groups))


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur of 2 * right / (labelled + predicted)."""
    scores = [
        2
        * np.sum((predicted == label) & (labels == label))
        / (np.sum(predicted == label) + np.sum(labels == label))
        for label in np.unique(labels)
    ]
    return float(np.mean(scores))


def main_metric(result: Result) -> tuple[str, float | None]:
    """Name and value of the metric that counts; the value is None if it was not computed."""
    metrics, task = with_mean_recall(result.metrics), task_of(result.dataset)
    if task is not None:
        return task.metric, metrics.get(task.metric)
    name = "mean_average_precision" if "mean_average_precision" in metrics else MAIN[result.task]
    return name, metrics.get(name)


def with_mean_recall(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics; of a retrieval set, also the mean of both recalls at 1."""
    both = [metrics.get(f"{way}_retrieval_recall@1") for way in ("image", "text")]
    known = [value for value in both if value is not None]
    return {**metrics, RETRIEVAL: sum(known) / 2} if len(known) == 2 else dict(metrics)


def to_datacomp(result: Result) -> dict[str, object]:
    """A line of eval_results.jsonl."""
    task = task_of(result.dataset)
    metrics = {**with_mean_recall(result.metrics), "main_metric": main_metric(result)[1]}
    return {
        "key": task.key if task else result.dataset,
        "dataset": task.name if task else result.dataset,
        "metrics": metrics,
    }


def averages(results: list[Result]) -> dict[str, dict[str, float]]:
    """Means of the main metrics of DataComp's groups, and of all sets, as far as evaluated.

    Each group has its mean, over how many sets that is, and of how many sets it consists.
    """
    values = {}
    for result in results:
        name, value = to_datacomp(result)["dataset"], main_metric(result)[1]
        if value is not None:
            values[name] = value
    groups = {group: [n for n in names if n in values] for group, names in GROUPS.items()}
    means = {
        group: {
            "mean": float(np.mean([values[name] for name in names])),
            "sets": len(names),
            "of": len(GROUPS[group]),
        }
        for group, names in groups.items()
        if names
    }
    if values:
        mean = float(np.mean(list(values.values())))
        means["Average"] = {"mean": mean, "sets": len(values), "of": len(results)}
    return means
