"""The kernels for CPUs against XLA's operations; run as a script it prints a digest of what they compute."""

import hashlib
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_jax import ops
from tcm_jax.model.layers.conv import Conv1x1, Conv3x3, SubpelConv
from tcm_jax.model.layers.gain import Gain
from tcm_jax.model.layers.gdn import GDN
from tcm_jax.model.layers.swatten import SWAtten
from tcm_jax.model.layers.swin import SwinBlock
from tcm_jax.model.layers.tcm_block import TCMBlock
from tcm_jax.ops import kernels
from tcm_jax.ops.kernels import handlers


class Normalized(nn.Module):
    """GDN plus something."""

    inverse: bool

    @nn.compact
    def __call__(self, x):
        return GDN(self.inverse)(x, jnp.sin(x))


class Halves(nn.Module):
    """1x1 convolutions around a TCM block's halves."""

    features: int

    @nn.compact
    def __call__(self, x):
        left, right = Conv1x1(2 * self.features, halves=True)(x)
        return Conv1x1(x.shape[-1])(left, right, residual=x)


class Pointwise(nn.Module):
    """GELU, tanh, gains, exp, log and a product with a sum, of values from far below to far above 0."""

    @nn.compact
    def __call__(self, x):
        level = jnp.linspace(0.0, 3.0, len(x))
        size = ops.log(jnp.exp(20 * x)) + ops.log(jnp.abs(x) + 0.7)
        added = ops.multiply_add(x, 3 * x, size)
        return jnp.stack([ops.gelu(20 * x), ops.tanh(2 * x), Gain(4)(x, level), ops.exp(2 * x), size, added])


CODEC = ops.Target("cpu", "codec")
# Vectors have 4, 8 or 16 floats, by the machine, tiles 4 or 8 rows and 2 vectors: whole sizes, and others.
CASES = [
    (Conv3x3(64), (2, 16, 24, 32)),  # (batch, height, width, channels)
    (Conv3x3(33, leaky=True), (1, 9, 13, 20)),
    (Conv3x3(5), (2, 1, 3, 2)),
    (Conv3x3(32, leaky=True), (1, 40, 50, 64)),  # more patches than are done at a time
    (SubpelConv(32, leaky=True), (1, 6, 9, 16)),
    (SubpelConv(3), (2, 5, 6, 24)),
    (Conv3x3(64, stride=2, leaky=True), (1, 10, 140, 3)),
    (Conv3x3(7, stride=2), (2, 7, 9, 33)),
    (Conv1x1(64), (1, 30, 40, 32)),
    (Conv1x1(7), (1, 1, 3, 5)),
    (Halves(32), (1, 7, 23, 48)),
    (Halves(5), (2, 3, 5, 9)),
    (Normalized(False), (1, 12, 13, 64)),
    (Normalized(True), (2, 3, 5, 9)),
    (SwinBlock(8, 8, False), (1, 16, 24, 32)),
    (SwinBlock(8, 8, True), (2, 24, 16, 32)),
    (SwinBlock(9, 8, True), (1, 16, 8, 36)),
    (SwinBlock(4, 4, True), (2, 8, 12, 8)),
    (SwinBlock(3, 1, True), (1, 4, 6, 6)),
    (SWAtten(16, 8, 8), (1, 8, 16, 24)),
    (Pointwise(), (2, 97, 101, 1)),
    (TCMBlock(8, 8, True), (1, 16, 24, 32)),
]


def name(case) -> str:
    module, size = case
    return f"{type(module).__name__} {size}"


