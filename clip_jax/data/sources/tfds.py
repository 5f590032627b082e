"""Data sets of TensorFlow Datasets, through tfds.data_source, without TensorFlow."""

import os
from typing import Any

import numpy as np

from clip_jax.data.samples import Image, LabelledImages, Pair, to_captions
from clip_jax.data.sources.fields import FieldNames
from clip_jax.errors import InputError

CAPTIONS = ("caption", "captions")
"""Features that are captions in TFDS's data sets."""


class TfdsImages:
    """The pictures of a split."""

    def __init__(self, records: Any, field: str):
        self._records, self._field = records, field

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Image:
        return self._records[index][self._field]


class TfdsPairs:
    """Pictures of NAME[/config]:SPLIT with their captions, or their class put into the templates.

    Raises InputError if there is no such data set, or no feature for pictures or captions.
    """

    def __init__(self, spec: str, fields: FieldNames):
        info, self._records, self._image = _open(spec, fields)
        self._name, self._fields, self.problems = f"tfds:{spec}", fields, dict[str, int]()
        names = [fields.caption] if fields.caption else CAPTIONS
        self._caption = next((name for name in names if name in info.features), None)
        self._classnames = _class_names(info)
        if self._caption is None and (fields.caption or not self._classnames):
            raise InputError(
                f"tfds:{spec}: no captions and no classes among {sorted(info.features)}; "
                "see fields.caption"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Pair:
        record = self._records[index]
        return Pair(f"{self._name}:{index}", record[self._image], self._captions(record))

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one record; its picture is read but not decoded."""
        return self._captions(self._records[index])

    def _captions(self, record: dict[str, Any]) -> tuple[str, ...]:
        if self._caption is None:
            return self._fields.fill(self._classnames[int(record["label"])])
        value = record[self._caption]
        return to_captions(value.get("text") if isinstance(value, dict) else value)


def open_tfds_labelled(spec: str, fields: FieldNames) -> LabelledImages:
    """A classification set: pictures with TFDS's feature `label`."""
    info, records, image = _open(spec, fields)
    classnames = _class_names(info)
    if not classnames:
        raise InputError(f"tfds:{spec}: no feature 'label' with classes; it is not for zeroshot")
    labels = np.array([int(records[i]["label"]) for i in range(len(records))])
    images = TfdsImages(records, image)
    return LabelledImages(info.name, images, labels, classnames, list(fields.templates))


def _class_names(info: Any) -> list[str]:
    names = getattr(dict(info.features).get("label"), "names", None) or []
    return [name.replace("_", " ") for name in names]


def _open(spec: str, fields: FieldNames) -> tuple[Any, Any, str]:
    """What TFDS knows of a data set, the records of a split, and their field for pictures."""
    name, colon, split = spec.partition(":")
    if not colon or not split:
        raise InputError(f"tfds:{spec}: name a split: tfds:{name}:train")
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(
            f"tfds:{spec}: needs another package; pip install tensorflow-datasets"
        ) from None
    image = fields.image or "image"
    try:
        builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
        if image not in builder.info.features:
            raise InputError(
                f"tfds:{spec}: no feature {image!r} among {sorted(builder.info.features)}; "
                "see fields.image"
            )
        decoders = {image: tfds.decode.SkipDecoding()}
        return builder.info, builder.as_data_source(split=split, decoders=decoders), image
    except InputError:
        raise
    except Exception as error:  # TFDS raises all kinds, over many lines
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"tfds:{spec}: {reason}") from None
