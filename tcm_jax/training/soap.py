"""SOAP (Vyas et al., arXiv:2409.11321): Adam in the eigenbases of Shampoo's preconditioners, for vectors of parameters.

For learned image compression see Zhang and Zhu, arXiv:2601.20769.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tcm_jax.training.adam import adam_direction, moments, scale_by, zero_moments

LARGEST_SIDE = 700  # of a matrix whose side gets a basis: all of the embedded model but the rows of some 3x3 kernels
REFRESH = 10  # steps between two refreshes of the bases


class Side(NamedTuple):
    """One side of all `n` matrices of a shape, float32 [n, side, side] each."""

    covariance: jax.Array  # moving average of the gradients' products with themselves
    basis: jax.Array  # its eigenvectors at the last refresh, the columns, strongest first


class SoapState(NamedTuple):
    """State of `soap`: Adam's moments of its vector, and the sides of its matrices."""

    count: jax.Array  # type: ignore[assignment] # int32 scalar, updates done; tuples have a method `count`
    mu: optax.Updates  # moving average of the gradients
    nu: optax.Updates  # moving average of the squared gradients, of a matrix in its bases
    sides: dict[str, dict[str, Side]]  # by "ROWSxCOLUMNS", then "rows" and "columns"


def soap(
    learning_rate: float | optax.Schedule, shapes: Mapping[str, tuple[int, ...]], decay=0.95, eps=1e-8
) -> optax.GradientTransformation:
    """SOAP for a tree of one float32 vector: the parameters of `shapes`, which has their names, in its order.

    A kernel is a matrix with a row for each of its inputs (of a convolution, each position's); all else follows Adam
    of the same `decay` for both moments, and so does a matrix along a side over LARGEST_SIDE. The bases start as the
    identity, and SOAP as Adam.
    """
    starts, size = _matrices(shapes)

    def init(params):
        if sum(leaf.size for leaf in jax.tree.leaves(params)) != size:
            raise ValueError(f"the parameters are not the {size} of the shapes")
        sides = {_name(shape): _first_sides(shape, len(at)) for shape, at in starts.items()}
        return SoapState(jnp.zeros((), jnp.int32), *zero_moments(params), sides)

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        direction = adam_direction(count, decay, decay, eps)
        mu, nu = moments(grads, state, decay, decay)
        updates, tree = jax.tree.flatten(jax.tree.map(direction, mu, nu))
        (g,), (m,), (old,), (new,) = map(jax.tree.leaves, (grads, mu, state.nu, nu))
        vectors, sides = (updates[0], new), {}
        for shape, at in starts.items():

            def one(vectors, item, shape=shape):
                """Writes a matrix's part of the updates and of nu; moves its bases."""
                start, sides = item
                grad, mean, square = (
                    jax.lax.dynamic_slice(v, (start,), (np.prod(shape),)).reshape(shape) for v in (g, m, old)
                )
                sides = _refreshed(sides, grad, decay, count % REFRESH == 0)
                square = decay * square + (1 - decay) * _rotated(grad, sides) ** 2
                # In bases that stay no component exceeds 1, by Cauchy-Schwarz; when they change some would, by far.
                turned = direction(_rotated(mean, sides), square).clip(-1, 1)
                moved = _rotated(turned, sides, back=True)
                written = zip(vectors, (moved, square), strict=True)
                return tuple(jax.lax.dynamic_update_slice(v, part.ravel(), (start,)) for v, part in written), sides

            vectors, sides[_name(shape)] = jax.lax.scan(one, vectors, (jnp.array(at), state.sides[_name(shape)]))
        updates, nu = (jax.tree.unflatten(tree, [vector]) for vector in vectors)
        return updates, SoapState(count, mu, nu, sides)

    return optax.chain(optax.GradientTransformation(init, update), scale_by(learning_rate))


def _matrices(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[tuple[int, int], list[int]], int]:
    """(where the matrices of each shape that has a basis start in the vector, the vector's length)."""
    starts: dict[tuple[int, int], list[int]] = {}
    at = 0
    for name, shape in shapes.items():
        if name.endswith("kernel"):
            matrix = (int(np.prod(shape[:-1])), shape[-1])
            if min(matrix) <= LARGEST_SIDE:
                starts.setdefault(matrix, []).append(at)
        at += int(np.prod(shape))
    return starts, at


def _name(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _first_sides(shape: tuple[int, int], count: int) -> dict[str, Side]:
    """Identity bases of the sides that have one."""
    return {
        name: Side(jnp.zeros((count, side, side)), jnp.tile(jnp.eye(side), (count, 1, 1)))
        for name, side in zip(("rows", "columns"), shape, strict=True)
        if side <= LARGEST_SIDE
    }


def _refreshed(sides: dict[str, Side], grad: jax.Array, decay: float, now: jax.Array) -> dict[str, Side]:
    """Covariances with the gradient [rows, columns] in them and, if it is time, its eigenvectors as bases."""
    found = {}
    for name, side in sides.items():
        product = grad @ grad.T if name == "rows" else grad.T @ grad
        covariance = decay * side.covariance + (1 - decay) * product
        found[name] = Side(covariance, side.basis)

    def decomposed(sides):
        return {name: Side(s.covariance, jnp.linalg.eigh(s.covariance)[1][:, ::-1]) for name, s in sides.items()}

    return jax.lax.cond(now, decomposed, lambda sides: sides, found)


def _rotated(matrix: jax.Array, sides: dict[str, Side], back: bool = False) -> jax.Array:
    """The matrix in the bases of its sides, or back from there."""
    if "rows" in sides:
        basis = sides["rows"].basis
        matrix = (basis if back else basis.T) @ matrix
    if "columns" in sides:
        basis = sides["columns"].basis
        matrix = matrix @ (basis.T if back else basis)
    return matrix
