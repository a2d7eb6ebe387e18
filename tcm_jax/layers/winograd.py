"""3x3 convolution with half of the multiplications: Winograd's F(4, 3) along rows (Lavin and Gray, arXiv:1509.09308).

Four outputs beside each other need six products for a row of the kernel instead of twelve. Along one axis only: in two
the transforms take the time that the products save, and errors are several times as large. For the codec's g_a and g_s
on CPUs: a training step is no quicker with it, and the entropy model must not differ from earlier versions'.
"""

import jax
import jax.numpy as jnp
import numpy as np

OUTPUTS = 4  # columns at a time
LEAST_WORK = 32  # multiplications a value read or written, from which the saved ones outweigh the transforms
LEAST_MAP = 1024  # positions

# 24 times the kernel's transform, for the points 0, 1, -1, 2, -2 and infinity.
_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32)


def pays(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether `convolve` takes less time on a CPU than XLA's convolution (docs/performance.md)."""
    channels, features = kernel.shape[2:]
    _, height, width, _ = x.shape
    enough = channels * features >= LEAST_WORK * (channels + features) and height * width >= LEAST_MAP
    return enough and width % OUTPUTS == 0


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Map [B, H, W, C], W a multiple of 4, and kernel [3, 3, C, features] to [B, H, W, features]; zero padding 1.

    Differs from a sum of products by up to 1.6e-5 where outputs are of size 1 (64 channels).
    """
    batch, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, OUTPUTS - 1), (0, 0)))
    columns = padded.reshape(batch, height, width // OUTPUTS + 1, OUTPUTS, channels)
    d = [columns[:, :, :-1, i] for i in range(OUTPUTS)] + [columns[:, :, 1:, i] for i in range(2)]
    inputs = [
        4 * d[0] - 5 * d[2] + d[4],
        d[4] + d[3] - 4 * (d[2] + d[1]),
        d[4] - d[3] - 4 * (d[2] - d[1]),
        d[4] - d[2] + 2 * (d[3] - d[1]),
        d[4] - d[2] - 2 * (d[3] - d[1]),
        4 * d[1] - 5 * d[3] + d[5],
    ]
    kernels = jnp.einsum("sk,hkio->shio", _KERNEL / 24, kernel, precision="highest")[:, :, None]
    m = [_along_columns(*pair) for pair in zip(inputs, kernels, strict=True)]
    even1, odd1, even2, odd2 = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    outputs = [m[0] + even1 + even2, odd1 + 2 * odd2, even1 + 4 * even2, odd1 + 8 * odd2 + m[5]]
    return jnp.stack(outputs, 3).reshape(batch, height, width, kernel.shape[-1])


def _along_columns(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution with a kernel [3, 1, C, features], zero padding 1 above and below."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (0, 0)), dimension_numbers=numbers)
