"""Shares by group are those of a count in plain Python."""

import dataclasses
import json
from itertools import product

import numpy as np
import pytest
from scipy import stats
from shards import encode, refusal, solid

from clip_jax.evaluation.analyses.bias.measures import Groups
from clip_jax.evaluation.analyses.bias.people import read_people
from clip_jax.evaluation.analyses.bias.probe import Probe
from clip_jax.evaluation.analyses.bias.run import run_bias

RACES, GENDERS = ["A", "B", "C"], ["Male", "Female"]
NAMES = {"Male": "man", "Female": "woman"}
EXTRA = {"animals": ["cat", "dog"], "crime": ["thief"]}
LABELS = ["tall", "short", "kind"]
IMAGES = 90
WORDS = ["man", "woman", "cat", "dog", "thief", "child", *LABELS]


@pytest.fixture(scope="module")
def world(tmp_path_factory, table_model):
    """A table of people, and a model whose cosines with each word are known: [images, words]."""
    folder, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    rows = ["file,race,gender"]
    for number in range(IMAGES):
        race, gender = RACES[number % 3], GENDERS[rng.integers(2)]
        (folder / f"{number}.png").write_bytes(encode(solid(number)))
        rows.append(f"{number}.png,{race},{gender}")
    (folder / "people.csv").write_text("\n".join(rows))
    (folder / "names.json").write_text(json.dumps(NAMES))
    (folder / "extra.json").write_text(json.dumps(EXTRA))
    (folder / "labels.txt").write_text("\n".join(LABELS))
    images = rng.normal(size=(IMAGES, len(WORDS)))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts = {
        f"a photo of a {word}.": row for word, row in zip(WORDS, np.eye(len(WORDS)), strict=True)
    }
    model = table_model(images, texts)
    model.logit_scale = 20.0
    return folder, model, images


def probe(folder, **changes):
    standard = Probe(
        groups=("race", "gender"),
        label=("gender",),
        names=f"{folder}/names.json",
        extra=f"{folder}/extra.json",
        added=("child",),
        labels=f"{folder}/labels.txt",
        thresholds=(0.3, 0.6),
    )
    return dataclasses.replace(standard, **changes)


def told(cosines, words):
    """Image -> the word that fits best."""
    return [words[int(np.argmax([row[WORDS.index(w)] for w in words]))] for row in cosines]


def test_shares_are_those_of_a_plain_count(world, tmp_path):
    folder, model, cosines = world
    output = tmp_path / "bias.json"
    shares = run_bias(model, "m", folder / "people.csv", probe(folder), output)
    found = {(s.measure, s.group): (s.hits, s.images) for s in shares}
    rows = [line.split(",") for line in (folder / "people.csv").read_text().splitlines()[1:]]
    extra = [name for names in EXTRA.values() for name in names]
    holds = {
        "accuracy": [w == NAMES[r[2]] for w, r in zip(told(cosines, WORDS[:2]), rows, strict=True)]
    }
    before = told(cosines, ["man", "woman", *extra])
    after = told(cosines, ["man", "woman", *extra, "child"])
    for kind, names in EXTRA.items():
        holds[f"told as {kind}"] = [word in names for word in before]
        holds[f"told as {kind}, with child added"] = [word in names for word in after]
    holds["told as child, with child added"] = [word == "child" for word in after]
    for label, threshold in product(LABELS, (0.3, 0.6)):
        own = np.exp(20 * cosines[:, [WORDS.index(each) for each in LABELS]])
        share = own[:, LABELS.index(label)] / own.sum(axis=1)
        holds[f"{label!r} from {threshold:.2%}"] = (share >= threshold).tolist()
    expected = {}
    for measure, values in holds.items():
        for race, gender in product([None, *RACES], [None, *GENDERS]):
            own = [
                value
                for value, row in zip(values, rows, strict=True)
                if race in (None, row[1]) and gender in (None, row[2])
            ]
            names = [f"race={race}"] * bool(race) + [f"gender={gender}"] * bool(gender)
            expected[measure, ", ".join(names) or "everyone"] = (sum(own), len(own))
    assert found == expected
    written = json.loads(output.read_text())
    assert len(written) == len(shares)
    one = written[5]
    assert one["share"] == one["hits"] / one["images"]
    exact = stats.beta.ppf(
        [0.025, 0.975],
        [one["hits"], one["hits"] + 1],
        [one["images"] - one["hits"] + 1, one["images"] - one["hits"]],
    )
    assert [one["low"], one["high"]] == pytest.approx(exact.tolist(), abs=1e-9)
    assert output.with_suffix(".png").stat().st_size > 5000


