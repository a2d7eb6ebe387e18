"""The TCM network: transforms, slice parameters, LRP, training forward (Fig. 2 of the paper; docs/architecture.md).

One call of `TCM.slice_params` and `TCM.slice_latents` a slice serves training, encoder and decoder alike: two
separately written programs would differ in the last bits, and one differing scale index destroys a stream.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from tcm_jax import ops
from tcm_jax.entropy import factorized, gaussian
from tcm_jax.model import detail
from tcm_jax.model.checkerboard import Checkerboard
from tcm_jax.model.config import PAD_MULTIPLE, ModelConfig
from tcm_jax.model.layers.conv import Conv3x3, SubpelConv
from tcm_jax.model.layers.gain import Gain
from tcm_jax.model.layers.residual import ResidualBlockUpsample, ResidualBlockWithStride
from tcm_jax.model.layers.stack import Stack, run
from tcm_jax.model.layers.swatten import SWAtten
from tcm_jax.model.layers.tcm_block import TCMBlock


class TCM(nn.Module):
    """The whole network; maps are NHWC, pictures float in [0, 1] with sides that are multiples of 128.

    A variable-rate network (`config.levels`) takes a `level`, float [B] in 0 .. levels - 1, where one is named; its y
    and z are the gained latents, which are what is quantized. A network of one rate ignores it.

    `transform_dtype` is what g_a and g_s compute in, and `transform_precision`, of `ops.precision`, how exact their
    products are; all else, parameters included, is float32. With `remat` gradients keep the inputs of blocks only.
    """

    config: ModelConfig
    transform_dtype: Any = jnp.float32
    transform_precision: str | None = None
    remat: bool = False

    def setup(self):
        c = self.config
        stages = list(zip(c.widths, c.depths, c.head_dims, strict=True))
        self.g_a = self._down(stages, c.window, c.latent_channels, c.attention == "transforms")
        self.g_s = self._up(stages[::-1], c.window, 3, c.attention == "transforms")
        hyper = [(c.hyper_width, c.hyper_depth, c.hyper_head_dim)]
        self.h_a = self._down(hyper, c.hyper_window, c.hyper_channels)
        self.h_mean_s = self._up(hyper, c.hyper_window, c.latent_channels)
        self.h_scale_s = self._up(hyper, c.hyper_window, c.latent_channels)
        if c.attention == "entropy":
            self.atten_mean = [self._attention() for _ in range(c.num_slices)]
            self.atten_scale = [self._attention() for _ in range(c.num_slices)]
        self.cc_mean_transforms = [self._context() for _ in range(c.num_slices)]
        self.cc_scale_transforms = [self._context() for _ in range(c.num_slices)]
        if c.lrp:
            self.lrp_transforms = [self._context() for _ in range(c.num_slices)]
        if c.checkerboard_width:
            self.checkerboard = [Checkerboard(c.checkerboard_width, c.slice_channels) for _ in range(c.num_slices)]
        if c.levels:
            self.gain_y, self.inverse_gain_y = Gain(c.levels), Gain(c.levels)
            self.gain_z, self.inverse_gain_z = Gain(c.levels), Gain(c.levels)
        if c.detail_channels:
            self.detail = detail.Detail(c)
        self.entropy_bottleneck = self.param("entropy_bottleneck", factorized.init, c.hyper_channels)

    def _down(self, stages, window: int, features: int, attention: bool = False) -> nn.Sequential:
        """g_a or h_a: a strided residual block and TCM blocks for each of `stages` (width, depth, channels a head),
        then a strided convolution to `features`; SWAtten behind the second stage and at the end if `attention`."""
        layers = []
        for i, (width, depth, head_dim) in enumerate(stages):
            layers += [
                ResidualBlockWithStride(width, self.config.skip == "shuffled"),
                *self._blocks(depth, head_dim, window),
            ]
            if attention and i == 1:
                layers.append(self._attention())
        layers.append(Conv3x3(features, stride=2))
        return Stack([*layers, self._attention()] if attention else layers, remat=self.remat)

    def _up(self, stages, window: int, features: int, attention: bool = False) -> nn.Sequential:
        """g_s, h_mean_s or h_scale_s: the mirror image of `_down`, by sub-pixel convolutions."""
        layers: list[nn.Module] = [self._attention()] if attention else []
        for i, (width, depth, head_dim) in enumerate(stages):
            layers += [ResidualBlockUpsample(width), *self._blocks(depth, head_dim, window)]
            if attention and i == 1:
                layers.append(self._attention())
        return Stack([*layers, SubpelConv(features)], remat=self.remat)

    def _blocks(self, depth: int, head_dim: int, window: int) -> list[TCMBlock]:
        return [TCMBlock(head_dim, window, i % 2 == 1, self.config.blocks) for i in range(depth)]

    def _attention(self) -> SWAtten:
        return SWAtten(self.config.atten_width, self.config.atten_head_dim, self.config.window)

    def _context(self) -> nn.Sequential:
        """A slice network of three convolutions, for its mean, its scale or its LRP: to [B, h, w, slice_channels]."""
        first, second = self.config.context_widths
        return nn.Sequential([Conv3x3(first), ops.gelu, Conv3x3(second), ops.gelu, Conv3x3(self.config.slice_channels)])

    def _run(self, block: nn.Module, x: jax.Array) -> jax.Array:
        return run(block, x, remat=True) if self.remat else block(x)

    def _gained(self, name: str, x: jax.Array, level: jax.Array | None) -> jax.Array:
        if not self.config.levels:
            return x
        if level is None:
            raise ValueError(f"a variable-rate network needs `level`, float [B] in 0 .. {self.config.levels - 1}")
        return getattr(self, name)(x, level)

    def _transformed(self, transform: nn.Module, x: jax.Array) -> jax.Array:
        with ops.precision(self.transform_precision):
            return transform(x.astype(self.transform_dtype)).astype(jnp.float32)

    def analysis(self, x: jax.Array, level: jax.Array | None = None) -> jax.Array:
        """g_a: picture [B, H, W, 3] to latents y [B, H/16, W/16, latent_channels]."""
        return self._gained("gain_y", self._transformed(self.g_a, x), level)

    def synthesis(self, y_hat: jax.Array, level: jax.Array | None = None) -> jax.Array:
        """g_s: decoded latents to the picture [B, H, W, 3], not clipped."""
        return self._transformed(self.g_s, self._gained("inverse_gain_y", y_hat, level))

    def hyper_analysis(self, y: jax.Array, level: jax.Array | None = None) -> jax.Array:
        """h_a: latents to hyper-latents z [B, H/64, W/64, hyper_channels]."""
        return self._gained("gain_z", self.h_a(y), level)

    def hyper_synthesis(self, z_hat: jax.Array, level: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """h_mean_s and h_scale_s: (latent means, latent scales), each of the shape of y."""
        z_hat = self._gained("inverse_gain_z", z_hat, level)
        return self.h_mean_s(z_hat), self.h_scale_s(z_hat)

    def medians(self) -> jax.Array:
        """Centres of the hyper-latents' distributions [hyper_channels]."""
        return factorized.medians(self.entropy_bottleneck)

    def slice_params(self, i: int, latent_means, latent_scales, previous) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(mu, sigma, support) of slice `i` from the hyper-latents and the decoded slices before it (Eq. 7).

        mu, sigma [B, h, w, slice_channels]; sigma is not bounded yet; `support` is what `slice_latents` wants.
        """
        previous = list(previous)[: self.config.max_support]
        support = jnp.concatenate([latent_means, *previous], axis=-1)
        scale_support = jnp.concatenate([latent_scales, *previous], axis=-1)
        if self.config.attention == "entropy":
            support = self._run(self.atten_mean[i], support)
            scale_support = self._run(self.atten_scale[i], scale_support)
        mu = self._run(self.cc_mean_transforms[i], support)
        return mu, self._run(self.cc_scale_transforms[i], scale_support), support

    def second_step(self, i: int, symbols: jax.Array, mu: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(mu, sigma) of slice `i` once the symbols of a checkerboard's black fields are known; those stay theirs."""
        return self.checkerboard[i](symbols, mu, sigma)

    def slice_latents(self, i: int, symbols: jax.Array, mu: jax.Array, support: jax.Array) -> jax.Array:
        """Decoded slice: symbols + mu + latent residual prediction (LRP)."""
        y_hat = symbols + mu
        if not self.config.lrp:
            return y_hat
        residual = self._run(self.lrp_transforms[i], jnp.concatenate([support, y_hat], axis=-1))
        return y_hat + 0.5 * ops.tanh(residual)

    def __call__(
        self, x: jax.Array, noise: dict[str, jax.Array] | None = None, level: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Training and estimation forward: picture [B, H, W, 3] to (x_hat, intermediates of `latents`).

        A network with detail slices has of these detail_scales, detail_symbols and likelihood_detail besides, all
        [B, h, w, detail_channels]; the likelihood of a slice is 1 where a picture's level goes without it.
        """
        intermediates = self.latents(x, noise, level)
        x_hat = self.synthesis(intermediates["y_hat"], level)
        if not self.config.detail_channels:
            return x_hat, intermediates
        added, details = self._detail(x - x_hat, intermediates, noise, level)
        return x_hat + added, intermediates | details

    def detail_analysis(self, x: jax.Array, y_hat: jax.Array, level: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        """(gained detail slices of pictures [B, H, W, 3] with decoded latents `y_hat`, what g_s makes of these)."""
        without_details = self.synthesis(y_hat, level)
        return self.detail.analysis(x - without_details, level), without_details

    def detail_scales(self, i: int, symbols: jax.Array, sigma: jax.Array, earlier: list[jax.Array], level) -> jax.Array:
        """sigma of detail slice `i` from symbols and scales of y, and the symbols of the detail slices before it."""
        context = detail.magnitudes(symbols, sigma, lambda m: self._gained("inverse_gain_y", m, level))
        return self.detail.scales(i, context, earlier, level)

    def detailed_synthesis(self, y_hat: jax.Array, symbols: list[jax.Array], level: jax.Array) -> jax.Array:
        """g_s and the detail slices of these symbols: the picture [B, H, W, 3], not clipped."""
        return self.with_details(self.synthesis(y_hat, level), symbols, level)

    def with_details(self, without_details: jax.Array, symbols: list[jax.Array], level: jax.Array) -> jax.Array:
        """What g_s makes [B, H, W, 3] and the detail slices of these symbols: the picture, not clipped."""
        return without_details + self.detail.synthesis(symbols, level)

    def _detail(self, missing: jax.Array, latents: dict[str, Any], noise, level) -> tuple[jax.Array, dict[str, Any]]:
        """(what the detail slices add to the picture, their intermediates)."""
        decoded: list[jax.Array] = []
        scales, likelihoods = [], []
        for i, coefficients in enumerate(self.detail.analysis(missing, level)):
            coded = self.detail.coded(i, level)
            sigma = self.detail_scales(i, latents["symbols"], latents["scales"], decoded, level)
            symbols = ops.ste_round(coefficients)
            noisy = symbols if noise is None else coefficients + _part(noise["detail"], i, coefficients)
            likelihoods.append(jnp.where(coded, gaussian.likelihood(noisy, sigma), 1))
            decoded.append(jnp.where(coded, symbols, 0))
            scales.append(sigma)
        joined = zip(("detail_scales", "likelihood_detail"), (scales, likelihoods), strict=True)
        intermediates = {name: jnp.concatenate(parts, axis=-1) for name, parts in joined}
        symbols = jnp.concatenate([jnp.round(part) for part in decoded], axis=-1)
        added = jnp.where(self.detail.coded(0, level), self.detail.synthesis(decoded, level), 0)
        return added, intermediates | {"detail_symbols": symbols}

    def latents(
        self, x: jax.Array, noise: dict[str, jax.Array] | None = None, level: jax.Array | None = None
    ) -> dict[str, Any]:
        """All of the forward but g_s.

        With `noise` ({"y", "z"} of the latents' shapes, uniform in [-0.5, 0.5)) the likelihoods are those of noisy
        latents; without, of rounded ones. Context and synthesis always see straight-through rounding.
        Intermediates: y, z, z_hat, latent_means, latent_scales, means, scales, symbols, y_hat, and the likelihoods
        likelihood_y, likelihood_z.
        """
        y = self.analysis(x, level)
        z = self.hyper_analysis(y, level)
        medians = self.medians()
        z_hat = ops.ste_round(z - medians) + medians
        latent_means, latent_scales = self.hyper_synthesis(z_hat, level)
        decoded: list[jax.Array] = []
        mus, sigmas = [], []
        for i, y_slice in enumerate(jnp.split(y, self.config.num_slices, axis=-1)):
            mu, sigma, support = self.slice_params(i, latent_means, latent_scales, decoded)
            if self.config.checkerboard_width:
                mu, sigma = self.second_step(i, ops.ste_round(y_slice - mu), mu, sigma)
            decoded.append(self.slice_latents(i, ops.ste_round(y_slice - mu), mu, support))
            mus.append(mu)
            sigmas.append(sigma)
        means, scales = jnp.concatenate(mus, axis=-1), jnp.concatenate(sigmas, axis=-1)
        y_hat = jnp.concatenate(decoded, axis=-1)
        symbols = jnp.round(y - means)
        residual = symbols if noise is None else y - means + noise["y"]
        return {
            "y": y,
            "z": z,
            "z_hat": z_hat,
            "latent_means": latent_means,
            "latent_scales": latent_scales,
            "means": means,
            "scales": scales,
            "symbols": symbols,
            "y_hat": y_hat,
            "likelihood_y": gaussian.likelihood(residual, scales),
            "likelihood_z": factorized.likelihood(self.entropy_bottleneck, z_hat if noise is None else z + noise["z"]),
        }


def _part(noise: jax.Array, i: int, like: jax.Array) -> jax.Array:
    """Channels of slice `i` of the noise."""
    return noise[..., i * like.shape[-1] : (i + 1) * like.shape[-1]]


def parameter_shapes(config: ModelConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters as a nested dict, without computing any."""
    picture = jax.ShapeDtypeStruct((1, PAD_MULTIPLE, PAD_MULTIPLE, 3), jnp.float32)
    level = jax.ShapeDtypeStruct((1,), jnp.float32)
    return jax.eval_shape(TCM(config).init, jax.random.key(0), picture, level=level)["params"]


@functools.cache
def flat_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path, components joined by "/"; kept, as tracing takes seconds."""
    return {key: leaf.shape for key, leaf in flatten_dict(parameter_shapes(config), sep="/").items()}
