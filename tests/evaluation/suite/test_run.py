"""A suite finds its sets, keeps what it has done, and writes every file and the page."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from shards import write_classification, write_multilabel, write_retrieval

from clip_jax.data.text.tokenizers import train_sentencepiece
from clip_jax.errors import InputError
from clip_jax.evaluation.run import run_retrieval, run_zeroshot
from clip_jax.evaluation.suite import run as suite
from clip_jax.evaluation.suite.run import find_sets, run_suite

NAMES = ["cat", "dog", "tree", "fox", "house"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_classification(folder / "wds_vtab-pets_test", [0, 1, 2, 1, 0, 4], NAMES)
    write_multilabel(folder / "deep" / "down" / "voc", [[0, 1, 1], [1, 0, 0]])
    write_retrieval(folder / "pairs", [["a cat", "cat"], ["a dog"], ["a tree"]])
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def sets(source, tmp_path):
    return shutil.copytree(source, tmp_path / "sets")


@pytest.fixture
def evaluated(monkeypatch):
    """The sets that are evaluated, one by one."""
    names = []

    def watch(evaluate):
        return lambda *arguments: names.append(arguments[2].name) or evaluate(*arguments)

    for function in ("evaluate_labelled", "evaluate_captioned"):
        monkeypatch.setattr(suite, function, watch(getattr(suite, function)))
    return names


def other(model, factor=1.1):
    params = jax.tree.map(lambda leaf: leaf * np.float32(factor), model.params)
    return dataclasses.replace(model, params=params)


def run(model, sets, output, names=("runs/tiny",)):
    models = {"runs/tiny": model, "runs/other": other(model)}
    run_suite(models.get, names, [str(sets)], output, cache=False)


def test_sets_are_found_by_their_shards(sets):
    found = [found.name for found in find_sets([str(sets)])]
    assert found == ["voc", "pairs", "wds_vtab-pets_test"]
    (one,) = find_sets([str(sets / "pairs"), f"{sets}/pairs/"])
    assert one.folder == sets / "pairs"


def test_sets_of_one_name_are_told_apart(sets):
    shutil.copytree(sets / "pairs", sets / "deep" / "pairs")
    names = [found.name for found in find_sets([str(sets)])]
    assert len(set(names)) == 4
    assert sum(name.endswith("deep-pairs") for name in names) == 1


def test_places_without_sets_are_refused(sets):
    with pytest.raises(InputError, match=r"empty: no data set at or below it; .*nshards\.txt"):
        find_sets([str(sets), str(sets / "empty")])
    with pytest.raises(InputError, match="none: no such directory"):
        find_sets([str(sets / "none")])


def test_models_are_named_once(model, sets, tmp_path):
    with pytest.raises(InputError, match="write to the same folder"):
        run(model, sets, tmp_path, ["runs/tiny", "runs/tiny"])


def test_every_set_has_its_files(model, sets, tmp_path, capsys):
    run(model, sets, tmp_path / "out")
    folder = tmp_path / "out" / "runs-tiny"
    pets, _ = run_zeroshot(model, "runs/tiny", str(sets / "wds_vtab-pets_test"))
    voc, _ = run_zeroshot(model, "runs/tiny", str(sets / "deep/down/voc"))
    pairs, _ = run_retrieval(model, "runs/tiny", str(sets / "pairs"))
    for result in (pets, voc, pairs):
        written = json.loads((folder / f"{result.dataset}-{result.task}.json").read_text())
        assert written == json.loads(result.to_json())
    lines = [json.loads(line) for line in (folder / "eval_results.jsonl").open()]
    by_key = {line["key"]: line["metrics"]["main_metric"] for line in lines}
    recalls = [pairs.metrics[f"{way}_retrieval_recall@1"] for way in ("image", "text")]
    assert by_key == {
        "vtab/pets": pets.metrics["mean_per_class_recall"],
        "voc": voc.metrics["mean_average_precision"],
        "pairs": pytest.approx(sum(recalls) / 2),
    }
    averages = json.loads((folder / "averages.json").read_text())
    assert averages["Average"]["mean"] == pytest.approx(sum(by_key.values()) / 3)
    table = capsys.readouterr().out
    report = (tmp_path / "out" / "report.html").read_text()
    for value in by_key.values():
        assert f"{value:.4f}" in table
        assert f"{value:.4f}" in report


def test_what_is_done_is_not_done_again(model, sets, tmp_path, evaluated):
    output = tmp_path / "out"
    run(model, sets, output)
    everything = ["voc", "pairs", "wds_vtab-pets_test"]
    assert evaluated == everything
    report = (output / "report.html").read_text()
    (output / "report.html").unlink()
    run(model, sets, output)
    assert evaluated == everything
    assert (output / "report.html").read_text() == report
    run(model, sets, output, ["runs/tiny", "runs/other"])
    assert evaluated == everything * 2
    models = {"runs/tiny": other(model)}  # other weights under the name
    run_suite(models.get, ["runs/tiny"], [str(sets)], output, cache=False)
    assert evaluated == everything * 3


def test_another_vocabulary_is_another_model(model):
    tokenizer = train_sentencepiece(["a cat and a dog"], 64, model.config.text.context_length)
    assert suite.model_identity(model) == suite.model_identity(other(model, 1.0))
    for changed in (other(model), dataclasses.replace(model, tokenizer=tokenizer)):
        assert suite.model_identity(changed) != suite.model_identity(model)


@pytest.mark.parametrize("change", ["labels", "prompts", "damaged", "cut"])
def test_what_changed_is_done_again(model, sets, tmp_path, evaluated, change):
    output = tmp_path / "out"
    run(model, sets, output)
    evaluated.clear()
    pets = sets / "wds_vtab-pets_test"
    kept = output / "runs-tiny" / "kept" / "wds_vtab-pets_test-zeroshot_classification.json"
    if change == "labels":
        write_classification(pets, [4, 1, 2, 1, 0, 0], NAMES)
    elif change == "prompts":
        (pets / "zeroshot_classification_templates.txt").write_text("a {c}")
    elif change == "damaged":
        kept.write_text("{}")
    else:
        kept.write_text(kept.read_text()[:-9])
    run(model, sets, output)
    assert evaluated == ["wds_vtab-pets_test"]


def test_a_run_that_was_stopped_goes_on(model, sets, tmp_path, evaluated, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            suite, "evaluate_captioned", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            run(model, sets, tmp_path / "out")
    run(model, sets, tmp_path / "out")
    assert evaluated == ["voc", "pairs", "wds_vtab-pets_test"]


def test_a_broken_set_does_not_stop_the_others(model, sets, tmp_path):
    (sets / "deep/down/voc/test/0.tar").unlink()
    write_retrieval(sets / "spoken", [["a cat"]])
    (sets / "spoken" / "dataset_type.txt").write_text("speech")
    with pytest.raises(
        InputError,
        match=r"^2 of 4 data sets were left out \(voc, spoken\): .*0\.tar: no such.*holds 'speech'",
    ):
        run(model, sets, tmp_path / "out")
    lines = (tmp_path / "out" / "runs-tiny" / "eval_results.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["pairs", "vtab/pets"]
    assert "wds_vtab-pets_test" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept["result"].update(task="other"),
        lambda kept: kept["result"].update(metrics={"acc1": "<b>1</b>"}),
        lambda kept: kept["result"].update(metrics=[1]),
        lambda kept: kept.update(images="<script>"),
        lambda kept: kept["analysis"].update(confusion=[["a", 0, 1]]),
        lambda kept: kept["analysis"].update(bins=[]),
        lambda kept: kept["analysis"].update(confusion=[[0, 5, 1]]),
        lambda kept: kept["analysis"].update(confusion=[[0, 1]]),
        lambda kept: kept["result"].update(dataset="\ud800"),
    ],
)
def test_what_is_kept_in_another_form_is_evaluated_again(model, sets, tmp_path, evaluated, damage):
    shutil.rmtree(sets / "deep")
    shutil.rmtree(sets / "pairs")
    run(model, sets, tmp_path)
    (path,) = (tmp_path / "runs-tiny" / "kept").iterdir()
    kept = json.loads(path.read_text())
    damage(kept)
    path.write_text(json.dumps(kept))
    run(model, sets, tmp_path)
    assert len(evaluated) == 2
