"""What is read off programs: those of the CPU compiler, and forms of the TPU's and GPU's."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from clip_jax.parallel.hlo import Collective, Operation, collectives, kernel_cycles, operations

FLOAT = 4
ROUNDS = 5


@pytest.fixture(scope="module")
def compiled():
    """A function: compile, for a mesh of 2 x 4 devices, what each does with its [8, 16] part."""
    mesh = jax.make_mesh((2, 4), ("a", "b"), (AxisType.Auto,) * 2)

    def compile_for_mesh(function, out):
        shards = jax.shard_map(
            function, mesh=mesh, in_specs=P(("a", "b")), out_specs=out, check_vma=False
        )
        return jax.jit(shards).lower(jnp.zeros((64, 16))).compile().as_text()

    return compile_for_mesh


SHIFT = [(0, 1), (1, 2), (2, 3), (3, 0)]
WHOLE = 8 * 16 * FLOAT
CASES = {
    "all-reduce": (lambda x: jax.lax.psum(x, ("a", "b")), P(), 8, WHOLE),
    "all-gather": (lambda x: jax.lax.all_gather(x, "b", tiled=True), P("a"), 4, 4 * WHOLE),
    "reduce-scatter": (
        lambda x: jax.lax.psum_scatter(x, "b", tiled=True),
        P(("a", "b")),
        4,
        WHOLE,
    ),
    "all-to-all": (
        lambda x: jax.lax.all_to_all(x, "a", 0, 1, tiled=True),
        P(("a", "b")),
        2,
        WHOLE,
    ),
    "collective-permute": (lambda x: jax.lax.ppermute(x, "b", SHIFT), P(("a", "b")), 8, WHOLE),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_on_simulated_devices(compiled, kind):
    function, out, devices, size = CASES[kind]
    assert collectives(compiled(function, out)) == [Collective(kind, devices, size)]


def test_what_is_in_a_loop_counts_as_often_as_it_runs(compiled):
    def function(x):
        def inner(x, _):
            return x + jax.lax.psum(x, "b"), None

        def outer(x, _):
            return jax.lax.scan(inner, jax.lax.pmax(x, "a"), None, length=3)[0], None

        return jax.lax.scan(outer, x, None, length=ROUNDS)[0]

    found = collectives(compiled(function, P(("a", "b"))))
    assert sorted(found, key=lambda c: c.times) == [
        Collective("all-reduce", 2, WHOLE, times=ROUNDS),
        Collective("all-reduce", 4, WHOLE, times=3 * ROUNDS),
    ]


def test_a_program_without_collectives(compiled):
    assert collectives(compiled(jnp.sin, P(("a", "b")))) == []


@pytest.mark.parametrize(
    ("collective", "sent"),
    [
        (Collective("all-gather", 4, 100), 75),
        (Collective("reduce-scatter", 4, 100), 75),
        (Collective("all-to-all", 4, 100, times=2), 150),
        (Collective("all-reduce", 4, 100), 150),
        (Collective("collective-permute", 4, 100, times=3), 300),
        (Collective("all-reduce", 1, 100), 0),
    ],
)
def test_bytes_sent_around_a_ring(collective, sent):
    assert collective.sent == sent


# --- the TPU compiler's forms

HEAD = "HloModule jit_step, is_scheduled=true, num_partitions=8\n"
ADD = """
%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}
"""


def entry(*lines):
    body = "\n".join(f"  {line}" for line in lines)
    return f"{HEAD}{ADD}\nENTRY %main (p: f32[8,128]) -> f32[8,128] {{\n{body}\n}}\n"


ARRAY = "f32[8,128]{1,0:T(8,128)S(1)}"
PARAMETER = f"%p = {ARRAY} parameter(0)"


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("[4,2]<=[2,2,2]T(0,2,1)", 2),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", 4),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", 8),
        ("mesh['axis_0'=2,'axis_1'=4], device_ids=([2,2,2]T(1,0,2)) {'axis_0'}", 2),
        ("{}", 8),
    ],
)
def test_ways_to_write_groups(groups, devices):
    reduce = f"ROOT %r = {ARRAY} all-reduce(%p), replica_groups={groups}, to_apply=%add"
    assert collectives(entry(PARAMETER, reduce)) == [Collective("all-reduce", devices, 4096)]


def test_start_and_done_are_one():
    text = entry(
        PARAMETER,
        f"%s = ({ARRAY}, f32[64,128]{{1,0:T(8,128)}}) all-gather-start(%p), "
        "replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}",
        "ROOT %d = f32[64,128]{1,0:T(8,128)} all-gather-done(%s)",
    )
    assert collectives(text) == [Collective("all-gather", 8, 8 * 4096)]


def test_a_collective_inside_an_asynchronous_computation():
    """The size of a scatter is that of what it begins with."""
    inside = f"""
