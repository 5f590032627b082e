"""Whether a value that was read from a file has the type that it should have.

For what this package wrote itself, as dataclasses; configs of others are read by weights/fields.py.
"""

import dataclasses
import types
import typing
from typing import Any


def is_of_type(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type, and so is everything in it.

    Knows plain types, dataclasses, Literal of texts, unions, tuples, lists and dicts. A bool is no
    int; an int is a float, as in JSON.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        fields = typing.get_type_hints(hint).items()
        return type(value) is hint and all(is_of_type(getattr(value, k), h) for k, h in fields)
    if origin is typing.Literal:
        return type(value) is str and value in inner
    if origin is types.UnionType:
        return any(is_of_type(value, hint) for hint in inner)
    if origin is tuple:
        fits = type(value) is tuple and len(value) == len(inner)
        return fits and all(map(is_of_type, value, inner))
    if origin is list:
        return type(value) is list and all(is_of_type(item, inner[0]) for item in value)
    if origin is dict:
        return type(value) is dict and all(
            is_of_type(key, inner[0]) and is_of_type(item, inner[1]) for key, item in value.items()
        )
    return type(value) is hint or (hint is float and type(value) is int)
