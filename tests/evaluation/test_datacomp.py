"""DataComp's names, main metrics and averages."""

import json

import pytest

from clip_jax.evaluation.datacomp import GROUPS, TASKS, averages, main_metric, task_of, to_datacomp
from clip_jax.evaluation.results import Result

CLASSES = {"acc1": 0.5, "acc5": 0.9, "mean_per_class_recall": 0.4}
RECALLS = {"image_retrieval_recall@1": 0.2, "text_retrieval_recall@1": 0.4}


def result(dataset, metrics=CLASSES):
    kind = "retrieval" if metrics is RECALLS else "classification"
    return Result(dataset, f"zeroshot_{kind}", metrics, "model")


@pytest.mark.parametrize(
    ("folder", "key"),
    [
        ("wds_vtab-pets_test", "vtab/pets"),
        ("wds_vtab-pets", "vtab/pets"),
        ("wds_imagenet-a_test", "imagenet-a"),
        ("wds_geode_test", "fairness/geode"),
        ("wds_flickr30k", "retrieval/flickr30k"),
        ("cars", "cars"),
        ("wds_clipart", None),
        ("pets", None),
    ],
)
def test_sets_are_known_by_their_folder(folder, key):
    task = task_of(folder)
    assert (task and task.key) == key


@pytest.mark.parametrize(
    ("folder", "metrics", "expected"),
    [
        ("wds_imagenet1k_test", CLASSES, ("acc1", 0.5)),
        ("wds_fgvc_aircraft_test", CLASSES, ("mean_per_class_recall", 0.4)),
        ("wds_vtab-caltech101", CLASSES, ("mean_per_class_recall", 0.4)),
        ("wds_vtab-flowers", CLASSES, ("mean_per_class_recall", 0.4)),
        ("wds_flickr30k", RECALLS, ("mean_recall@1", pytest.approx(0.3))),
        ("own_pairs", RECALLS, ("mean_recall@1", pytest.approx(0.3))),
        ("own_classes", CLASSES, ("acc1", 0.5)),
        ("own_labels", {"mean_average_precision": 0.7}, ("mean_average_precision", 0.7)),
        ("wds_wilds-fmow_test", CLASSES, ("acc_worst_region", None)),
    ],
)
def test_main_metrics(folder, metrics, expected):
    assert main_metric(result(folder, metrics)) == expected


def test_lines_have_datacomps_schema():
    assert to_datacomp(result("wds_vtab-pets_test")) == {
        "key": "vtab/pets",
        "dataset": "Oxford-IIIT Pet",
        "metrics": {**CLASSES, "main_metric": 0.4},
    }
    metrics = {**RECALLS, "mean_recall@1": pytest.approx(0.3), "main_metric": pytest.approx(0.3)}
    assert to_datacomp(result("mine", RECALLS)) == {
        "key": "mine",
        "dataset": "mine",
        "metrics": metrics,
    }
    assert (
        json.loads(json.dumps(to_datacomp(result("wds_wilds-fmow"))))["metrics"]["main_metric"]
        is None
    )


def test_averages_are_over_what_was_evaluated():
    results = [
        result("wds_imagenet1k_test"),
        result("wds_imagenet-a_test", {"acc1": 0.2}),
        result("wds_objectnet_test", {"acc1": 0.4}),
        result("wds_vtab-pets_test"),
        result("wds_wilds-fmow_test"),
        result("own_pairs", RECALLS),
    ]
    assert averages(results) == {
        "ImageNet": {"mean": 0.5, "sets": 1, "of": 1},
        "ImageNet dist. shifts": {"mean": pytest.approx(0.3), "sets": 2, "of": 6},
        "VTAB": {"mean": 0.4, "sets": 1, "of": 13},
        "Average": {"mean": pytest.approx((0.5 + 0.2 + 0.4 + 0.4 + 0.3) / 5), "sets": 5, "of": 6},
    }
    assert averages([]) == {}


def test_every_name_of_a_group_is_a_task():
    names = {task.name for task in TASKS} | {"WinoGAViL"}
    assert set().union(*GROUPS.values()) <= names