def test_classes_may_be_several_columns_joined(world):
    folder, model, cosines = world
    texts = {
        f"a photo of a {r} {g}.": row
        for (r, g), row in zip(product(RACES, GENDERS), np.eye(9), strict=False)
    }
    model = type(model)(cosines, texts)
    asked = Probe(groups=("race",), label=("race", "gender"))
    shares = run_bias(model, "m", folder / "people.csv", asked, None)
    rows = [line.split(",") for line in (folder / "people.csv").read_text().splitlines()[1:]]
    words = [f"{r} {g}" for r, g in product(RACES, GENDERS)]
    right = [
        words[row[:6].argmax()] == f"{r[1]} {r[2]}" for row, r in zip(cosines, rows, strict=True)
    ]
    assert shares[0].hits == sum(right)


def test_unknown_and_empty_groups_are_errors(world, tmp_path):
    folder, model, _ = world
    people = read_people(folder / "people.csv", ["race", "gender"], "file")
    groups = Groups(people, ("race", "gender"), np.arange(IMAGES))
    assert "no group 'race=D'" in refusal(groups.check, "race=D")
    asked = probe(folder, reference="race=D")
    assert "no group 'race=D'" in refusal(run_bias, None, "m", folder / "people.csv", asked, None)
    others = np.array([n for n in range(IMAGES) if people.columns["race"][n] != "C"])
    assert "no picture of 'race=C" in refusal(Groups, people, ("race", "gender"), others)
    asked = probe(folder, groups=("skin",))
    assert "no column 'skin'" in refusal(run_bias, model, "m", folder / "people.csv", asked, None)


def test_what_is_refused(world, tmp_path):
    folder, model, _ = world
    assert "nothing to measure" in refusal(Probe().check)
    assert "name its columns" in refusal(Probe(labels="x", extra="y").check)
    assert "--extra classes" in refusal(Probe(label=("a",), added=("child",)).check)
    assert "between 0 and 1" in refusal(probe(folder, thresholds=(2.0,)).check)
    assert "between 0 and 1" in refusal(probe(folder, thresholds=()).check)
    assert "each column once" in refusal(probe(folder, groups=("race", "race")).check)

    def refused(**changes):
        return refusal(run_bias, model, "m", folder / "people.csv", probe(folder, **changes), None)

    assert "'man' is a class or label twice" in refused(added=("man",))
    assert "'thief' is a class or label twice" in refused(added=("thief",))
    assert "'child' is a class or label twice" in refused(added=("child", "child"))
    assert "--added crime is a kind" in refused(added=("crime",))
    (tmp_path / "labels.txt").write_text("tall\nshort\ntall")
    assert "'tall' is a class or label twice" in refused(labels=str(tmp_path / "labels.txt"))
    (tmp_path / "none.json").write_text("{}")
    assert "a list of class names by kind" in refused(extra=str(tmp_path / "none.json"))
    (tmp_path / "extra.json").write_text('{"a": []}')
    assert "a list of class names by kind" in refused(extra=f"{tmp_path}/extra.json")
    (tmp_path / "extra.json").write_text("[")
    assert "not JSON" in refused(extra=f"{tmp_path}/extra.json")
