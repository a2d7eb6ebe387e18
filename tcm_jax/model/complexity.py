"""Parameters and multiply-accumulates of a network by part, counted in its program without running it."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from tcm_jax.model.config import ModelConfig
from tcm_jax.model.tcm import TCM, flat_shapes, parameter_shapes

# Parameters by the first component of their path.
PARTS = {
    "g_a": ("g_a",), "g_s": ("g_s",), "h_a": ("h_a",), "h_s": ("h_mean_s", "h_scale_s"),
    "attention": ("atten_mean", "atten_scale"), "slices": ("cc_mean_transforms", "cc_scale_transforms", "checkerboard"),
    "LRP": ("lrp_transforms",), "detail": ("detail",),
    "prior and gains": ("entropy_bottleneck", "gain_y", "gain_z", "inverse_gain_y", "inverse_gain_z"),
}  # fmt: skip
# Published by the authors, in millions (their tool skipped some), and GMAC at 768x512 by an independent program:
# convolutions and linear layers, attention's products. By N.
PUBLISHED_PARAMETERS = {64: 44.96, 96: 58.72, 128: 75.89}
INDEPENDENT_GMAC = {64: (215.3, 4.7), 96: (425.1, 6.9), 128: (717.1, 9.0)}


@dataclasses.dataclass(frozen=True)
class Macs:
    """Multiply-accumulates: of convolutions and of products with weights, and of attention's two products."""

    weights: int = 0
    attention: int = 0

    def __add__(self, other: "Macs") -> "Macs":
        return Macs(self.weights + other.weights, self.attention + other.attention)

    @property
    def total(self) -> int:
        """Multiply-accumulates with weights and of attention together."""
        return self.weights + self.attention


def parameters(config: ModelConfig) -> dict[str, int]:
    """Number of parameters by part (keys PARTS)."""
    counts = dict.fromkeys(PARTS, 0)
    for path, shape in flat_shapes(config).items():
        counts[_part(path)] += int(np.prod(shape))
    return counts


def macs(config: ModelConfig, height: int = 512, width: int = 768) -> dict[str, Macs]:
    """Multiply-accumulates of one pass over a picture, sides multiples of 128, by part (keys PARTS).

    An encoding is one pass without g_s, a decoding one without g_a and h_a; a FLOP count is twice this.
    """

    def forward(variables, x, level):
        return TCM(config).apply(variables, x, level=level)

    shapes = (1, height, width, 3), (1,)
    arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    totals = dict.fromkeys(PARTS, Macs())
    # The network's own products, not those that Winograd's algorithm leaves of them.
    with jax.default_matmul_precision("highest"):
        jaxpr = jax.make_jaxpr(forward)({"params": parameter_shapes(config)}, *arguments).jaxpr
    for scope, work in _products(jaxpr, ""):
        totals[_part(scope)] += work
    return totals


def _part(scope: str) -> str:
    """Part of a name stack such as TCM/TCM.analysis/g_a/layers_2; the prior's products have no module of their own."""
    names = [re.sub(r"_\d+$", "", name.partition(".")[0]) for name in scope.split("/")]
    return next((part for part, tops in PARTS.items() if set(tops) & set(names)), "prior and gains")


def _products(jaxpr: Any, outer: str, times: int = 1) -> Iterator[tuple[str, Macs]]:
    """(name stack, multiply-accumulates) of every matrix product and convolution, loops as often as they run."""
    for eqn in jaxpr.eqns:
        scope = f"{outer}/{eqn.source_info.name_stack}"
        out = times * int(np.prod(eqn.outvars[0].aval.shape)) if eqn.outvars else 0
        if eqn.primitive.name == "dot_general":
            (contracted, _), (batch, _) = eqn.params["dimension_numbers"]
            products = out * int(np.prod([eqn.invars[0].aval.shape[i] for i in contracted]))
            # Only attention multiplies two maps, window by window; products with weights have no batch axis.
            yield scope, Macs(attention=products) if batch and "attention" in scope else Macs(weights=products)
        elif eqn.primitive.name == "conv_general_dilated":
            yield scope, Macs(weights=out * int(np.prod(eqn.invars[1].aval.shape[:3])))
        loops = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for program in inner_programs(eqn):
            yield from _products(program, scope, times * loops)


def inner_programs(eqn: Any) -> Iterator[Any]:
    """The jaxprs that an equation holds: of a loop, a condition, a function."""
    for value in eqn.params.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item
