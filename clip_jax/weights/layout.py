"""Between a checkpoint's named tensors and our variables: a layout is a list of correspondences.

The same list serves reading and writing. It is made for an architecture by openai.py and
huggingface.py, each for the names of its own format.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clip_jax.errors import InputError
from clip_jax.weights.fields import shown
from clip_jax.weights.lazy import LazyTensor


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint and its place in our variables."""

    name: str
    """Its name in the checkpoint."""
    path: str
    """The leaf of ours that holds it: "params/image/projection"."""
    index: tuple[int | slice, ...] = ()
    """Which part of the leaf it is: in a stack of layers, for instance, the layer's number."""
    axes: tuple[int, ...] | None = None
    """That part's axes in the order of the tensor's; None leaves them."""
    joined: tuple[int, ...] | None = None
    """The tensor's shape, where one axis of it stands for several of ours."""

    def view(self, leaf: np.ndarray) -> np.ndarray:
        """The part of the leaf, with its axes in the tensor's order."""
        part = leaf[(*self.index, ...)]
        return part if self.axes is None else part.transpose(self.axes)

    def shape(self, leaf: jax.ShapeDtypeStruct) -> tuple[int, ...]:
        """The tensor's shape in a model whose leaf has this shape."""
        # An array of that shape which takes no memory, whatever the config claims.
        return self.joined or self.view(np.broadcast_to(np.False_, leaf.shape)).shape


def read_variables(
    layout: Sequence[Tensor], tensors: Mapping[str, LazyTensor], shapes: Any, source: str
) -> Any:
    """Tensors -> float32 variables with the tree and the shapes of `shapes` (eval_shape's).

    One leaf is filled at a time, the largest first, so that memory never holds much more than the
    result. Raises InputError that names tensors which are missing, left over, of another shape or
    not floats.
    """
    leaves = flatten_dict(shapes, sep="/")
    check_tensors(layout, tensors, leaves, source)
    by_path = groupby(sorted(layout, key=attrgetter("path")), attrgetter("path"))
    groups = {path: list(group) for path, group in by_path}
    filled = {}
    for path, group in sorted(groups.items(), key=lambda item: -leaves[item[0]].size):
        leaf = np.empty(leaves[path].shape, np.float32)
        for tensor in group:
            view = tensor.view(leaf)
            view[...] = tensors[tensor.name].read().reshape(view.shape)
        filled[path] = jnp.asarray(leaf)
    places = flatten_dict(shapes, keep_empty_nodes=True)
    return unflatten_dict({path: filled.get("/".join(path), leaf) for path, leaf in places.items()})


def write_tensors(layout: Sequence[Tensor], variables: Any) -> dict[str, np.ndarray]:
    """The inverse: variables -> float32 tensors by their names in the checkpoint."""
    leaves = {path: np.asarray(leaf) for path, leaf in flatten_dict(variables, sep="/").items()}
    tensors = {}
    for tensor in layout:
        view = tensor.view(leaves[tensor.path])
        shape = tensor.joined or view.shape
        tensors[tensor.name] = np.array(view.reshape(shape), np.float32, order="C")
    return tensors


def check_tensors(
    layout: Iterable[Tensor],
    tensors: Mapping[str, LazyTensor],
    leaves: Mapping[str, Any],
    source: str,
) -> None:
    """Raise InputError unless the tensors are exactly those of the layout, shapes included."""
    expected = {tensor.name: tensor.shape(leaves[tensor.path]) for tensor in layout}
    found = {name: tensors[name] for name in expected if name in tensors}
    problems = {
        "missing": [shown(name) for name in sorted(expected.keys() - found.keys())],
        "unknown": [shown(name) for name in sorted(tensors.keys() - found.keys())],
        "misshapen": [
            f"{shown(name)} is {shown(list(tensor.shape))} instead of {list(expected[name])}"
            for name, tensor in found.items()
            if tensor.shape != expected[name]
        ],
        "not floats": [
            f"{shown(name)} is {tensor.dtype}"
            for name, tensor in found.items()
            if not jnp.issubdtype(tensor.dtype, jnp.floating)
        ],
    }
    lines = [
        f"{what}: {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if names[3:] else "")
        for what, names in problems.items()
        if names
    ]
    if lines:
        raise InputError(f"{source}: not the tensors of this architecture; {'; '.join(lines)}")
