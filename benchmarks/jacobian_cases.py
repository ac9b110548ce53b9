"""Functions whose Jacobians are sparse, as anyone would write them, and where their nonzeros are.

Sources: the Brusselator is the 2-D reaction-diffusion system of the SciML benchmarks (without its
forcing); bundle adjustment is the objective of ADBench (Šrajer, Kukelova, Fitzgibbon 2018) and
GradBench.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import chainrule as cr

Array = np.ndarray[Any, Any]
GRID = 128
ROSENBROCK = 100_000
CAMERAS, POINTS, OBSERVATIONS = 64, 10_000, 50_000
CAMERA = 11
"""Parameters of a camera: rotation 3, centre 3, focal length, principal point 2, distortion 2."""


# -- Brusselator -------------------------------------------------------------------------------


def laplacian(w: Any, roll: Any = cr.roll) -> Any:
    """The five-point ∇²w on a periodic grid (N, N) of the unit square."""
    neighbours = sum(roll(w, step, axis=axis) for axis in (0, 1) for step in (1, -1))
    return (neighbours - 4 * w) * w.shape[0] ** 2


def brusselator(state: Any, alpha: float = 10.0, xp: Any = cr) -> Any:
    """d(u, v)/dt for a state (u, v) of 2·N² entries, flat; du = 1 + u²v - 4.4u + α∇²u."""
    n = round((state.shape[0] // 2) ** 0.5)
    u, v = xp.reshape(state, (2, n, n))
    reaction = u * u * v
    du = 1 + reaction - 4.4 * u + alpha * laplacian(u, xp.roll)
    dv = 3.4 * u - reaction + alpha * laplacian(v, xp.roll)
    return xp.concat([xp.reshape(du, -1), xp.reshape(dv, -1)])


def brusselator_start(n: int = GRID, dtype: Any = np.float32) -> Array:
    """u = 22 (y(1-y))^1.5, v = 27 (x(1-x))^1.5 on an n × n grid, flat."""
    x = np.linspace(0, 1, n, endpoint=False)
    x, y = np.meshgrid(x, x)
    u, v = 22 * (y * (1 - y)) ** 1.5, 27 * (x * (1 - x)) ** 1.5
    return np.concatenate([u.ravel(), v.ravel()]).astype(dtype)


def brusselator_places(n: int = GRID) -> tuple[Array, Array, tuple[int, int]]:
    """(rows, columns, shape) of its Jacobian: the stencil, and the other species at the place."""
    places = np.arange(2 * n * n).reshape(2, n, n)
    columns = [np.roll(places, step, axis) for axis in (1, 2) for step in (-1, 1)]
    columns += [places, places[::-1]]
    return np.tile(places.ravel(), 6), np.stack(columns).ravel(), (2 * n * n, 2 * n * n)


# -- Rosenbrock --------------------------------------------------------------------------------


def rosenbrock(x: Any) -> Any:
    """Σ (1 - xᵢ)² + 100 (xᵢ₊₁ - xᵢ²)²."""
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def rosenbrock_start(n: int = ROSENBROCK, dtype: Any = np.float32) -> Array:
    """A point of n entries in -1.5 … 1.5."""
    return np.random.default_rng(0).uniform(-1.5, 1.5, n).astype(dtype)


def rosenbrock_places(n: int = ROSENBROCK) -> tuple[Array, Array, tuple[int, int]]:
    """(rows, columns, shape) of its Hessian: tridiagonal."""
    i = np.arange(n)
    return np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]]), (n, n)


# -- bundle adjustment -------------------------------------------------------------------------


class Bundle(NamedTuple):
    """A bundle adjustment problem: cameras (n, 11), points (m, 3), weights (p,), observations.

    `seen` (p, 2) holds the camera and the point of each observation, `features` (p, 2) where the
    camera saw it.
    """

    cameras: Array
    points: Array
    weights: Array
    seen: Array
    features: Array

    @property
    def parameters(self) -> Array:
        """All parameters in one flat array."""
        return np.concatenate([self.cameras.ravel(), self.points.ravel(), self.weights])

    def residuals(self, parameters: Any, xp: Any = cr) -> Any:
        """2p reprojection errors, then p errors of weights, from the flat parameters."""
        n, m = self.cameras.size, self.points.size
        cameras = xp.reshape(parameters[:n], (-1, CAMERA)).T[:, self.seen[:, 0]]
        points = xp.reshape(parameters[n : n + m], (-1, 3)).T[:, self.seen[:, 1]]
        weights = parameters[n + m :]
        seen = xp.stack(project(cameras, points, xp), axis=1)
        errors = weights[:, None] * (seen - self.features)
        return xp.concat([xp.reshape(errors, -1), 1 - weights * weights])


def project(camera: Any, point: Any, xp: Any = cr) -> tuple[Any, Any]:
    """The place in the picture where cameras (11, p) see points (3, p)."""
    r, centre, (f, u0, v0, k1, k2) = camera[:3], camera[3:6], camera[6:]
    y0, y1, y2 = rotate(r, [x - c for x, c in zip(point, centre, strict=True)], xp)
    q0, q1 = y0 / y2, y1 / y2
    squared = q0 * q0 + q1 * q1
    scale = f * (1 + k1 * squared + k2 * squared * squared)
    return scale * q0 + u0, scale * q1 + v0


def rotate(r: Any, y: Any, xp: Any = cr) -> list[Any]:
    """y turned about the axis r by the angle |r| (Rodrigues): to first order where r = 0."""
    squared = dot(r, r)
    turns = squared > 0
    angle = xp.sqrt(xp.where(turns, squared, 1))
    cosine, sine = xp.cos(angle), xp.sin(angle)
    axis = [a / angle for a in r]
    along = dot(axis, y) * (1 - cosine)
    return [
        xp.where(turns, a * cosine + b * sine + k * along, a + c)
        for a, b, k, c in zip(y, cross(axis, y), axis, cross(r, y), strict=True)
    ]


def dot(a: Any, b: Any) -> Any:
    """a · b of vectors as three components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Any, b: Any) -> list[Any]:
    """a × b of vectors as three components."""
    return [
        a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
    ]  # fmt: skip


