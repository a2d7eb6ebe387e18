"""Parameters as two vectors: an optimizer step is then a few large kernels, not several for each of 1,245 arrays.

The network takes the arrays, not slices of a vector: XLA fuses those into whatever reads them, and compiles the
gradient's program in twice the time.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tcm_jax import ops
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.initialization import abstract_params

Vectors = dict[str, jax.Array]  # "main" and "quantiles": float32 vectors, parameters in the order of their names


def _group(name: str) -> str:
    return "quantiles" if name.rpartition("/")[2] == "quantiles" else "main"


def to_vectors(params: dict[str, Any]) -> Vectors:
    """Nested parameters (NumPy or JAX arrays) as vectors; the quantiles, which have an Adam of their own, apart."""
    groups: dict[str, list[Any]] = {"main": [], "quantiles": []}
    for name, value in sorted(flatten_dict(params, sep="/").items()):
        groups[_group(name)].append(value.ravel())
    # JAX would compile the concatenation of so many arrays.
    library = np if isinstance(groups["main"][0], np.ndarray) else jnp
    # Copied: a donated buffer must not be NumPy's, which frees it.
    return {group: jnp.array(library.concatenate(values)) for group, values in groups.items()}


def to_params(vectors: Vectors, config: ModelConfig) -> dict[str, Any]:
    """Vectors as the nested parameters of the network of `config`; differentiable, and may be jitted."""
    flat: dict[str, Any] = {}
    for group, vector in vectors.items():
        shapes = group_shapes(config, group)
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])
        if ends[-1] != vector.size:
            raise ValueError(f"{vector.size} values for the {ends[-1]} parameters of the network")
        parts = (np.split if isinstance(vector, np.ndarray) else _split)(vector, ends[:-1])
        flat |= {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    return unflatten_dict(flat, sep="/")


def group_shapes(config: ModelConfig, group: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters in a vector, "main" or "quantiles", in its order."""
    names = sorted(flatten_dict(abstract_params(config), sep="/").items())
    return {name: leaf.shape for name, leaf in names if _group(name) == group}


def _split(vector: jax.Array, ends: np.ndarray) -> list[jax.Array]:
    """`jnp.split`, on a CPU with starts that the compiler does not know.

    XLA compiles a kernel for each slice that starts elsewhere, one for all of a size if the start is an operand: with
    1,244 kernels the slices took a third of the step's compilation.
    """
    starts = np.array([0, *ends], np.int32)
    hidden = ops.kept_apart(lambda: tuple(starts), when=vector[0] > 0)
    sizes = np.diff([*starts, vector.size])
    return [jax.lax.dynamic_slice(vector, (at,), (size,)) for at, size in zip(hidden, sizes, strict=True)]
