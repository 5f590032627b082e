"""tf.train.Example, the message that ArrayRecord files usually hold, without TensorFlow."""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

SCHEMA = """
name: "clip_jax/example.proto" package: "clip_jax" syntax: "proto3"
message_type {
  name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".clip_jax.Features" }
}
message_type {
  name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED
          type: TYPE_MESSAGE type_name: ".clip_jax.Features.FeatureEntry" }
  nested_type {
    name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL
            type: TYPE_MESSAGE type_name: ".clip_jax.Feature" }
  }
}
message_type {
  name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".clip_jax.BytesList" }
}
message_type {
  name: "BytesList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES }
}
"""
"""tensorflow/core/example/example.proto, but for features that are numbers."""


def pack(features: dict[str, list[bytes]]) -> bytes:
    """Lists of bytes by name -> a message."""
    example = _example()()
    for name, values in features.items():
        example.features.feature[name].bytes_list.value.extend(values)
    return example.SerializeToString()


def unpack(message: bytes) -> dict[str, list[bytes]]:
    """A message -> its lists of bytes by name, empty ones for numbers. Raises ValueError."""
    example = _example()()
    try:
        example.ParseFromString(message)
    except DecodeError:
        raise ValueError("the record is not a tf.train.Example") from None
    features = example.features.feature
    return {name: list(features[name].bytes_list.value) for name in features}


@cache
def _example() -> Any:
    """The message's class, apart from TensorFlow's own, which may be loaded too."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(SCHEMA, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("clip_jax.Example"))