def bundle(
    cameras: int = CAMERAS, points: int = POINTS, observations: int = OBSERVATIONS, seed: int = 0,
    dtype: Any = np.float32,
) -> Bundle:  # fmt: skip
    """A random problem: cameras that look along +z at points some 10 units away."""
    random = np.random.default_rng(seed)
    camera = random.normal(0, 0.1, (cameras, CAMERA))
    camera[:, 6] += 500
    point = random.normal((0, 0, 10), 2, (points, 3))
    weights = random.uniform(0, 1, observations)
    seen = random.integers(0, (cameras, points), (observations, 2))
    features = random.normal(0, 100, (observations, 2))
    return Bundle(
        *(x.astype(dtype) for x in (camera, point, weights)), seen, features.astype(dtype)
    )


def bundle_places(problem: Bundle) -> tuple[Array, Array, tuple[int, int]]:
    """(rows, columns, shape): 11 + 3 + 1 columns in two rows an observation, then a diagonal."""
    n, m, p = problem.cameras.size, problem.points.size, problem.weights.size
    own = np.arange(p)[:, None]
    camera, point = problem.seen[:, :1], problem.seen[:, 1:]
    columns = np.concatenate(
        [camera * CAMERA + np.arange(CAMERA), n + point * 3 + np.arange(3), n + m + own], axis=1
    )
    rows = np.repeat(np.arange(2 * p), columns.shape[1])
    last = np.arange(p)
    return (
        np.concatenate([rows, 2 * p + last]),
        np.concatenate([np.repeat(columns, 2, axis=0).ravel(), n + m + last]),
        (3 * p, n + m + p),
    )


# -- all of them -------------------------------------------------------------------------------


class Case(NamedTuple):
    """A sparse Jacobian: of `function` (or of the gradient of it, a Hessian) at `start`."""

    title: str
    function: Any
    """(array, xp=namespace) → array"""
    start: Array
    places: Any
    """() → (rows, columns, shape) of what can be other than 0"""
    hessian: bool = False


def case(name: str, *, small: bool = False) -> Case:
    """A case of the benchmark, or a small one of the same kind."""
    if name == "brusselator":
        n = 8 if small else GRID
        return Case(
            f"Brusselator {n}×{n}", brusselator, brusselator_start(n), lambda: brusselator_places(n)
        )
    if name == "rosenbrock":
        n = 50 if small else ROSENBROCK
        return Case(
            f"Rosenbrock Hessian, n = {n:,}", lambda x, xp: rosenbrock(x), rosenbrock_start(n),
            lambda: rosenbrock_places(n), hessian=True,
        )  # fmt: skip
    problem = bundle(2, 5, 9) if small else bundle()
    return Case(
        f"bundle adjustment, {problem.weights.size:,} observations", problem.residuals,
        problem.parameters, lambda: bundle_places(problem),
    )  # fmt: skip


CASES = ("brusselator", "rosenbrock", "bundle")
