"""Kernels for CPUs, as JAX functions: what the codec's programs spend their time on, in vectors of this machine.

XLA leaves half of a CPU's speed unused in them (docs/performance.md). JAX knows no gradients of theirs: ours are
kernels too, which map_gradients.py gives to searches and cpu_gradients.py to training. A call knows one device. So they
are used only in a `Target` for them. llvmlite, which loads them, is imported by then; Numba, which makes them, where a
call is traced.
"""

import functools
import warnings
from typing import TYPE_CHECKING

from tcm_jax.system.lazy import attributes
from tcm_jax.system.locks import make_lock

if TYPE_CHECKING:
    from tcm_jax.ops.kernels.attention import swin_block, swin_block_gradient, swin_block_gradients
    from tcm_jax.ops.kernels.layers import blur, convolution_kernel_gradient, convolve, convolve_strided, gdn, product
    from tcm_jax.ops.kernels.pointwise import exp, gate, gelu, log, multiply_add, relu, relu_of_sum, tanh

# What is imported, with JAX, by those who trace: whoever runs steps alone (direct.py) does without.
_PLACES = {
    "attention": ("swin_block", "swin_block_gradient", "swin_block_gradients"),
    "layers": ("blur", "convolution_kernel_gradient", "convolve", "convolve_strided", "gdn", "product"),
    "pointwise": ("exp", "gate", "gelu", "log", "multiply_add", "relu", "relu_of_sum", "tanh"),
}
__all__ = [
    "available", "blur", "convolution_kernel_gradient", "convolve", "convolve_strided", "exp", "gate", "gdn", "gelu",
    "gradients_available", "log", "multiply_add", "product", "relu", "relu_of_sum", "swin_block", "swin_block_gradient",
    "swin_block_gradients", "tanh", "training_available",
]  # fmt: skip
__getattr__ = attributes(__name__, _PLACES)
_making = make_lock()


@functools.cache
def available() -> bool:
    """Whether the kernels can be used; the first call makes them.

    They cannot, without a word, on an x86 processor that does not fuse products with sums: each would be a call of a C
    function. Where Numba, LLVM or XLA fails to make them, or refuses them, one RuntimeWarning says why.
    """
    return _made("table")


@functools.cache
def gradients_available() -> bool:
    """As `available`, with gradients of maps, for searches (map_gradients.py)."""
    return available() and _made("add_search")


@functools.cache
def training_available() -> bool:
    """As `available`, with all gradients of convolutions and Swin blocks, for training (cpu_gradients.py)."""
    return available() and _made("add_training")


def _made(what: str) -> bool:
    try:
        from tcm_jax.ops.kernels import handlers
        from tcm_jax.ops.kernels.machine import FUSES

        if not FUSES:
            return False
        with _making:
            getattr(handlers, what)()
    except Exception as error:  # Numba, LLVM and XLA each have their own
        reason = (str(error).strip().splitlines() or [""])[0]
        warnings.warn(
            f"the kernels for CPUs cannot be made, so XLA's slower operations serve: {type(error).__name__}: {reason}",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True
