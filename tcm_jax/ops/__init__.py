"""What computes an operation: the one place that knows of devices, of gradients made for them, and of our kernels.

Layers call these functions, and whoever compiles says for what (`target`). See compile_target.py; operations.py and
shifted_windows.py for the operations; cpu_gradients.py for gradients made for CPUs; kernels/ for what CPUs
run, and map_gradients.py for the codec's gradients; tracing.py for how blocks are traced.
"""

from typing import TYPE_CHECKING

from tcm_jax.ops.compile_target import (
    PRECISIONS,
    Target,
    codec_target,
    current,
    precision,
    search_target,
    target,
    training_target,
)
from tcm_jax.system.lazy import attributes

if TYPE_CHECKING:
    from tcm_jax.ops.filters import blur
    from tcm_jax.ops.maps import lower_bound, pixel_shuffle, pixel_unshuffle, ste_round
    from tcm_jax.ops.operations import (
        conv1x1,
        conv1x1_strided,
        conv3x3,
        exp,
        gain,
        gate,
        gdn,
        gelu,
        log,
        multiply_add,
        relu,
        relu_of_sum,
        tanh,
    )
    from tcm_jax.ops.shifted_windows import SwinWeights, swin_block
    from tcm_jax.ops.tracing import kept_apart, rematerialized, traced_once

# What is imported, with JAX, by those who trace.
_PLACES = {
    "filters": ("blur",),
    "maps": ("lower_bound", "pixel_shuffle", "pixel_unshuffle", "ste_round"),
    "operations": (
        "conv1x1", "conv1x1_strided", "conv3x3", "exp", "gain", "gate", "gdn", "gelu", "log", "multiply_add", "relu",
        "relu_of_sum", "tanh",
    ),
    "shifted_windows": ("SwinWeights", "swin_block"),
    "tracing": ("kept_apart", "rematerialized", "traced_once"),
}  # fmt: skip
__getattr__ = attributes(__name__, _PLACES)

__all__ = [
    "PRECISIONS",
    "SwinWeights",
    "Target",
    "blur",
    "codec_target",
    "conv1x1",
    "conv1x1_strided",
    "conv3x3",
    "current",
    "exp",
    "gain",
    "gate",
    "gdn",
    "gelu",
    "kept_apart",
    "log",
    "lower_bound",
    "multiply_add",
    "pixel_shuffle",
    "pixel_unshuffle",
    "precision",
    "relu",
    "relu_of_sum",
    "rematerialized",
    "search_target",
    "ste_round",
    "swin_block",
    "tanh",
    "target",
    "traced_once",
    "training_target",
]
