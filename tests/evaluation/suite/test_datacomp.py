"""DataComp's names, main metrics and averages."""

import io
import json

import numpy as np
import pytest
from shards import encode, solid, write_classification, write_tar

from clip_jax.errors import InputError
from clip_jax.evaluation.results import Result
from clip_jax.evaluation.suite.datacomp import (
    GROUPS,
    TASKS,
    averages,
    main_metric,
    own_metrics,
    task_of,
    to_datacomp,
)
from clip_jax.evaluation.zeroshot import Scores

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


def scored(predictions, labels, classes=6):
    """Scores whose first guesses are these; the others follow in the order of the classes."""
    values = np.tile(-np.arange(classes, dtype=np.float32), (len(labels), 1))
    values[np.arange(len(labels)), predictions] = 1
    return Scores(values, np.array(labels), np.arange(len(labels)))


def test_f1_by_hand(tmp_path):
    scores = scored([0, 0, 1, 2, 2, 5], [0, 1, 1, 2, 2, 2])
    # class 0: 1 of 1 found, 1 of 2 right; class 1: 1 of 2, 1 of 1; class 2: 2 of 3, 2 of 2
    expected = (2 / 3 + 2 / 3 + 4 / 5) / 3
    metrics = own_metrics("wds_wilds-iwildcam_test", tmp_path, scores)
    assert metrics == {"F1-macro_all": pytest.approx(expected)}


def write_groups(root, labels, groups):
    """A single-label set with metadata: [group, 7] of each image."""
    members = []
    for i, (label, group) in enumerate(zip(labels, groups, strict=True)):
        file = io.BytesIO()
        np.save(file, np.array([group, 7]))
        members += [(f"{i}.png", encode(solid(i))), (f"{i}.cls", str(label).encode())]
        members.append((f"{i}.npy", file.getvalue()))
    write_tar(root / "test/0.tar", members)
    (root / "test/nshards.txt").write_text("1")
    return root


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("wds_wilds-fmow_test", {"acc_worst_region": 1 / 3}),
        ("wds_geode_test", {"acc_wg": 1 / 3}),
        ("wds_dollar_street_test", {"acc_top5_wg": 2 / 3}),
        ("wds_wilds-camelyon17_test", {}),
        ("wds_cars", {}),
    ],
)
def test_the_worst_group_counts(tmp_path, folder, expected):
    labels, groups = [0, 1, 2, 3, 5, 1], [4, 4, 4, 9, 9, 9]
    root = write_groups(tmp_path / folder, labels, groups)
    scores = scored([0, 1, 5, 3, 0, 0], labels)  # right: 2 of 3 and 1 of 3; 5 is never among five
    assert own_metrics(folder, root, scores) == pytest.approx(expected)


def test_groups_that_are_missing_are_said(tmp_path):
    root = write_classification(tmp_path / "wds_geode_test", [0, 1])
    with pytest.raises(InputError, match=r"no sample with an image and a \.cls file and a \.npy"):
        own_metrics("wds_geode_test", root, scored([0, 1], [0, 1]))


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
