"""The sizes of a network: one frozen dataclass, so that a small network is a configuration and not a fork."""

import dataclasses
import json
from typing import Any

from tcm_jax.errors import ConfigError

LATENT_STRIDE = 16  # pixels a side of one position of y
HYPER_STRIDE = 64  # pixels a side of one position of z
PAD_MULTIPLE = 128  # pixels: pictures are padded to multiples of this, so that the grid of y is whole in windows of 8
BLOCKS = ("mixed", "cnn", "transformer")  # residual and Swin block; two residual blocks; two Swin blocks
SKIPS = ("strided", "shuffled")  # of g_a's and h_a's blocks: every second position; all four of each 2x2, as channels
ATTENTIONS = ("entropy", "none", "transforms")  # in the slices; nowhere; in g_a and g_s, at strides 4 and 16

_LEAST = {  # the least value of each size
    **dict.fromkeys(("widths", "head_dims", "hyper_width", "hyper_head_dim", "latent_channels", "hyper_channels"), 1),
    **dict.fromkeys(("num_slices", "atten_width", "atten_head_dim", "context_widths", "detail_width"), 1),
    **dict.fromkeys(("depths", "hyper_depth", "max_support", "levels", "detail_channels", "checkerboard_width"), 0),
}


def _added(default):
    """A field that weights of format 1 did not have: left out of the JSON at its default, so identities stay."""
    return dataclasses.field(default=default, metadata={"added": True})


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
    levels: int = _added(0)  # gain levels of a variable-rate network; 0: one rate
    # The paper's ablations. Tiles are for the defaults: attention in the transforms reaches further than their halos.
    blocks: str = _added("mixed")  # BLOCKS: what the two halves of a TCM block are
    attention: str = _added("entropy")  # ATTENTIONS: where SWAtten stands
    lrp: bool = _added(True)  # latent residual prediction
    skip: str = _added("strided")  # SKIPS; "shuffled" lets the skips be a linear transform that loses nothing
    # Slices of coefficients beside the transforms, for qualities that these cannot reach: see detail.py.
    detail_channels: int = _added(0)  # of all such slices; 0: there are none
    detail_from: tuple[float, ...] = _added(())  # a slice each: the gain level over which a picture has it
    detail_width: int = _added(96)  # hidden channels of the networks of their scales
    checkerboard_width: int = _added(0)  # hidden channels of a slice's second step; 0: a slice has one step

    def __post_init__(self):
        for name in ("widths", "depths", "head_dims", "context_widths", "detail_from"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not len(self.widths) == len(self.depths) == len(self.head_dims) == 3:
            raise ConfigError("widths, depths and head_dims need three entries each, for strides 2, 4 and 8")
        if len(self.context_widths) != 2:
            raise ConfigError("context_widths needs two entries")
        self._check_sizes()
        halves = [(w // 2, d) for w, d in zip(self.widths, self.head_dims, strict=True)]
        halves += [(self.hyper_width // 2, self.hyper_head_dim), (self.atten_width, self.atten_head_dim)]
        for channels, head_dim in halves:
            if channels % head_dim:
                raise ConfigError(f"{channels} attention channels do not divide into heads of {head_dim}")
        if any(width % 2 for width in (*self.widths, self.hyper_width, self.atten_width)):
            raise ConfigError("widths must be even: a TCM block splits them in halves")
        if self.latent_channels % self.num_slices:
            raise ConfigError(f"{self.latent_channels} latent channels do not divide into {self.num_slices} slices")
        for name, choices in (("blocks", BLOCKS), ("attention", ATTENTIONS), ("skip", SKIPS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; choose from {', '.join(choices)}")
        if self.levels == 1:
            raise ConfigError("levels is 1; give at least 2, or 0 for a network of one rate")
        self._check_detail()
        if self.window != 8 or self.hyper_window not in (1, 2, 4):
            raise ConfigError("windows are 8 (transforms) and at most 4 (hyper): pictures are padded to 128 pixels")

    def _check_sizes(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            sizes = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(size, int) and size >= least for size in sizes):
                raise ConfigError(f"{name} is {value}; sizes are whole numbers, here of at least {least}")

    def _check_detail(self) -> None:
        first = self.detail_from
        if bool(first) != (self.detail_channels > 0) or (first and self.detail_channels % len(first)):
            raise ConfigError(f"{self.detail_channels} detail channels do not divide into {len(first)} slices")
        if list(first) != sorted(first) or (first and not 0 <= first[0] <= first[-1] < self.levels - 1):
            raise ConfigError(f"detail_from {first}: rising levels, from 0 to below {self.levels - 1}")

    @property
    def slice_channels(self) -> int:
        """Channels of one slice of y."""
        return self.latent_channels // self.num_slices

    @property
    def detail_slice_channels(self) -> int:
        """Channels of one detail slice."""
        return self.detail_channels // max(len(self.detail_from), 1)

    @property
    def steps(self) -> int:
        """In how many parts a slice of y is coded."""
        return 2 if self.checkerboard_width else 1

    def detail_slices(self, level: float) -> int:
        """How many detail slices a picture of gain level `level` has."""
        return sum(level > first for first in self.detail_from)

    def to_json(self) -> str:
        """The configuration as canonical JSON (sorted keys): part of a model's identity."""
        values = dataclasses.asdict(self)
        for field in dataclasses.fields(self):
            if field.metadata.get("added") and values[field.name] == field.default:
                del values[field.name]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Inverse of `dataclasses.asdict` and of `to_json`; raises ConfigError for an unknown or missing field."""
        names = {field.name for field in dataclasses.fields(cls)}
        added = {field.name for field in dataclasses.fields(cls) if field.metadata.get("added")}
        if wrong := sorted((set(values) ^ names) - (added - set(values))):
            raise ConfigError(f"the model configuration does not fit this version of tcm_jax: {', '.join(wrong)}")
        return cls(**values)


def padded_size(height: int, width: int) -> tuple[int, int]:
    """The size of the coded picture: both sides up to multiples of 128."""
    return -(-height // PAD_MULTIPLE) * PAD_MULTIPLE, -(-width // PAD_MULTIPLE) * PAD_MULTIPLE


def reference_config(n: int) -> ModelConfig:
    """The reference's model of N = `n` (64 small, 96 medium, 128 large)."""
    return ModelConfig(widths=(2 * n,) * 3, hyper_width=2 * n)
