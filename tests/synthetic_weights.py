"""Deterministic synthetic weights for a model whose parameters are known by name and shape.

The golden outputs in this folder were computed by the PyTorch reference with exactly these weights, so a
parity test needs no weight file: it rebuilds the reference `state_dict` from `*.keys.json` with `synthesize`.
Only `numpy.random.RandomState` is used, whose stream is frozen for all NumPy versions.
"""

import re
import zlib

import numpy as np

GDN_PEDESTAL = (
    2.0**-36
)  # CompressAI's NonNegativeParametrizer: pedestal = reparam_offset ** 2, reparam_offset = 2 ** -18


def synthesize(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Value of the parameter `name` (its name in the reference `state_dict`), float32, of `shape`."""
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    normal = rng.standard_normal(shape)
    if re.search(r"gdn\.beta$", name):  # stored re-parametrised: sqrt(beta + pedestal)
        value = np.sqrt(1.0 + 0.2 * np.abs(normal) + GDN_PEDESTAL)
    elif re.search(r"\.igdn\.gamma$", name):  # small: the inverse GDN multiplies, so a large gamma would explode
        value = np.sqrt(0.01 * np.eye(shape[0]) + 0.01 * np.abs(normal) / shape[0] + GDN_PEDESTAL)
    elif re.search(r"\.gdn\.gamma$", name):
        value = np.sqrt(0.1 * np.eye(shape[0]) + 0.2 * np.abs(normal) / shape[0] + GDN_PEDESTAL)
    elif re.search(r"\bln[12]\.weight$", name):
        value = 1.0 + 0.1 * normal
    elif name.endswith("relative_position_params"):
        value = 0.5 * normal
    elif name.endswith("quantiles"):  # (channels, 1, 3): left, median, right
        value = np.array([-10.0, 0.0, 10.0]) + 0.3 * normal
    elif name.startswith("entropy_bottleneck.matrices"):
        value = (-0.13 if shape[1] == 1 else -1.45) + 0.1 * normal
    elif name.startswith("entropy_bottleneck.biases"):
        value = 0.5 * normal
    elif name.startswith("entropy_bottleneck.factors"):
        value = 0.3 * normal
    elif name.endswith("bias"):
        value = 0.05 * normal
        if re.search(r"cc_scale_transforms\.\d+\.4\.bias$", name):  # spread the predicted scales over the table
            value = 0.8 * normal + 1.5
        if re.search(r"^g_s\.\d+\.0\.bias$", name):
            value = 0.05 * normal + 0.5
    else:  # convolution and dense kernels: (out, in, ...)
        fan_in = int(np.prod(shape[1:]))
        gain = 0.7
        if re.search(r"^g_a\.\d+\.weight$", name):  # last layer of the analysis transform: latents of a few units
            gain = 2.0
        if re.search(r"^g_s\.\d+\.0\.weight$", name):  # last layer of the synthesis transform: keep x_hat near [0, 1]
            gain = 0.03
        value = gain * normal / np.sqrt(fan_in)
    return value.astype(np.float32)
