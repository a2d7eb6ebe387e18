"""A network small enough for tests, with parameters that give its coders work, and pictures to compress."""

import math
import os
import signal
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from PIL import Image

from tcm_jax.codec import Codec
from tcm_jax.codec.residual import plan
from tcm_jax.entropy import factorized
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.tcm import flat_shapes
from tcm_jax.weights.files import make_weights
from tcm_jax.weights.weights import Weights

# Drawn at 0.7 / sqrt(fan in) but for these: latents of several units, scales from below the table to tens, pictures
# that do not clip everywhere.
GAINS = {"g_a/layers_6/kernel": 6.0, "h_a/layers_2/kernel": 4.0, "g_s/layers_6/layers_0/kernel": 0.05}
SCALE_GAIN = 4.0

jax.config.update("jax_numpy_dtype_promotion", "strict")  # float32 and int32 meet only where the code says so


# A shell that starts the tests in the background has them ignored, and so would the programs that tests start.
for number in (getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def pixel_limit(monkeypatch):
    """Pillow's, which the command line changes, as it was for the next test."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture(autouse=True)
def no_helpers(monkeypatch):
    """No other process compiles beside the tests."""
    monkeypatch.setattr("tcm_jax.cli.ahead._start_helpers", lambda weights: None)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Equal programs compile once a session, or once for all sessions that share JAX_COMPILATION_CACHE_DIR."""
    if jax.__version_info__ < (0, 6):  # see program_cache.keep_compiled_programs
        return
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("jax")))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture(scope="session")
def run_with_lanes(tmp_path_factory):
    """Runs a test module as a script whose kernels have so many lanes; what it printed. All share a cache folder."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared

    def run(file: str, lanes: int) -> str:
        cache = {} if lanes == 16 else {"XDG_CACHE_HOME": str(shared / f"{lanes}-lanes")}
        environment = os.environ | {"MALLOC_PERTURB_": "85"} | cache
        command = [sys.executable, "-X", "faulthandler", file, str(lanes)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()

    return run


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """The smallest network that has every part: 3 slices, one TCM block a stage."""
    return ModelConfig(
        widths=(8, 8, 8),
        depths=(1, 1, 1),
        head_dims=(4, 4, 4),
        hyper_width=8,
        hyper_depth=1,
        hyper_head_dim=4,
        latent_channels=12,
        hyper_channels=8,
        num_slices=3,
        atten_width=8,
        atten_head_dim=4,
        context_widths=(8, 8),
    )


@pytest.fixture(scope="session")
def tiny_weights(tiny_config) -> Weights:
    """Untrained weights of `tiny_config`."""
    return drawn_weights(tiny_config, seed=0)


@pytest.fixture(scope="session")
def tiny_codec(tiny_weights) -> Codec:
    """Compiles once for each padded size; native coder, so that every environment runs the same code."""
    return Codec(tiny_weights, coder="native")


def drawn_weights(config: ModelConfig, seed: int) -> Weights:
    """Weights drawn by name: quick, as nothing is compiled, and the same on every version of JAX."""
    flat = {name: draw(name, shape, seed) for name, shape in flat_shapes(config).items()}
    return make_weights(config, unflatten_dict(flat, sep="/"), {"name": f"drawn-{seed}"})


def draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """One parameter; every name has its own random numbers."""
    normal = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    module, _, leaf = name.rpartition("/")
    if module == "entropy_bottleneck":
        return draw_prior(leaf, shape, normal)
    if leaf == "gamma":
        return 0.3 * np.eye(shape[0])
    if leaf in ("scale", "beta"):
        return np.ones(shape)
    if module.startswith("cc_scale_transforms_") and module.endswith("layers_4"):
        return np.exp(1.5 * normal) if leaf == "bias" else SCALE_GAIN / math.sqrt(math.prod(shape[:-1])) * normal
    if leaf == "kernel":
        return GAINS.get(name, 0.7) / math.sqrt(math.prod(shape[:-1])) * normal
    return 0.1 * normal + (0.5 if module == "g_s/layers_6/layers_0" else 0)


def draw_prior(leaf: str, shape: tuple[int, ...], normal: np.ndarray) -> np.ndarray:
    """Distributions about 10 units wide with medians between the integers."""
    kind = leaf.partition("_")[0]
    if kind == "quantiles":
        return np.array([-10.0, 0.0, 10.0]) + normal[..., :1]
    if kind == "matrices":
        return np.full(shape, math.log(math.expm1(factorized.INIT_SCALE ** (-1 / factorized.LAYERS) / shape[1])))
    return 0.3 * normal


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Uint8 [H, W, 3] with what photographs have: smooth shading, edges, texture, and channels much alike."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width][..., None] / 64
    shading = sum(np.sin(rows * a + columns * b + c) for a, b, c in rng.normal(0, 1, (4, 3, 1)))
    edges = sum(40 * (np.hypot(rows - a, columns - b) < 0.7) for a, b in rng.uniform(0, 4, (4, 2)))
    texture = rng.normal(0, 8, (height, width, 1)) * (np.sin(columns) > 0.3)
    tint = rng.normal(0, 10, 3) + rng.normal(0, 2, (height, width, 3))
    return np.clip(120 + 25 * shading + edges + texture + tint, 0, 255).astype(np.uint8)


@pytest.fixture
def latents_alone(monkeypatch):
    """At any quality no residual layer helps the latents, or stands in their place."""
    monkeypatch.setattr(plan, "LAYER_FROM", 10_000)
    monkeypatch.setattr(plan, "is_tried", lambda colour, lam: False)
