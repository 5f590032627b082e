"""Values against annotated types, nested as in this package's dataclasses."""

from dataclasses import dataclass
from typing import Literal

import pytest

from clip_jax.typed import is_of_type


@dataclass
class Inner:
    size: int


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        ("1", float, False),
        (None, float | None, True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (["a"], Literal["a", "b"], False),
        ((1, 2), tuple[int, int], True),
        ((1, 2, 3), tuple[int, int], False),
        ([1, 2], tuple[int, int], False),
        ([[1], []], list[list[int]], True),
        ([[1], ["1"]], list[list[int]], False),
        ({"a": 1}, dict[str, float], True),
        ({"a": "1"}, dict[str, float], False),
        ({1: 1}, dict[str, float], False),
        (Inner(1), Inner, True),
        (Inner("1"), Inner, False),
        ({"size": 1}, Inner, False),
    ],
)
def test_types(value, hint, expected):
    assert is_of_type(value, hint) == expected


def test_dataclasses_in_dataclasses():
    @dataclass
    class Holder:
        inner: Inner | None
        many: list[Inner]

    assert is_of_type(Holder(None, []), Holder)
    assert is_of_type(Holder(Inner(1), [Inner(2)]), Holder)
    assert not is_of_type(Holder(Inner(1.5), []), Holder)
    assert not is_of_type(Holder(None, [Inner(2), Inner(None)]), Holder)
