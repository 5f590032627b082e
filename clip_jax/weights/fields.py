"""Reading a foreign JSON config so that nothing in it is silently ignored."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from clip_jax.errors import InputError

_REQUIRED = object()


def _short_repr() -> reprlib.Repr:
    shorten = reprlib.Repr()
    shorten.maxstring = shorten.maxother = 80
    return shorten


shown = _short_repr().repr
"""A value from a file as part of one line: shortened, and without line breaks."""


class Fields:
    """The fields of a JSON object, each of which must be taken, expected or skipped."""

    def __init__(self, values: Any, source: str):
        if not isinstance(values, Mapping):
            raise InputError(f"{source}: expected a JSON object, got {shown(values)}")
        self.source = source
        self._left = dict(values)

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """The value of a field, or the default; without one the field must be there."""
        value = self._left.pop(name, default)
        if value is _REQUIRED:
            raise InputError(f"{self.source}: has no field {name}")
        return value

    def section(self, name: str, optional: bool = False) -> "Fields":
        """A nested object; an optional one may be absent or null."""
        values = self.take(name, None if optional else _REQUIRED)
        absent = values is None and optional
        return Fields({} if absent else values, f"{self.source}: {name}")

    def without_nulls(self) -> "Fields":
        """These fields but for those that are null, where that stands for the default."""
        given = {name: value for name, value in self._left.items() if value is not None}
        return Fields(given, self.source)

    def integer(self, name: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.take(name, _REQUIRED if default is None else default)
        if type(value) is not int or value < 1:
            raise InputError(f"{self.source}: {name} = {shown(value)} is no positive whole number")
        return value

    def number(self, name: str) -> float | None:
        """A number of moderate size, which may be absent or null."""
        value = self.take(name, None)
        if value is None or (type(value) in (int, float) and -1e6 <= value <= 1e6):
            return value
        raise InputError(f"{self.source}: {name} = {shown(value)} is no number")

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise InputError(f"{self.source}: {name} = {shown(value)} is neither true nor false")
        return value

    def colour(
        self, name: str, default: tuple[float, ...], positive: bool = False
    ) -> tuple[float, float, float]:
        """Three numbers for red, green and blue: a mean, or a (positive) standard deviation."""
        values = self.take(name, default)
        smallest = 1e-6 if positive else -1e6
        numbers = isinstance(values, (list, tuple)) and all(
            type(value) in (int, float) and smallest <= value <= 1e6 for value in values
        )
        if not numbers or len(values) != 3:
            kind = "positive numbers" if positive else "numbers"
            raise InputError(f"{self.source}: {name} = {shown(values)} are not three {kind}")
        red, green, blue = values
        return (red, green, blue)

    def choice(self, name: str, choices: Sequence[str], default: str) -> Any:
        """One of some words."""
        value = self.take(name, default)
        if value not in choices:
            raise InputError(
                f"{self.source}: {name} = {shown(value)} is not supported, "
                f"only {', '.join(choices)}"
            )
        return value

    def expect(self, name: str, only: Any) -> None:
        """Refuse a field that is there with another value than this."""
        value = self._left.pop(name, only)
        if value != only:
            raise InputError(
                f"{self.source}: {name} = {shown(value)} is not supported, only {only!r}"
            )

    def skip(self, *names: str) -> None:
        """Leave out fields that do not change what the model computes."""
        for name in names:
            self._left.pop(name, None)

    def refuse_others(self) -> None:
        """Refuse any field that is left and turned on."""
        for name, value in self._left.items():
            if value:
                raise InputError(f"{self.source}: {shown(name)} = {shown(value)} is not supported")