def with_params(module: nn.Module, size):
    """(params, x), drawn so that every part counts; by NumPy, as JAX would compile for each shape."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(size, np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)

    def draw(path, leaf):
        around = 1.0 if path[-1].key in ("scale", "beta") else 0.0
        fan_in = np.prod(leaf.shape[:-1]) if path[-1].key in ("kernel", "gamma") else 10
        return (around + rng.standard_normal(leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes), x


def by_kernels(module: nn.Module, precise: bool = False):
    def apply(params, x):
        with ops.target(CODEC), jax.default_matmul_precision("highest" if precise else None):
            return module.apply(params, x)

    return jax.jit(apply)


def by_xla(module: nn.Module):
    def apply(params, x):
        with jax.default_matmul_precision("highest"):
            return module.apply(params, x)

    return jax.jit(apply)


@pytest.fixture(scope="module", autouse=True)
def registered():
    handlers.register()


@pytest.mark.parametrize("precise", [False, True], ids=["quick", "precise"])
@pytest.mark.parametrize("case", CASES, ids=map(name, CASES))
def test_kernels_compute_what_xla_does(case, precise):
    params, x = with_params(*case)
    expected = by_xla(case[0])(params, x)
    size = float(jnp.abs(expected).max())
    computed = by_kernels(case[0], precise)
    assert "custom-call" in computed.lower(params, x).compile().as_text()
    np.testing.assert_allclose(computed(params, x), expected, rtol=0, atol=size * (1e-6 if precise else 1e-5))


SIZES = st.integers(1, 40)
MODULES = {
    "convolution": lambda features: Conv3x3(features, leaky=True),
    "stride 2": lambda features: Conv3x3(features, stride=2),
    "sub-pixel": lambda features: SubpelConv(features),
    "product": lambda features: Conv1x1(features),
    "halves": lambda features: Halves(features),
    "GDN": lambda _: Normalized(True),
}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(MODULES)), st.integers(1, 3), SIZES, SIZES, SIZES, SIZES)
def test_maps_of_any_size(kind, batch, height, width, channels, features):
    module = MODULES[kind](features)
    params, x = with_params(module, (batch, height, width, channels))
    expected = by_xla(module)(params, x)
    size = max(1.0, float(jnp.abs(expected).max()))
    np.testing.assert_allclose(by_kernels(module, precise=True)(params, x), expected, rtol=0, atol=2e-6 * size)


@pytest.mark.parametrize("widths", [(5,), (4, 4), (6, 3), (4, 4, 4), (2, 3, 4, 5)])
def test_maps_side_by_side_are_of_any_number_and_widths(widths):
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((1, 6, 5, width)).astype(np.float32) for width in widths]
    kernel, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((sum(widths), 7), (7,)))

    def product(*xs):
        with ops.target(CODEC):
            return ops.conv1x1(xs, kernel, bias)

    np.testing.assert_allclose(jax.jit(product)(*xs), np.concatenate(xs, axis=-1) @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize("module", [Conv3x3(33), Conv3x3(33, stride=2), Conv1x1(33)], ids=["3x3", "strided", "1x1"])
def test_xla_compiles_nothing_around_a_kernel(module):
    """It would compile loops that arrange weights anew for each size of picture."""
    params, x = with_params(module, (1, 8, 8, 16))
    compiled = by_kernels(module).lower(params, x).compile().as_text()
    found = set(re.findall(r" = [^=]*? ([a-z-]+)\(", compiled[compiled.index("ENTRY") :]))
    without_loops = {"parameter", "constant", "bitcast", "reshape", "custom-call", "get-tuple-element", "tuple"}
    assert "custom-call" in found
    assert found <= without_loops


def test_what_is_traced_once_is_traced_for_each_way():
    module, size = CASES[-1]
    params, x = with_params(module, size)
    assert "custom_call" in by_kernels(module).lower(params, x).as_text()
    assert "custom_call" not in by_xla(module).lower(params, x).as_text()


def test_a_relu_keeps_what_is_no_number():
    x = jnp.array([np.nan, -1.0, 2.0, np.inf, -np.inf])
    np.testing.assert_array_equal(kernels.relu(x), [np.nan, 0, 2, np.inf, 0])
    np.testing.assert_array_equal(kernels.relu_of_sum(x, jnp.ones(5)), [np.nan, 0, 3, np.inf, 0])


def test_attention_weights_far_apart():
    """Logits from -1e4 to 1e4: no overflow, and what is masked has no weight."""
    module = SwinBlock(8, 8, True)
    params, x = with_params(module, (1, 16, 16, 16))
    params = jax.tree.map(lambda p: 30 * p, params)
    expected = by_xla(module)(params, x)
    size = float(jnp.abs(expected).max())
    np.testing.assert_allclose(by_kernels(module)(params, x), expected, rtol=0, atol=2e-5 * size)


@pytest.mark.parametrize("module, channels", [(TCMBlock(8, 8, True), 32), (Conv1x1(1024), 512)], ids=["short", "long"])
def test_many_calls_at_once(module, channels):
    """Of parts that end before another thread has begun, and of two parts that end at different times."""
    params, x = with_params(module, (1, 16, 16, channels))
    computed = by_kernels(module)
    expected = np.asarray(computed(params, x))
    with ThreadPoolExecutor(6) as pool:
        for result in pool.map(lambda _: np.asarray(computed(params, x)), range(200)):
            np.testing.assert_array_equal(result, expected)


def digest() -> str:
    handlers.register()
    total = hashlib.sha256()
    for case in CASES:
        params, x = with_params(*case)
        total.update(np.asarray(by_kernels(case[0], precise=True)(params, x)).tobytes())
    return total.hexdigest()


def digest_elsewhere(*command):
    command = [*command, sys.executable, __file__, "16"]
    environment = os.environ | {"MALLOC_PERTURB_": "85"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("command", [["taskset", "-c", "0"], []], ids=["one core", "all cores"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="by taskset and glibc's malloc")
def test_results_depend_neither_on_threads_nor_on_old_memory(command):
    assert digest_elsewhere(*command) == digest()


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [8, 4])
def test_results_do_not_depend_on_the_size_of_vectors(lanes, run_with_lanes):
    """Those of this machine may have 16; whatever it has, smaller ones give the same."""
    assert run_with_lanes(__file__, lanes) == digest()


@pytest.mark.parametrize("name", ["table", "_handler"])
def test_one_thread_makes_and_registers_them(name, monkeypatch):
    inside = []

    def make():
        inside.append(True)
        time.sleep(0.01)
        assert len(inside) == 1
        inside.pop()

    monkeypatch.setattr(handlers, name, make)
    ask = kernels.available.__wrapped__ if name == "table" else lambda: handlers.register() is None
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: ask(), range(8)))


def at_most(lanes: int) -> None:
    """Hides instructions for larger vectors from the kernels."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    features |= {"avx512f": features.get("avx512f") and lanes >= 16, "avx": features.get("avx") and lanes >= 8}
    with mock.patch.object(llvm, "get_host_cpu_features", lambda: features):
        from tcm_jax.ops.kernels import machine
    assert lanes >= machine.LANES


if __name__ == "__main__":
    at_most(int(sys.argv[1]))
    print(digest())
