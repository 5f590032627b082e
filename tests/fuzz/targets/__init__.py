"""Everything of ours that reads what others wrote: parsers by name, in a module for each room."""

from fuzz.target import Target
from fuzz.targets import data, own, pictures, text, typed, weights

TARGETS = {
    name: value
    for module in (weights, data, text, pictures, own, typed)
    for name, value in vars(module).items()
    if isinstance(value, Target)
}
