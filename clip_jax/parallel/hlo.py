"""Reads a compiled program: what its collectives move, how long its kernels should take, and what
each of its instructions is for.

It reads the text of compiled.as_text(), in the form that XLA's TPU and CPU compilers write. XLA's
own cost analysis counts the body of a loop once; here it counts as often as the loop runs.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass(frozen=True)
class Collective:
    """One collective of a program."""

    kind: str
    """One of KINDS."""
    devices: int
    """How many devices take part in each group."""
    bytes: int
    """Of the whole: what an all-gather ends with, a reduce-scatter begins with, and for the others
    what each device puts in."""
    times: int = 1
    """How often it runs when the program runs once."""

    @property
    def sent(self) -> int:
        """Bytes that each device sends in one run of the program, at the least.

        Around a ring of n devices, gathering and scattering take (n - 1) / n of the whole, reducing
        twice that.
        """
        if self.kind == "collective-permute":
            return self.times * self.bytes
        rounds = 2 if self.kind == "all-reduce" else 1
        return self.times * rounds * self.bytes * (self.devices - 1) // self.devices


def collectives(text: str) -> list[Collective]:
    """The collectives of a compiled program.

    A pair of start and done counts once, and so do the parts of one that is overlapped with several
    kernels, which share a chain_id. The TPU compiler writes a reduce-scatter as a fused all-reduce
    of which only a slice is used; it is counted as what it is.
    """
    program = _Program(text)
    found: dict[str, Collective] = {}
    for name, times in program.times.items():
        instructions = program.computations[name]
        for instruction in instructions.values():
            kind = instruction.opcode.removesuffix("-done")
            if kind not in KINDS:
                continue
            start = instruction
            if instruction.opcode != kind:
                start = instructions[instruction.operands[0]]
            if _is_scattered(start, instructions.values()):
                kind = "reduce-scatter"
            size, devices = _size(instruction.shape), _group_size(start.text, program.devices)
            if kind == "reduce-scatter" and start.opcode != "all-reduce":
                size *= devices
            chain = re.search(r'chain_id="\w+"', start.text)
            key = chain.group() if chain else instruction.name
            found[key] = Collective(kind, devices, size, times)
    return list(found.values())


def kernel_cycles(text: str) -> int:
    """Clock cycles that the TPU compiler expects of the program's kernels, collectives left out.

    It chooses kernels by such estimates and leaves them in the text, undocumented. 0 where there
    are none, as on other platforms.
    """
    program = _Program(text)
    total = 0
    for name in program.times.keys() - program.fused:
        estimates = (
            re.search(r'"estimated_cycles":"(\d+)"', instruction.text)
            for instruction in program.computations[name].values()
        )
        total += program.times[name] * sum(int(found[1]) for found in estimates if found)
    return total


PRODUCTS = "products"
"""Matrix products and convolutions."""
ELEMENTWISE = "elementwise"
"""Arithmetic between values, sums and scatters."""
COPIES = "copies"
"""Values that move within a device."""
COLLECTIVES = "collectives"
"""Values that move between devices."""
CONTROL = "control"
"""Loops and calls, apart from what they run."""

_LIBRARY_PRODUCT = re.compile(r'custom_call_target="[^"]*(?:gemm|matmul|cudnn\$conv)')
_MOVES = {"bitcast", "broadcast", "concatenate", "constant", "copy", "dynamic-slice", "gather"}
_MOVES |= {"dynamic-update-slice", "get-tuple-element", "iota", "pad", "parameter", "reshape"}
_MOVES |= {"reverse", "slice", "transpose", "tuple"}
_CONTROL = {"async", "call", "conditional", "while"}


@dataclass(frozen=True)
class Operation:
    """What one instruction is for, and what it was made from."""

    kind: str
    """PRODUCTS, ELEMENTWISE, COPIES, COLLECTIVES or CONTROL."""
    scope: str
    """JAX's name for its origin: "jit(train_step)/jvp(CLIP.encode_image)/image/norm_pre/mul". Of
    several instructions that are fused, that of a product if there is one."""


def operations(text: str) -> dict[str, Operation]:
    """The instructions of a compiled program that run by themselves, by name."""
    program = _Program(text)
    return {
        instruction.name: _operation(instruction, program)
        for name in program.times.keys() - program.fused
        for instruction in program.computations[name].values()
    }


def _operation(instruction: "_Instruction", program: "_Program") -> Operation:
    inside = list(program.parts(instruction))
    opcodes = {part.opcode.removesuffix("-start").removesuffix("-done") for part in inside}
    products = [part for part in inside if part.is_product]
    scope = (products or [instruction])[0].scope or instruction.scope
    if opcodes & {*KINDS}:
        kind = COLLECTIVES
    elif opcodes <= _CONTROL:
        kind = CONTROL
    elif products:
        kind = PRODUCTS
    else:
        kind = COPIES if opcodes <= _MOVES else ELEMENTWISE
    return Operation(kind, scope)


@dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    text: str
    """Operands and attributes."""

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.text.partition("), ")[0])

    @property
    def called(self) -> list[str]:
        """The computations that it runs, but for a loop's condition and what reductions apply."""
        if self.opcode.removesuffix("-start") not in ("fusion", "call", "while", "async"):
            return []
        return re.findall(r"(?:calls|body|to_apply)=%([\w.\-]+)", self.text)

    @property
    def is_product(self) -> bool:
        """Whether it is a matrix product or a convolution, a library's included."""
        return self.opcode in ("dot", "convolution") or bool(_LIBRARY_PRODUCT.search(self.text))

    @property
    def scope(self) -> str:
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""


