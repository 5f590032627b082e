"""Fields of foreign configs: each is taken, expected or skipped, or named in one line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.errors import InputError
from clip_jax.weights.fields import Fields, shown

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)

READS = {
    "integer": lambda fields: fields.integer("a"),
    "number": lambda fields: fields.number("a"),
    "flag": lambda fields: fields.flag("a", False),
    "colour": lambda fields: fields.colour("a", (0, 0, 0)),
    "positive colour": lambda fields: fields.colour("a", (0, 0, 0), positive=True),
    "choice": lambda fields: fields.choice("a", ("x", "y"), "x"),
    "section": lambda fields: fields.section("a"),
    "optional section": lambda fields: fields.section("a", optional=True),
    "expect": lambda fields: fields.expect("a", 4.0),
    "refuse_others": lambda fields: fields.refuse_others(),
}

ACCEPTED = {
    "integer": [1, 2**62],
    "number": [-10, 0.5, None],
    "flag": [True, False],
    "colour": [[0, 0.5, -1], [1, 1, 1]],
    "positive colour": [[1, 0.5, 255], [1e-3, 1, 1]],
    "choice": ["x", "y"],
    "section": [{}, {"b": 1}],
    "optional section": [{}, None],
    "expect": [4.0, 4],
    "refuse_others": [False, None, 0, "", [], {}],
}

REFUSED = {
    "integer": [0, -1, 1.0, True, "1", None, [1]],
    "number": [True, "1", [1], float("nan"), float("inf"), 10**400],
    "flag": [0, 1, "true", None],
    "colour": [[0, 0], [0, 0, 0, 0], 0.5, "abc", None, [0, 0, True], [0, 0, "0"], {"r": 0}],
    "positive colour": [[0, 1, 1], [1, 1, -1], [1, 1, 1e-9]],
    "choice": ["z", None, 1, ["x"], {}],
    "section": [None, [], 1, "a"],
    "optional section": [[], 0, False],
    "expect": [3.0, None, "4.0", [4.0]],
    "refuse_others": [True, 1, "on", [0], {"a": 0}],
}
REFUSED["colour"] += [[0, 0, value] for value in (float("nan"), float("inf"), 10**400)]
REFUSED["positive colour"] += [[1, 1, value] for value in (float("nan"), float("inf"), 10**400)]


def refusal(read, content):
    """The message if the content is refused, else nothing."""
    try:
        READS[read](Fields(content, "config.json"))
    except InputError as error:
        return str(error)
    return ""


def cases(table):
    return [pytest.param(read, value) for read, values in table.items() for value in values]


@pytest.mark.parametrize(("read", "value"), cases(ACCEPTED))
def test_a_value_that_fits_is_taken(read, value):
    READS[read](Fields({"a": value}, "config.json"))


@pytest.mark.parametrize(("read", "value"), cases(REFUSED))
def test_a_value_that_does_not_fit_is_named_with_its_file(read, value):
    with pytest.raises(InputError, match=r"^config\.json: ('a'|a)"):
        READS[read](Fields({"a": value}, "config.json"))


def test_values_are_given_as_they_are():
    values = {"size": 3, "on": True, "mean": [0, 0.5, 1], "word": "y", "part": {"b": 2}}
    fields = Fields(values, "config.json")
    assert fields.integer("size") == 3
    assert fields.flag("on", False) is True
    assert fields.colour("mean", (9, 9, 9)) == (0, 0.5, 1)
    assert fields.choice("word", ("x", "y"), "x") == "y"
    assert fields.section("part").integer("b") == 2
    fields.refuse_others()


def test_defaults_stand_for_absent_fields():
    fields = Fields({}, "config.json")
    assert fields.integer("size", 7) == 7
    assert fields.flag("on", True) is True
    assert fields.colour("mean", (1.0, 2.0, 3.0)) == (1, 2, 3)
    assert fields.choice("word", ("x", "y"), "x") == "x"
    fields.section("part", optional=True).refuse_others()
    fields.expect("ratio", 4.0)


def test_a_required_field_that_lacks_is_named():
    with pytest.raises(InputError, match=r"config.json: model: has no field embed_dim"):
        Fields({"model": {}}, "config.json").section("model").integer("embed_dim")


def test_null_stands_for_the_default_where_that_is_asked_for():
    fields = Fields({"a": None, "b": 1}, "config.json").without_nulls()
    assert fields.integer("a", 5) == 5
    assert fields.integer("b", 5) == 1


def test_skipped_fields_are_not_refused():
    fields = Fields({"a": 1, "b": True}, "config.json")
    fields.skip("a", "c")
    with pytest.raises(InputError, match="'b' = True is not supported"):
        fields.refuse_others()


@settings(deadline=None)
@given(values=json_values, read=st.sampled_from(sorted(READS)))
def test_any_json_is_taken_or_refused_in_one_line(values, read):
    for content in ({"a": values}, values):
        message = refusal(read, content)
        assert "\n" not in message
        assert len(message) < 600


def test_what_is_shown_is_short_and_on_one_line():
    deep = json.loads("[" * 300 + "]" * 300)
    for value in ("a\nb\r\x85\u2028", "x" * 10**6, ["y" * 100] * 100, deep, 10**4000):
        text = shown(value)
        assert len(text) < 600
        assert text.isprintable()
    assert shown("visual.proj") == "'visual.proj'"