%scatter (i: f32[8,128]) -> f32[1,128] {{
  %i = {ARRAY} parameter(0)
  ROOT %r = f32[1,128]{{1,0}} reduce-scatter(%i), replica_groups=[1,8]<=[8], to_apply=%add
}}
"""
    text = entry(
        PARAMETER,
        f"%s = (({ARRAY}), f32[1,128]{{1,0}}, u32[]) async-start(%p), calls=%scatter",
        "ROOT %d = f32[1,128]{1,0} async-done(%s)",
    )
    assert collectives(text.replace(ADD, ADD + inside)) == [Collective("reduce-scatter", 8, 4096)]


def test_several_arrays_in_one_reduction():
    text = entry(
        PARAMETER,
        "%h = bf16[3]{0:T(256)(128)(2,1)} constant({...})",
        f"ROOT %r = ({ARRAY}, /*index=1*/bf16[3]{{0:T(256)}}, pred[]{{:T(512)}}) "
        "all-reduce(%p, %h, %h), replica_groups=[1,8]<=[8], to_apply=%add",
    )
    assert collectives(text) == [Collective("all-reduce", 8, 4096 + 6 + 1)]


def test_a_fused_reduction_of_which_a_slice_is_used_is_a_scatter():
    fused = f"""
%all-reduce-scatter (i: f32[8,128]) -> f32[1,128] {{
  %i = {ARRAY} parameter(0)
  %r = ({ARRAY}, {ARRAY}) all-reduce(%i, %i), replica_groups={{{{0,1,2,3,4,5,6,7}}}}, to_apply=%add
  %g = {ARRAY} get-tuple-element(%r), index=1
  %zero = u32[] constant(0)
  %id = u32[] partition-id()
  ROOT %s = f32[1,128]{{1,0}} dynamic-slice(%g, %id, %zero), dynamic_slice_sizes={{1,128}}
}}
"""
    text = entry(
        PARAMETER,
        "ROOT %f = f32[1,128]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter",
    )
    assert collectives(text.replace(ADD, ADD + fused)) == [
        Collective("reduce-scatter", 8, 2 * 4096)
    ]


def test_parts_of_one_collective_overlapped_with_kernels_are_one():
    part = """