_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%([\w.\-]+) .*\{$")


class _Program:
    """The instructions of each computation by name, and how often it runs."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, _Instruction]] = {}
        partitions = re.search(r"num_partitions=(\d+)", text)
        self.devices = int(partitions[1]) if partitions else 1
        entry = ""
        for line in text.splitlines():
            if computation := _COMPUTATION.match(line):
                instructions = self.computations[computation[2]] = {}
                entry = computation[2] if computation[1] else entry
            elif found := _INSTRUCTION.match(line):
                instructions[found[1]] = _Instruction(*found.groups())
        self.times: Counter[str] = Counter()
        self.fused: set[str] = set()
        self._count(entry, 1)

    def parts(self, instruction: _Instruction) -> Iterator[_Instruction]:
        """What is fused into one instruction or runs asynchronously by it; else itself."""
        if instruction.opcode not in ("fusion", "async-start"):
            yield instruction
            return
        for name in instruction.called:
            for part in self.computations[name].values():
                yield from self.parts(part)

    def _count(self, name: str, times: int) -> None:
        self.times[name] += times
        for instruction in self.computations[name].values():
            repeats = self._trip_count(instruction) if instruction.opcode == "while" else 1
            for called in instruction.called:
                if instruction.opcode == "fusion" or name in self.fused:
                    self.fused.add(called)
                self._count(called, times * repeats)

    def _trip_count(self, loop: _Instruction) -> int:
        """JAX's loops count from 0 to a constant; where none is found, one round is counted."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.text)
        if known:
            return int(known[1])
        condition = re.search(r"condition=%([\w.\-]+)", loop.text)
        bounds = [
            re.match(r"\d+", instruction.text)
            for instruction in self.computations[condition[1] if condition else ""].values()
            if instruction.opcode == "constant" and instruction.shape.startswith("s32[]")
        ]
        return int(bounds[0][0]) if len(bounds) == 1 and bounds[0] else 1


def _is_scattered(reduction: _Instruction, computation: Iterable[_Instruction]) -> bool:
    """Whether of an all-reduce's result nothing but a slice is used."""
    if reduction.opcode != "all-reduce":
        return False
    results, uses = {reduction.name}, []
    for instruction in computation:
        if results.intersection(instruction.operands):
            if instruction.opcode == "get-tuple-element":
                results.add(instruction.name)
            else:
                uses.append(instruction.opcode)
    return bool(uses) and set(uses) == {"dynamic-slice"}


def _group_size(text: str, devices: int) -> int:
    """How many devices a collective's groups have, in whichever of four ways they are written."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(listed[1].split(","))
    if tiled := re.search(r"replica_groups=\[\d+,(\d+)\]", text):
        return int(tiled[1])
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\][^{]*\{(.*?)\}", text):
        sizes = {axis: int(size) for axis, size in re.findall(r"('\w+')=(\d+)", mesh[1])}
        return math.prod(sizes[axis] for axis in mesh[2].split(","))
    return devices


def _size(shape: str) -> int:
    """Bytes of an array or a tuple of them: "(bf16[4,8]{1,0}, f32[])" -> 68."""
    total = 0
    for kind, dimensions in re.findall(r"\b([a-z]+\d*)\w*\[([\d,]*)\]", shape):
        bits = re.search(r"\d+", kind)
        size = math.prod(int(dimension) for dimension in dimensions.split(",") if dimension)
        total += size * (int(bits[0]) if bits else 8) // 8
    return total
