"""The TCM network: transforms, slice parameters and the training forward (Fig. 2 of the paper; docs/architecture.md).

One call of `TCM.slice_params` and `TCM.slice_latents` a slice serves training, encoder and decoder alike: two
separately written programs would differ in the last bits, and one differing scale index destroys a stream.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from tcm_jax import ops
from tcm_jax.entropy import factorized, gaussian
from tcm_jax.entropy.range_coder import RangeTables
from tcm_jax.errors import ConfigError, WeightsError
from tcm_jax.layers.conv import (
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    SubpelConv,
    conv3x3,
    gelu,
)
from tcm_jax.layers.swatten import SWAtten
from tcm_jax.layers.tcm_block import TCMBlock

LATENT_STRIDE = 16  # pixels a side of one position of y
HYPER_STRIDE = 64  # pixels a side of one position of z


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Every size of the network; the defaults are the reference's small model (N = 64).

    `widths`, `depths`, `head_dims` run from the finest grid (stride 2) to the coarsest (stride 8); g_s mirrors g_a.
    """

    widths: tuple[int, ...] = (128, 128, 128)  # channels (C = 2N) at stride 2, 4, 8
    depths: tuple[int, ...] = (2, 2, 2)  # TCM blocks a stage, alternating plain and shifted windows
    head_dims: tuple[int, ...] = (8, 16, 32)  # channels of an attention head a stage
    window: int = 8  # side of an attention window in g_a, g_s and SWAtten
    hyper_width: int = 128  # channels (2N) of the hyper transforms
    hyper_depth: int = 2  # TCM blocks of each hyper transform
    hyper_head_dim: int = 32
    hyper_window: int = 4
    latent_channels: int = 320  # channels of y
    hyper_channels: int = 192  # channels of z
    num_slices: int = 5  # slices of y that are coded one after the other
    max_support: int = 5  # earlier slices that a slice sees
    atten_width: int = 128  # channels that SWAtten squeezes to
    atten_head_dim: int = 16
    context_widths: tuple[int, ...] = (224, 128)  # hidden channels of the slice networks

    def __post_init__(self):
        for name in ("widths", "depths", "head_dims", "context_widths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not len(self.widths) == len(self.depths) == len(self.head_dims) == 3:
            raise ConfigError("widths, depths and head_dims need three entries each, for strides 2, 4 and 8")
        halves = [(w // 2, d) for w, d in zip(self.widths, self.head_dims, strict=True)]
        halves += [(self.hyper_width // 2, self.hyper_head_dim), (self.atten_width, self.atten_head_dim)]
        for channels, head_dim in halves:
            if head_dim < 1 or channels % head_dim:
                raise ConfigError(f"{channels} attention channels do not divide into heads of {head_dim}")
        if any(width % 2 for width in (*self.widths, self.hyper_width, self.atten_width)):
            raise ConfigError("widths must be even: a TCM block splits them in halves")
        if self.latent_channels % self.num_slices:
            raise ConfigError(f"{self.latent_channels} latent channels do not divide into {self.num_slices} slices")
        if self.window != 8 or self.hyper_window not in (1, 2, 4):
            raise ConfigError("windows are 8 (transforms) and at most 4 (hyper): pictures are padded to 128 pixels")

    @property
    def slice_channels(self) -> int:
        """Channels of one slice of y."""
        return self.latent_channels // self.num_slices

    def to_json(self) -> str:
        """The configuration as canonical JSON (sorted keys): part of a model's identity."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Inverse of `dataclasses.asdict`; raises ConfigError for an unknown or missing field."""
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            wrong = sorted(set(values) ^ names)
            raise ConfigError(f"the model configuration does not fit this version of tcm_jax: {', '.join(wrong)}")
        return cls(**values)


def reference_config(n: int) -> ModelConfig:
    """The reference's model of N = `n` (64 small, 96 medium, 128 large)."""
    return ModelConfig(widths=(2 * n,) * 3, hyper_width=2 * n)


class TCM(nn.Module):
    """The whole network; maps are NHWC, pictures float in [0, 1] with sides that are multiples of 128."""

    config: ModelConfig

    def setup(self):
        c = self.config
        stages = list(zip(c.widths, c.depths, c.head_dims, strict=True))
        self.g_a = self._down(stages, c.window, c.latent_channels)
        self.g_s = self._up(stages[::-1], c.window, 3)
        hyper = [(c.hyper_width, c.hyper_depth, c.hyper_head_dim)]
        self.h_a = self._down(hyper, c.hyper_window, c.hyper_channels)
        self.h_mean_s = self._up(hyper, c.hyper_window, c.latent_channels)
        self.h_scale_s = self._up(hyper, c.hyper_window, c.latent_channels)
        self.atten_mean = [self._attention() for _ in range(c.num_slices)]
        self.atten_scale = [self._attention() for _ in range(c.num_slices)]
        self.cc_mean_transforms = [self._context() for _ in range(c.num_slices)]
        self.cc_scale_transforms = [self._context() for _ in range(c.num_slices)]
        self.lrp_transforms = [self._context() for _ in range(c.num_slices)]
        self.entropy_bottleneck = self.param("entropy_bottleneck", factorized.init, c.hyper_channels)

    def _down(self, stages, window: int, features: int) -> nn.Sequential:
        layers = []
        for width, depth, head_dim in stages:
            layers.append(ResidualBlockWithStride(width))
            layers += [TCMBlock(head_dim, window, shifted=i % 2 == 1) for i in range(depth)]
        return nn.Sequential([*layers, conv3x3(features, stride=2)])

    def _up(self, stages, window: int, features: int) -> nn.Sequential:
        layers = []
        for width, depth, head_dim in stages:
            layers.append(ResidualBlockUpsample(width))
            layers += [TCMBlock(head_dim, window, shifted=i % 2 == 1) for i in range(depth)]
        return nn.Sequential([*layers, SubpelConv(features)])

    def _attention(self) -> SWAtten:
        return SWAtten(self.config.atten_width, self.config.atten_head_dim, self.config.window)

    def _context(self) -> nn.Sequential:
        first, second = self.config.context_widths
        return nn.Sequential([conv3x3(first), gelu, conv3x3(second), gelu, conv3x3(self.config.slice_channels)])

    def analysis(self, x: jax.Array) -> jax.Array:
        """g_a: picture [B, H, W, 3] to latents y [B, H/16, W/16, latent_channels]."""
        return self.g_a(x)

    def synthesis(self, y_hat: jax.Array) -> jax.Array:
        """g_s: decoded latents to the picture [B, H, W, 3], not clipped."""
        return self.g_s(y_hat)

    def hyper_analysis(self, y: jax.Array) -> jax.Array:
        """h_a: latents to hyper-latents z [B, H/64, W/64, hyper_channels]."""
        return self.h_a(y)

    def hyper_synthesis(self, z_hat: jax.Array) -> tuple[jax.Array, jax.Array]:
        """h_mean_s and h_scale_s: (latent means, latent scales), each of the shape of y."""
        return self.h_mean_s(z_hat), self.h_scale_s(z_hat)

    def medians(self) -> jax.Array:
        """Centres of the hyper-latents' distributions [hyper_channels]."""
        return factorized.medians(self.entropy_bottleneck)

    def slice_params(self, i: int, latent_means, latent_scales, previous) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(mu, sigma, support) of slice `i` from the hyper-latents and the decoded slices before it (Eq. 7).

        mu, sigma [B, h, w, slice_channels]; sigma is not bounded yet; `support` is what `slice_latents` wants.
        """
        previous = list(previous)[: self.config.max_support]
        support = self.atten_mean[i](jnp.concatenate([latent_means, *previous], axis=-1))
        scale_support = self.atten_scale[i](jnp.concatenate([latent_scales, *previous], axis=-1))
        return self.cc_mean_transforms[i](support), self.cc_scale_transforms[i](scale_support), support

    def slice_latents(self, i: int, symbols: jax.Array, mu: jax.Array, support: jax.Array) -> jax.Array:
        """Decoded slice: symbols + mu + latent residual prediction (LRP)."""
        y_hat = symbols + mu
        return y_hat + 0.5 * jnp.tanh(self.lrp_transforms[i](jnp.concatenate([support, y_hat], axis=-1)))

    def __call__(self, x: jax.Array, noise: dict[str, jax.Array] | None = None) -> tuple[jax.Array, dict[str, Any]]:
        """Training and estimation forward: picture [B, H, W, 3] to (x_hat, intermediates).

        With `noise` ({"y", "z"} of the latents' shapes, uniform in [-0.5, 0.5)) the likelihoods are those of noisy
        latents; without, of rounded ones. Context and synthesis always see straight-through rounding.
        Intermediates: y, z, z_hat, latent_means, latent_scales, means, scales, symbols, y_hat, and the likelihoods
        likelihood_y, likelihood_z.
        """
        y = self.analysis(x)
        z = self.hyper_analysis(y)
        medians = self.medians()
        z_hat = ops.ste_round(z - medians) + medians
        latent_means, latent_scales = self.hyper_synthesis(z_hat)
        means, scales, decoded = [], [], []
        for i, y_slice in enumerate(jnp.split(y, self.config.num_slices, axis=-1)):
            mu, sigma, support = self.slice_params(i, latent_means, latent_scales, decoded)
            decoded.append(self.slice_latents(i, ops.ste_round(y_slice - mu), mu, support))
            means.append(mu)
            scales.append(sigma)
        means, scales = jnp.concatenate(means, axis=-1), jnp.concatenate(scales, axis=-1)
        y_hat = jnp.concatenate(decoded, axis=-1)
        symbols = jnp.round(y - means)
        residual = symbols if noise is None else y - means + noise["y"]
        intermediates = {
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
        return self.synthesis(y_hat), intermediates


def parameter_shapes(config: ModelConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters as a nested dict, without computing any."""
    model = TCM(config)
    picture = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), picture)["params"]


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained model as it is stored and loaded: everything that a codec needs."""

    config: ModelConfig
    params: dict[str, Any]  # nested, float32 arrays
    tables: RangeTables
    metadata: dict[str, str]  # free text about the training; no part of the identity

    @property
    def name(self) -> str:
        """What the model is called in tables and messages."""
        return self.metadata.get("name", "unnamed")

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256, hexadecimal, of the configuration, every parameter in float32, and the tables."""
        digest = hashlib.sha256(self.config.to_json().encode())
        arrays = {**traverse_util.flatten_dict(self.params, sep="/"), **table_arrays(self.tables)}
        for key in sorted(arrays):
            array = np.ascontiguousarray(arrays[key])
            digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        return digest.hexdigest()


def table_arrays(tables: RangeTables) -> dict[str, np.ndarray]:
    """The integer tables by the names under which they are stored."""
    return {"tables/lookup": tables.lookup, "tables/offsets": tables.offsets}


def flat_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path, components joined by "/"."""
    return {key: leaf.shape for key, leaf in traverse_util.flatten_dict(parameter_shapes(config), sep="/").items()}


def match_parameters(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises one WeightsError with every missing and unexpected name and every shape that differs, if any does."""
    problems = []
    if missing := [f"{name} {expected[name]}" for name in sorted(expected.keys() - found.keys())]:
        problems.append(f"{len(missing)} missing in the checkpoint: {', '.join(missing)}")
    if unexpected := [f"{name} {found[name]}" for name in sorted(found.keys() - expected.keys())]:
        problems.append(f"{len(unexpected)} in the checkpoint but not in the model: {', '.join(unexpected)}")
    both = sorted(expected.keys() & found.keys())
    if differ := [f"{name} {found[name]} for {expected[name]}" for name in both if found[name] != expected[name]]:
        problems.append(f"{len(differ)} of another shape than the model's: {', '.join(differ)}")
    if problems:
        raise WeightsError(f"the parameters do not fit the model: {'; '.join(problems)}")
