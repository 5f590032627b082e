"""What a data set calls its pictures and captions."""

from dataclasses import dataclass

from clip_jax.errors import InputError


@dataclass(frozen=True)
class FieldNames:
    """Where pictures and captions are, in data that does not use the usual names."""

    image: str | None = None
    """Column or feature of pictures; by default filepath in csv files, jpg in Parquet, else image.
    """
    caption: str | None = None
    """Column, feature or field of a .json with a caption or a list of captions; by default title in
    csv files, else caption."""
    separator: str = "\t"
    """What divides the columns of csv files."""
    templates: tuple[str, ...] = ("a photo of a {c}.",)
    """Captions of pictures that have only a class, with {c} for its name."""

    def __post_init__(self) -> None:
        if len(self.separator) != 1:
            raise InputError(f"fields.separator must be one character, not {self.separator!r}")
        if not self.templates or any("{c}" not in template for template in self.templates):
            raise InputError("fields.templates must be sentences with {c} for the class")

    def fill(self, classname: str) -> tuple[str, ...]:
        """The captions of a picture of a class."""
        return tuple(template.replace("{c}", classname) for template in self.templates)
