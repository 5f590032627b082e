"""Result files in CLIP_benchmark's schema, and the table for people."""

import json
from dataclasses import replace

import pytest

from clip_jax.errors import InputError
from clip_jax.evaluation.results import Result, print_results, write_result, write_results

RESULT = Result(
    dataset="pets",
    task="zeroshot_classification",
    metrics={"acc1": 0.25, "acc5": 0.75, "mean_per_class_recall": 1 / 3},
    model="runs/pets",
    notes={"chance": 0.125},
)


def test_files_have_the_schema_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "result.json"
    write_result(RESULT, path)
    assert json.loads(path.read_text()) == {
        "dataset": "pets",
        "task": "zeroshot_classification",
        "metrics": {"acc1": 0.25, "acc5": 0.75, "mean_per_class_recall": 1 / 3},
        "model": "runs/pets",
        "pretrained": "",
        "language": "en",
    }


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path, tmp_path / "file" / "result.json"):
        with pytest.raises(InputError, match=f"{path}: cannot write") as caught:
            write_result(RESULT, path)
        assert "\n" not in str(caught.value)


def test_sets_of_one_name_get_files_of_their_own(tmp_path):
    other = Result("pets", "zeroshot_retrieval", {}, "runs/pets")
    write_results([RESULT, other, replace(RESULT, metrics={"acc1": 1.0})], tmp_path)
    accuracies = {
        path.name: json.loads(path.read_text())["metrics"].get("acc1")
        for path in tmp_path.iterdir()
    }
    assert accuracies == {
        "pets-zeroshot_classification.json": 0.25,
        "pets-zeroshot_classification-2.json": 1.0,
        "pets-zeroshot_retrieval.json": None,
    }


def test_the_table_shows_every_metric_and_note(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    other = Result("pictures", "zeroshot_retrieval", {"text_retrieval_recall@1": 0.5}, "runs/pets")
    print_results([RESULT, other])
    lines = capsys.readouterr().out.splitlines()
    for data, metric, value in [
        ("pets", "acc1", "0.2500"),
        ("pets", "acc5", "0.7500"),
        ("pets", "mean_per_class_recall", "0.3333"),
        ("pets", "chance", "0.1250"),
        ("pictures", "text_retrieval_recall@1", "0.5000"),
    ]:
        assert sum(data in line and metric in line and value in line for line in lines) == 1


def test_names_are_no_markup(capsys):
    print_results([replace(RESULT, dataset="a[/red]b", metrics={"[bold]x": 0.5})])
    shown = capsys.readouterr().out
    assert "a[/red]b" in shown
    assert "[bold]x" in shown
