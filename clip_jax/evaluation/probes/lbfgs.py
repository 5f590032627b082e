"""L-BFGS for several smooth convex functions at once, on the device.

Each step evaluates all functions together and moves each one's own search on: one may be refining
its step while another takes its next direction. Memory, first step and conditions are those of
SciPy's L-BFGS-B without bounds (Nocedal and Wright, algorithms 7.4 and 3.5).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Function = Callable[[Array], tuple[Array, Array]]
"""Points [S, P] -> values [S] and gradients [S, P], row s of function s."""

MEMORY = 10
"""Last steps that the curvature is estimated from."""
FLATTER = 0.9
"""Share of its slope at which the search along a direction ends."""
GROWTH = 4.0
"""The next step beyond one that is too short, in units of the last advance."""
TRIALS = 30
"""Evaluations along one direction, after which the precision is exhausted."""


class Minimum(NamedTuple):
    """Where the search ended."""

    points: Array
    """[S, P]."""
    iterations: Array
    """[S] int: steps taken."""
    gradients: Array
    """[S]: the largest entry of each gradient."""


class _Memory(NamedTuple):
    """The last steps of each function and how its gradient changed, in a ring."""

    steps: Array  # [MEMORY, S, P]
    changes: Array  # [MEMORY, S, P]
    products: Array  # [MEMORY, S]: step . change
    stored: Array  # [S] int: how many there ever were


class _Search(NamedTuple):
    """Each function's accepted point, and the search along its direction."""

    point: Array  # [S, P]
    value: Array  # [S]
    gradient: Array  # [S, P]
    direction: Array  # [S, P]
    step: Array  # [S]: to be tried next
    low: Array  # [S]: the longest step known to be too short
    high: Array  # [S]: the shortest step known to be too long
    trials: Array  # [S] int
    iterations: Array  # [S] int
    memory: _Memory


def minimize(
    function: Function, start: Array, tolerance: Array | float, max_iterations: Array | int
) -> Minimum:
    """Minimise S functions from start [S, P]; call it under jit.

    Each ends when no entry of its gradient exceeds `tolerance` (one for all, or [S, P]), after
    `max_iterations` steps, or where the precision allows no further descent.
    """
    value, gradient = function(start)
    many, size = start.shape
    nothing, zeros = jnp.zeros((MEMORY, many, size), start.dtype), jnp.zeros(many, jnp.int32)
    search = _Search(
        point=start,
        value=value,
        gradient=gradient,
        direction=-gradient,
        step=1 / jnp.maximum(jnp.linalg.norm(gradient, axis=1), jnp.finfo(start.dtype).tiny),
        low=jnp.zeros_like(value),
        high=jnp.full_like(value, jnp.inf),
        trials=zeros,
        iterations=zeros,
        memory=_Memory(nothing, nothing, nothing[..., 0], zeros),
    )

    def active(search: _Search) -> Array:
        steep = (jnp.abs(search.gradient) > tolerance).any(axis=1)
        return steep & (search.iterations < max_iterations) & (search.trials < TRIALS)

    search = jax.lax.while_loop(
        lambda search: active(search).any(),
        lambda search: _advance(search, function, active(search)),
        search,
    )
    return Minimum(search.point, search.iterations, jnp.abs(search.gradient).max(axis=1))


