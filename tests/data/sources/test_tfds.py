"""Data sets of TensorFlow Datasets, prepared here from a few pictures, without TensorFlow."""

import io
import pickle
import sys

import numpy as np
import pytest
from shards import encode, solid

from clip_jax.data.sources.array_record import ArrayRecordPairs
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.tfds import TfdsPairs, open_tfds_labelled
from clip_jax.errors import InputError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the data set "tiny": 4 pictures in the split test."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="TFDS is not installed")
    folder = tmp_path_factory.mktemp("tfds")

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # found by its files
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["cat", "hot_dog"]),
                "caption": tfds.features.Text(),
                "captions": tfds.features.Sequence({"text": tfds.features.Text()}),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, manager):
            return {"test": self._generate_examples()}

        def _generate_examples(self):
            for n in range(4):
                image = io.BytesIO(encode(solid(n)))
                several = [{"text": f"{n} one"}, {"text": f"{n} two"}]
                yield n, {"image": image, "label": n % 2, "caption": f"{n}", "captions": several}

    Tiny(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture
def tiny(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return prepared


def test_pairs(tiny):
    pairs = TfdsPairs("tiny:test", FieldNames())
    numbers = [int(pairs.captions(i)[0]) for i in range(len(pairs))]
    assert sorted(numbers) == [0, 1, 2, 3]
    for index, number in enumerate(numbers):
        pair = pairs[index]
        assert (pair.image, pair.captions) == (encode(solid(number)), (str(number),))
    assert pickle.loads(pickle.dumps(pairs))[2] == pairs[2]
    assert "tensorflow" not in sys.modules


def test_several_captions_and_parts_of_splits(tiny):
    pairs = TfdsPairs("tiny:test[1:3]", FieldNames(caption="captions"))
    assert len(pairs) == 2
    number = pairs.captions(0)[0][0]
    assert pairs[0].captions == (f"{number} one", f"{number} two")


def test_classification_sets(tiny):
    data = open_tfds_labelled("tiny:test", FieldNames())
    assert (data.name, data.classnames) == ("tiny", ["cat", "hot dog"])
    whole = TfdsPairs("tiny:test", FieldNames())
    assert list(data.labels) == [int(whole.captions(i)[0]) % 2 for i in range(4)]
    assert data.images[2] == whole[2].image
    assert np.issubdtype(data.labels.dtype, np.integer)


def test_its_files_are_array_records_too(tiny):
    (file,) = (tiny / "tiny" / "1.0.0").glob("*array_record*")
    pairs = ArrayRecordPairs(str(file), FieldNames())
    whole = TfdsPairs("tiny:test", FieldNames())
    assert [pairs[i].image for i in range(4)] == [whole[i].image for i in range(4)]
    assert [pairs[i].captions for i in range(4)] == [whole[i].captions for i in range(4)]


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        ("tiny", FieldNames(), "name a split: tfds:tiny:train"),
        ("tiny:none", FieldNames(), "tfds:tiny:none: .*none"),
        ("no_such_set:test", FieldNames(), "no_such_set"),
        ("tiny:test", FieldNames(image="picture"), "no feature 'picture' among .*'label'"),
        ("tiny:test", FieldNames(caption="text"), "no captions"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(tiny, spec, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        TfdsPairs(spec, fields)
    assert "\n" not in str(caught.value)


def test_without_tfds_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match="pip install tensorflow-datasets"):
        TfdsPairs("tiny:test", FieldNames())
