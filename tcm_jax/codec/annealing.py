"""Stochastic Gumbel annealing of the latents of one tile: y is trained, the network stays (docs/effort.md).

Yang, Bamler, Mandt, Improving Inference for Neural Image Compression (NeurIPS 2020). Each symbol is drawn between the
two integers beside `y - mu`, by noise that falls with the temperature; Adam moves y by the gradient of the loss.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax import ops
from tcm_jax.codec.effort import TUNES
from tcm_jax.codec.programs import Program
from tcm_jax.entropy import gaussian
from tcm_jax.images.metrics import ms_ssim, squared_error_of_ms_ssim
from tcm_jax.images.ssimulacra2 import squared_error_of_score, ssimulacra2
from tcm_jax.images.visual import visual_error

HOTTEST, COLDEST = 0.25, 0.1  # temperatures of the first and the last step, geometrically between
FASTEST, SLOWEST = 0.012, 0.012 / 20  # Adam's learning rates, by a cosine between
_B1, _B2, _EPSILON = 0.9, 0.99, 1e-12  # Adam's; gradients of a loss of one pixel are tiny
_FRACTION = 1e-5  # nearer to an integer the logarithms are cut


def schedule(step: int, steps: int) -> dict[str, np.float32]:
    """{"temperature", "rate"} of step 0 .. steps - 1, float32 scalars."""
    share = step / max(steps - 1, 1)
    temperature = HOTTEST * (COLDEST / HOTTEST) ** share
    rate = SLOWEST + (FASTEST - SLOWEST) * (1 + np.cos(np.pi * share)) / 2
    return {"temperature": np.float32(temperature), "rate": np.float32(rate)}


def drawn(residual: jax.Array, temperature: jax.Array, noise: jax.Array) -> jax.Array:
    """Symbols drawn between the two integers beside `residual` = y - mu, float32 of its shape; differentiable.

    `noise` is the difference of two Gumbel draws, a logistic one. The nearer integer is the likelier; as the
    temperature falls the draw is rounding.
    """
    low = jax.lax.stop_gradient(jnp.floor(residual))
    share = jnp.clip(residual - low, _FRACTION, 1 - _FRACTION)
    logit = (jnp.arctanh(share) - jnp.arctanh(1 - share)) / temperature
    return low + jax.nn.sigmoid((logit + noise) / temperature)


@functools.partial(Program, target=ops.search_target)
def iterate(config, params, tune, details, tile, state, settings, level):
    """One step of a tile with so many detail slices: (loss, y that rounds to the symbols of this draw, next state).

    `tile` is what stays: {"picture": uint8 [H, W, 3], "counted": bool [H, W, 1] pixels of the distortion, "means",
    "scales": latent means and scales [h, w, latent_channels], "free": bool [h, w, 1] latents that may change, "rated":
    bool [h, w, 1] those whose bits count}. `state` is {"y", "m", "v"}: latents and Adam's moments. `settings` are
    scalars: those of `schedule`, "lam", "step" (int32), "grey" and "hard" (bool): whether the picture's channels are
    one, and whether symbols are rounded. "key" is uint32 [2]. The loss is of a counted pixel.
    """
    from tcm_jax.model.tcm import TCM  # imports Flax

    def loss(y):
        def method(network):
            return _loss(network, y, tile, settings, level, TUNES[tune], details)

        return TCM(config).apply({"params": params}, method=method)

    (value, snapped), gradient = jax.value_and_grad(loss, has_aux=True)(state["y"])
    return value, snapped, _adam(state, gradient, settings)


def _loss(network, y, tile, settings, level, tune, details):
    config, noise = network.config, _noise(settings, y.shape)
    free = tile["free"]
    decoded: list[jax.Array] = []
    snapped, coded = [], []
    means, scales = tile["means"][None], tile["scales"][None]
    parts = (jnp.split(x[None], config.num_slices, axis=-1) for x in (y, noise))
    for i, (part, noise_part) in enumerate(zip(*parts, strict=True)):

        def draw(residual, noise_part=noise_part):
            hard = jax.lax.stop_gradient(jnp.round(residual))
            soft = drawn(residual, settings["temperature"], noise_part)
            return jnp.where(free & ~settings["hard"], soft, hard)

        mu, sigma, support = network.slice_params(i, means, scales, decoded)
        if config.checkerboard_width:
            mu, sigma = network.second_step(i, draw(part - mu), mu, sigma)
        symbols = draw(part - mu)
        coded.append((symbols, sigma))
        decoded.append(network.slice_latents(i, symbols, mu, support))
        snapped.append((symbols + mu)[0])
    x_hat = network.synthesis(jnp.concatenate(decoded, axis=-1), level)
    x = tile["picture"][None].astype(jnp.float32) / 255
    if details:
        x_hat, coded_details = _with_details(network, x, x_hat, coded, level, details)
        coded += coded_details
    bits = sum(jnp.where(tile["rated"], -jnp.log2(gaussian.likelihood(*pair)), 0).sum() for pair in coded)
    pixels = jnp.maximum(tile["counted"].sum(), 1).astype(jnp.float32)
    distortion = _distortion(x_hat, x, tile["counted"], settings["grey"], tune) * (x[0, ..., 0].size / pixels)
    return bits / pixels + settings["lam"] * distortion, jnp.concatenate(snapped, axis=-1)


def _with_details(network, x, x_hat, coded, level, details):
    """(picture with the detail slices that code what `x_hat` misses, their symbols and scales), straight through."""
    symbols, sigmas = (jnp.concatenate(parts, axis=-1) for parts in zip(*coded, strict=True))
    decoded: list[jax.Array] = []
    found = []
    for i, coefficients in enumerate(network.detail.analysis(x - x_hat, level)[:details]):
        sigma = network.detail_scales(i, symbols, sigmas, decoded, level)
        decoded.append(ops.ste_round(coefficients))
        found.append((decoded[-1], sigma))
    return x_hat + network.detail.synthesis(decoded, level), found


def _distortion(x_hat, x, counted, grey, tune):
    """Mean over a tile in units of the squared error of 8 bits; pixels that do not count are as the original.

    MS-SSIM and SSIMULACRA 2 become the squared error that goes with them on photographs, so that lambdas hold.
    """
    x_hat = jnp.clip(x_hat, 0, 1)
    x_hat = jnp.where(grey, x_hat.mean(-1, keepdims=True), x_hat)
    x_hat = jnp.where(counted, x_hat, x)
    if tune == "psnr":
        return 255**2 * ((x_hat - x) ** 2).mean()
    if tune == "ms-ssim":
        return squared_error_of_ms_ssim(ms_ssim(x_hat, x)[0])
    return squared_error_of_score(ssimulacra2(x, x_hat)[0]) if tune == "ssimulacra2" else visual_error(x, x_hat)[0]


def _noise(settings, shape):
    key = jax.random.fold_in(settings["key"], settings["step"])
    return jax.random.logistic(key, shape, jnp.float32)


def _adam(state, gradient, settings):
    """The next state {"y", "m", "v"} after a step of Adam."""
    m = _B1 * state["m"] + (1 - _B1) * gradient
    v = _B2 * state["v"] + (1 - _B2) * gradient**2
    count = settings["step"].astype(jnp.float32) + 1
    direction = (m / (1 - _B1**count)) / (jnp.sqrt(v / (1 - _B2**count)) + _EPSILON)
    return {"y": state["y"] - settings["rate"] * direction, "m": m, "v": v}