%async_collective_fusion.{0} (i: f32[8,128]) -> f32[64,128] {{
  %i = f32[8,128]{{1,0}} parameter(0)
  ROOT %gather.{0} = f32[64,128]{{1,0}} all-gather(%i), replica_groups=[1,8]<=[8], chain_id="7"
}}
"""
    calls = [
        f"%f.{n} = f32[64,128]{{1,0}} fusion(%p), kind=kCustom, calls=%async_collective_fusion.{n}"
        for n in (1, 2, 3)
    ]
    text = entry(PARAMETER, *calls).replace(ADD, "".join(part.format(n) for n in (1, 2, 3)))
    assert collectives(text) == [Collective("all-gather", 8, 8 * 4096)]


LOOP = """
%condition (state: (s32[], f32[8,128])) -> pred[] {
  %end = s32[]{:T(128)} constant(11)
  %state = (s32[]{:T(128)}, f32[8,128]{1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %more = pred[]{:T(512)} compare(%i, %end), direction=LT
}

%fused (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0} parameter(0)
  ROOT %n = f32[8,128]{1,0} negate(%a), config={"estimated_cycles":"999"}
}

%body (state: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %state = (s32[]{:T(128)}, f32[8,128]{1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %x = f32[8,128]{1,0} get-tuple-element(%state), index=1
  %r = f32[8,128]{1,0} all-reduce(%x), replica_groups=[1,8]<=[8], to_apply=%add
  %f = f32[8,128]{1,0} fusion(%r), calls=%fused, config={"estimated_cycles":"10"}
  ROOT %next = (s32[]{:T(128)}, f32[8,128]{1,0}) tuple(%i, %f)
}
"""
LOOPING = entry(
    PARAMETER,
    "%zero = s32[]{:T(128)} constant(0)",
    "%start = (s32[]{:T(128)}, f32[8,128]{1,0}) tuple(%zero, %p)",
    "%w = (s32[]{:T(128)}, f32[8,128]{1,0}) while(%start), condition=%condition, body=%body",
    f'%c = {ARRAY} copy(%p), backend_config={{"window_config":{{"estimated_cycles":"7"}}}}',
    "ROOT %x = f32[8,128]{1,0} get-tuple-element(%w), index=1",
).replace(ADD, ADD + LOOP)


def test_the_length_of_a_loop_is_read_off_its_condition():
    assert collectives(LOOPING) == [Collective("all-reduce", 8, 4096, times=11)]


def test_kernels_count_as_often_as_they_run_and_once_as_a_whole():
    assert kernel_cycles(LOOPING) == 11 * 10 + 7


def test_no_estimate_on_other_platforms(compiled):
    assert kernel_cycles(compiled(functools.partial(jnp.multiply, 2), P(("a", "b")))) == 0


# --- what instructions are for


def test_instructions_of_a_compiled_program_are_told_apart():
    def function(a, b):
        with jax.named_scope("multiply"):
            product = a @ b
        with jax.named_scope("change"):
            changed = jnp.sin(a) + 1
        with jax.named_scope("turn"):
            return product, changed, b.T

    shapes = (96, 64), (64, 80)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = operations(jax.jit(function).lower(*arguments).compile().as_text())
    kinds = {
        part: {found.kind for found in found.values() if f"/{part}/" in found.scope}
        for part in ("multiply", "change", "turn")
    }
    assert kinds == {"multiply": {"products"}, "change": {"elementwise"}, "turn": {"copies"}}


FUSED = """
%fused (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0} parameter(0)
  %d = f32[8,128]{1,0} dot(%a, %a), metadata={op_name="jit(f)/image/dot_general"}
  ROOT %n = f32[8,128]{1,0} negate(%d), metadata={op_name="jit(f)/image/neg"}
}

%moved (b: f32[8,128]) -> f32[8,128] {
  %b = f32[8,128]{1,0} parameter(0)
  ROOT %t = f32[8,128]{1,0} transpose(%b), dimensions={1,0}
}
"""
GEMM = 'custom_call_target="__cublas$lt$matmul", metadata={op_name="jit(f)/text/dot_general"}'
KINDS = {
    "f": (f"%f = {ARRAY} fusion(%p), kind=kOutput, calls=%fused", "products"),
    "m": (f"%m = {ARRAY} fusion(%p), kind=kLoop, calls=%moved", "copies"),
    "g": (f"%g = ({ARRAY}, s8[64]) custom-call(%p), {GEMM}", "products"),
    "h": (f'%h = {ARRAY} custom-call(%p), custom_call_target="ConvertSomething"', "elementwise"),
    "s": (f"%s = ({ARRAY}, {ARRAY}) all-reduce-start(%p), replica_groups={{}}", "collectives"),
    "e": (f"%e = {ARRAY} all-reduce-done(%s)", "collectives"),
    "c": (f"%c = {ARRAY} copy(%p)", "copies"),
    "k": (f"%k = {ARRAY} add(%p, %p)", "elementwise"),
    "w": (f"%w = {ARRAY} while(%p), condition=%add, body=%add", "control"),
}


def test_what_the_compilers_of_accelerators_write():
    text = entry(PARAMETER, *(line for line, _ in KINDS.values())).replace(ADD, ADD + FUSED)
    found = operations(text)
    assert {name: found[name].kind for name in KINDS} == {n: k for n, (_, k) in KINDS.items()}
    assert found["f"] == Operation("products", "jit(f)/image/dot_general")
    assert found["g"].scope == "jit(f)/text/dot_general"
    assert not {"d", "n", "t"} & found.keys()