def _advance(search: _Search, function: Function, active: Array) -> _Search:
    """Try the next step of all functions; where it will do, take it and choose a new direction."""
    moved = search.step[:, None] * search.direction
    point = search.point + moved
    value, gradient = function(point)
    before, after = _dot(search.gradient, search.direction), _dot(gradient, search.direction)
    # Of a convex function the slope alone tells a step that is too long from one too short. Values
    # only guard it, up to their rounding.
    rounding = 8 * jnp.finfo(value.dtype).eps * jnp.abs(search.value)
    too_short = after < FLATTER * before
    too_long = ~(after <= -FLATTER * before) | ~(value <= search.value + rounding)
    accepted = active & ~too_short & ~too_long

    memory = _store(search.memory, moved, gradient - search.gradient, accepted)
    direction = _direction(memory, gradient)
    low = jnp.where(too_short, search.step, search.low)
    high = jnp.where(too_long, search.step, search.high)
    longer = search.step + GROWTH * (search.step - search.low)
    shorter = search.step * _interpolate(search.value, value, before, after, search.step)
    inside = jnp.where(too_long & (search.low == 0), shorter, (low + high) / 2)
    refined = jnp.where(jnp.isinf(high), longer, inside)

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(accepted.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return _Search(
        point=choose(point, search.point),
        value=choose(value, search.value),
        gradient=choose(gradient, search.gradient),
        direction=choose(direction, search.direction),
        step=choose(jnp.ones_like(refined), refined),
        low=choose(jnp.zeros_like(low), low),
        high=choose(jnp.full_like(high, jnp.inf), high),
        trials=choose(jnp.zeros_like(search.trials), search.trials + active),
        iterations=search.iterations + accepted,
        memory=memory,
    )


def _interpolate(
    value: Array, end_value: Array, slope: Array, end_slope: Array, step: Array
) -> Array:
    """The share of a step that is too long at which to look for the minimum, as in SciPy's search.

    By the cubic that has both values and slopes; moderated by a parabola where the value rose, else
    by the slopes' zero (More and Thuente 1994, cases 1 and 2).
    """
    rise = (end_value - value) / step
    tilt = slope + end_slope - 3 * rise
    root = jnp.sqrt(jnp.maximum(tilt**2 - slope * end_slope, 0))
    cubic = (root + tilt - slope) / (2 * root + end_slope - slope)
    parabola, zero = slope / (slope - rise) / 2, slope / (slope - end_slope)
    risen = jnp.where(cubic < parabola, cubic, (cubic + parabola) / 2)
    share = jnp.where(rise > 0, risen, jnp.minimum(cubic, zero))
    return jnp.where((share > 0.01) & (share < 0.99), share, 0.5)


def _store(memory: _Memory, step: Array, change: Array, accepted: Array) -> _Memory:
    """Replace the oldest entry of the functions that took a step, unless it is flat."""
    product = _dot(step, change)
    curved = accepted & (product > jnp.finfo(step.dtype).eps * _dot(change, change))
    row, rows = memory.stored % MEMORY, jnp.arange(len(product))

    def put(ring: Array, new: Array) -> Array:
        kept = curved.reshape(-1, *[1] * (new.ndim - 1))
        return ring.at[row, rows].set(jnp.where(kept, new, ring[row, rows]))

    return _Memory(
        put(memory.steps, step),
        put(memory.changes, change),
        put(memory.products, product),
        memory.stored + curved,
    )


def _direction(memory: _Memory, gradient: Array) -> Array:
    """Minus the inverse curvature times the gradient: the two loops of algorithm 7.4."""
    functions = jnp.arange(len(gradient))

    def entry(age: Array | int) -> tuple[Array, Array, Array]:
        row = (memory.stored - 1 - age) % MEMORY
        product = jnp.where(memory.stored > age, memory.products[row, functions], jnp.inf)
        return memory.steps[row, functions], memory.changes[row, functions], product

    def from_newest(direction: Array, age: Array) -> tuple[Array, Array]:
        step, change, product = entry(age)
        weight = _dot(step, direction) / product
        return direction - weight[:, None] * change, weight

    def from_oldest(direction: Array, aged: tuple[Array, Array]) -> tuple[Array, None]:
        age, weight = aged
        step, change, product = entry(age)
        return direction + (weight - _dot(change, direction) / product)[:, None] * step, None

    ages = jnp.arange(MEMORY)
    direction, weights = jax.lax.scan(from_newest, -gradient, ages)
    _, change, product = entry(0)
    scale = jnp.where(memory.stored > 0, product / _dot(change, change), 1)
    direction, _ = jax.lax.scan(
        from_oldest, direction * scale[:, None], (ages, weights), reverse=True
    )
    return direction


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(axis=1)
