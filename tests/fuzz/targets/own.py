"""Files of our own, which others may have written, and tables that users give."""

import json
from pathlib import Path

import numpy as np
from fuzz.target import Parser, reads_file, target
from fuzz.targets.pictures import PICTURE


@target()
def metrics(folder: Path) -> Parser:
    from clip_jax.training.metrics import read_metrics

    lines = b'{"step": 1, "loss": 2.5, "logit_scale": 14.3}\n{"step": 2, "loss": NaN}\n'
    return [lines], reads_file(folder / "metrics.jsonl", read_metrics)


@target()
def kept_result(folder: Path) -> Parser:
    """What a suite takes instead of evaluating again, up to the page that shows it."""
    from dataclasses import asdict

    from clip_jax.evaluation.results import Result
    from clip_jax.evaluation.suite.analysis import Analysis, Bin, Evaluation, Mistake
    from clip_jax.evaluation.suite.report import render_report
    from clip_jax.evaluation.suite.run import print_summary, read_kept

    bins, mistakes = [Bin(2, 0.5, 1.0)], [Mistake(0, "cat", "dog", 0.9, "AAAA")]
    analysis = Analysis(["cat", "dog"], [[0, 0, 2], [0, 1, 1]], bins, mistakes)
    result = Result("set", "zeroshot_classification", {"acc1": 0.5}, "model", notes={"chance": 0.5})
    seeds = [{"key": {}, **asdict(Evaluation(result, 3, shown))} for shown in (analysis, None)]

    def read(path: Path) -> None:
        kept = read_kept(path, {})
        if kept is not None:
            render_report({"model": [kept]})
            print_summary({"model": [kept]})

    return [json.dumps(seed).encode() for seed in seeds], reads_file(folder / "kept.json", read)


@target()
def cached_arrays(folder: Path) -> Parser:
    from clip_jax.evaluation.classifier_cache import read_arrays, write_arrays

    path = folder / "cache.npz"
    write_arrays(path, rows=np.ones((3, 4), np.float32), readable=np.ones(3, np.float32))
    shapes = {"rows": (3, 4), "readable": (3,)}
    return [path.read_bytes()], reads_file(path, lambda path: read_arrays(path, shapes))


@target()
def baseline(folder: Path) -> Parser:
    """Accuracies of other models, in JSON and as a table."""
    from clip_jax.evaluation.robustness.shift import read_baseline

    rows = [{"model": "m", "dataset": "d", "reference": 0.5, "shifted": "0.25"}]
    text = b"model,dataset,reference,shifted\nm,d,0.5,0.25\n"

    def run(content: bytes) -> None:
        path = folder / ("b.json" if content[:1] in b"[{" else "b.csv")
        path.write_bytes(content)
        read_baseline(path)

    return [json.dumps(rows).encode(), text], run


def picture_index(folder: Path, name: str) -> Parser:
    """The index of a search, one of whose files is replaced."""
    from clip_jax.evaluation.pictures.index import About, PictureIndex

    (folder / "a.png").write_bytes(PICTURE)
    index = PictureIndex.create(folder / "index", About(str(folder), "model", 4))
    rows = np.ones((2, 4), np.float32)
    index.add([("a.png", "1"), ("gone.png", "2")], lambda images: (rows, np.arange(2)))

    def read(path: Path) -> None:
        opened = PictureIndex.open(folder / "index")
        for row in range(len(opened)):
            opened.file(row)
        assert opened.rows.sum() >= 0
        assert opened.unreadable == []

    path = folder / "index" / name
    return [path.read_bytes()], reads_file(path, read)


@target()
def picture_index_header(folder: Path) -> Parser:
    return picture_index(folder, "index.json")


@target()
def picture_index_lines(folder: Path) -> Parser:
    return picture_index(folder, "files-0.jsonl")


@target()
def people(folder: Path) -> Parser:
    """Who is shown on pictures."""
    from clip_jax.evaluation.analyses.bias.people import default_groups, read_people

    (folder / "a.png").write_bytes(PICTURE)
    table = b'file,age,gender,race\na.png,3-9,Female,Black\na.png,"0, 2",Male,Indian\n'
    return [table], reads_file(
        folder / "people.csv", lambda path: read_people(path, default_groups(path), "file")
    )


@target()
def difficulty(folder: Path) -> Parser:
    """Accuracies of people by class."""
    from clip_jax.evaluation.analyses.difficulty import read_people

    table = b"class,zeroshot,1_shot\ncat,0.5,1\ndog,,0.25\n"
    return [table], reads_file(folder / "people.csv", read_people)
