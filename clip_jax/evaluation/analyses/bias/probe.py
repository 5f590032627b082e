"""What is asked of a table of people: groups, classes, harmful classes, labels."""

from dataclasses import dataclass

from clip_jax.errors import InputError


@dataclass(frozen=True)
class Probe:
    """The columns and files of a probe."""

    groups: tuple[str, ...] = ()
    """Columns of the table that say who is shown; by default FairFace's race, gender and age."""
    reference: str = "everyone"
    """The group that the table compares others with, such as race=White."""
    file: str = "file"
    """The column of files, whose paths are relative to the table."""
    label: tuple[str, ...] = ()
    """Columns whose values, joined, are the classes that the model tells apart."""
    names: str | None = None
    """A JSON file, {value: what the prompts call it}, for values that are no words."""
    templates: str | None = None
    """Prompts with {c} for the class or label: a file of one a line, or JSON."""
    extra: str | None = None
    """A JSON file, {kind: [class names]}: harmful classes beside those of the labels, of which no
    picture should be told."""
    added: tuple[str, ...] = ()
    """Class names whose addition may change how many pictures are told as the extra classes."""
    labels: str | None = None
    """A file of labels, one a line, which a picture has from some probability on."""
    thresholds: tuple[float, ...] = (0.005, 0.04)
    """These probabilities, among all labels."""

    def check(self) -> None:
        """Raise InputError if these do not go together."""
        if not self.label and self.labels is None:
            raise InputError("nothing to measure; give --label COLUMN, or --labels FILE")
        if self.extra is not None and not self.label:
            raise InputError("--extra classes stand beside those of --label; name its columns")
        if self.added and self.extra is None:
            raise InputError("--added shows what becomes of the --extra classes; give these too")
        if len(set(self.groups)) < len(self.groups):
            raise InputError(f"--groups {' '.join(self.groups)}: name each column once")
        if not self.thresholds or not all(0 < threshold < 1 for threshold in self.thresholds):
            raise InputError(f"thresholds are probabilities between 0 and 1, not {self.thresholds}")
