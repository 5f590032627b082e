"""Plurals and articles as a dictionary has them."""

import pytest

from clip_jax.data.text.english import article, counted, listed, plural

PLURALS = """
dog dogs|bus buses|wine glass wine glasses|bench benches|toothbrush toothbrushes|box boxes
person people|man men|fireman firemen|human humans|German Germans|policewoman policewomen
child children|mouse mice|knife knives|giraffe giraffes|roof roofs|sheep sheep|scissors scissors
skis skis|potato potatoes|photo photos|piano pianos|city cities|toy toys|key keys|goose geese
cup of tea cups of tea|man on a horse men on a horse|traffic light traffic lights|quiz quizzes
hair drier hair driers|couch couches|leaf leaves|stop-sign stop-signs|Person People
""".replace("\n", "|").strip("|")


@pytest.mark.parametrize("pair", PLURALS.split("|"))
def test_plurals(pair):
    words = pair.split()
    half = len(words) // 2
    assert plural(" ".join(words[:half])) == " ".join(words[half:])


@pytest.mark.parametrize(
    "name", ["apple", "umbrella", "oven", "hour", "SUV", "X-ray", "honest", "unimportant"]
)
def test_an(name):
    assert article(name) == "an"


@pytest.mark.parametrize(
    "name", ["dog", "unicycle", "uniform", "one-way", "user", "house", "UFO", "European", "TV"]
)
def test_a(name):
    assert article(name) == "a"


def test_numbers():
    assert counted("dog", 1) == "a dog"
    assert counted("elephant", 1) == "an elephant"
    assert counted("person", 10) == "ten people"
    assert counted("person", 11) == "11 people"
    assert counted("scissors", 1) == "a pair of scissors"
    assert counted("scissors", 3) == "three pairs of scissors"
    assert counted("Hund", 2, "Hunde") == "two Hunde"


def test_lists():
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
