"""Several functions at once, each to its own minimum as if it were alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from clip_jax.evaluation.probes.lbfgs import minimize

SIZE = 30


def quadratics(conditions):
    """x A x / 2 - b x with these condition numbers: matrices, vectors, and their solutions."""
    rng = np.random.default_rng(0)
    matrices = []
    for condition in conditions:
        basis, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
        matrices.append(basis * np.geomspace(1, condition, SIZE) @ basis.T)
    matrices, vectors = np.array(matrices), rng.normal(size=(len(conditions), SIZE))
    return matrices, vectors, np.linalg.solve(matrices, vectors[..., None])[..., 0]


def test_quadratics_of_different_conditions():
    matrices, vectors, solutions = quadratics([1, 10, 300])

    def function(points):
        products = jnp.einsum("sij,sj->si", matrices, points, precision="highest")
        return (points * (products / 2 - vectors)).sum(axis=1), products - vectors

    start = np.zeros((3, SIZE), np.float32)
    found = jax.jit(lambda x: minimize(function, x, 1e-4, 1000))(start)
    np.testing.assert_allclose(found.points, solutions, atol=1e-3)
    assert (found.gradients <= 1e-4).all()
    assert found.iterations[0] < found.iterations[1] < found.iterations[2] < 300


def valley(points):
    """log cosh in one direction, far from quadratic, and parabolas in the others."""
    scale = jnp.geomspace(1e-2, 3, SIZE)
    shifted = points - 1
    value = jnp.logaddexp(5 * shifted[..., 0], -5 * shifted[..., 0])
    return value + (scale * shifted**2).sum(axis=-1)


@pytest.mark.parametrize("steps", [1, 5, 30])
def test_the_path_is_scipy_s(steps):
    """In float64, where rounding does not part the two."""
    start = np.stack([np.full(SIZE, 9.0), np.linspace(-3, 4, SIZE)])
    with jax.enable_x64(True):
        function = jax.vmap(jax.value_and_grad(valley))
        found = jax.jit(lambda x: minimize(function, x, 1e-9, steps))(start)
        single = jax.jit(jax.value_and_grad(valley))
        for row, first in enumerate(start):
            peer = scipy.optimize.minimize(
                lambda x: tuple(map(np.asarray, single(x))),
                first,
                jac=True,
                method="L-BFGS-B",
                options={"gtol": 1e-9, "ftol": 0, "maxiter": steps},
            )
            assert int(found.iterations[row]) == peer.nit == steps
            np.testing.assert_allclose(found.points[row], peer.x, atol=1e-7)


def test_together_is_as_alone():
    function = jax.vmap(jax.value_and_grad(valley))
    starts = np.random.default_rng(1).normal(size=(4, SIZE)).astype(np.float32) * 5
    solve = jax.jit(lambda x: minimize(function, x, 1e-3, 1000))
    together = solve(starts)
    for row, start in enumerate(starts):
        alone = solve(start[None])
        np.testing.assert_allclose(together.points[row], alone.points[0], atol=0.05)
        assert abs(int(together.iterations[row]) - int(alone.iterations[0])) <= 3


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_it_stops_after_so_many_steps(limit):
    function = jax.vmap(jax.value_and_grad(valley))
    found = jax.jit(lambda x: minimize(function, x, 0, limit))(np.full((1, SIZE), 9, np.float32))
    assert found.iterations.tolist() == [limit]


def test_it_ends_where_the_precision_does():
    """No gradient of zero can be reached; the point is the best all the same."""
    function = jax.vmap(jax.value_and_grad(valley))
    found = jax.jit(lambda x: minimize(function, x, 0, 10_000))(np.full((1, SIZE), 9, np.float32))
    assert found.iterations[0] < 2000
    np.testing.assert_allclose(found.points, 1, atol=1e-3)


def test_a_start_at_the_minimum_stays():
    function = jax.vmap(jax.value_and_grad(valley))
    found = jax.jit(lambda x: minimize(function, x, 1e-3, 100))(np.ones((2, SIZE), np.float32))
    assert found.iterations.tolist() == [0, 0]
    assert (found.points == 1).all()
