"""The kernels between pages that nobody may touch, on a small stack; run as a script with a number of lanes it does it.

There each kernel is called as XLA calls it, with every buffer at the end of a page before a forbidden one, then at the
start of one after it, and with scratch memory of one content, then of another.
"""

import contextlib
import ctypes
import math
import mmap
import sys
import threading
from unittest import mock

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels import at_most

from tcm_jax.ops import kernels
from tcm_jax.ops.kernels import attention, calls, layers, pointwise
from tcm_jax.ops.kernels import frame as frames

STACK = 64 << 10  # bytes
PAGE = mmap.PAGESIZE


class Guarded:
    """Memory of some bytes at the end of a page before a forbidden one, or at the start of one after it."""

    def __init__(self, size: int, at_end: bool, content: bytes):
        whole = max(1, -(-size // PAGE)) * PAGE
        self.memory = mmap.mmap(-1, whole + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for page in (start, start + PAGE + whole):
            if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.address = start + PAGE + (whole - size if at_end else 0)
        self.size = size
        ctypes.memmove(self.address, (content * (size // len(content) + 1))[:size], size)

    def bytes(self) -> bytes:
        return ctypes.string_at(self.address, self.size)


def pointers(addresses) -> ctypes.Array:
    return (ctypes.c_void_p * len(addresses))(*addresses)


class Caller:
    """Stands for `calls.call`: calls the kernel itself."""

    def __init__(self, at_end: bool):
        self.at_end = at_end
        self.kept: list = []  # what C points to

    def _buffer(self, shape, content: bytes):
        memory = Guarded(4 * math.prod(shape), self.at_end, content)
        dims = (ctypes.c_int64 * len(shape))(*shape)
        buffer = frames.Buffer(data=memory.address, rank=len(shape), dims=ctypes.addressof(dims))
        self.kept += [memory, dims, buffer]
        return memory, ctypes.addressof(buffer)

    def _scalar(self, value) -> int:
        number = ctypes.c_int64(int(value))
        scalar = frames.Scalar(value=ctypes.addressof(number))
        self.kept += [number, scalar]
        return ctypes.addressof(scalar)

    def __call__(self, name, results, arguments, parts, scratch, prepare=0, **attributes):
        from tcm_jax.ops.kernels import handlers

        shapes = [one.shape for one in (results if isinstance(results, (list, tuple)) else [results])]
        inputs = [self._buffer(x.shape, np.ascontiguousarray(x, np.float32).tobytes() or b"\0") for x in arguments]
        outputs = [self._buffer(shape, b"\xff") for shape in shapes]
        named = {"_kernel": 0, "_parts": parts, "_prepare": prepare, "_scratch": scratch} | attributes
        tables = [pointers([address for _, address in buffers]) for buffers in (inputs, outputs)]
        tables.append(pointers([self._scalar(named[key]) for key in sorted(named)]))
        frame = frames.CallFrame(
            args=frames.Args(args=ctypes.addressof(tables[0])),
            rets=frames.Rets(rets=ctypes.addressof(tables[1])),
            attrs=frames.Attrs(attrs=ctypes.addressof(tables[2])),
        )
        number = handlers.NUMBERS[name]
        for kernel, count in ((number - 1, prepare), (number, parts)):
            for part in range(count):
                room = Guarded(scratch, self.at_end, b"\x55" if self.at_end else b"\xaa")
                function = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 4)(handlers.table()[kernel])
                on_small_stack(function, ctypes.addressof(frame), part, room.address)
        arrays = [np.frombuffer(memory.bytes(), np.float32) for memory, _ in outputs]
        arrays = [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
        return arrays if isinstance(results, (list, tuple)) else arrays[0]


def on_small_stack(function, *arguments) -> None:
    before = threading.stack_size(STACK)
    try:
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()


def check(name: str, function, *arguments) -> None:
    """That a kernel keeps to its buffers, and that what was in its scratch memory does not matter."""
    print(name, flush=True)
    found = []
    for at_end in (True, False):
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(calls, "call", Caller(at_end)))
            for module in (attention, layers):
                stack.enter_context(mock.patch.object(module, "jnp", np))
            found.append(jax.tree.leaves(function(*arguments)))
    for first, second in zip(*found, strict=True):
        assert np.isfinite(first).all(), name
        np.testing.assert_array_equal(first, second, err_msg=name)


SIZE = st.integers(1, 40)
WIDTH = SIZE | st.integers(500, 530)  # rows of more or less than a block, too


def drawn(*shape) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@settings(max_examples=60, deadline=None, database=None)
@given(st.integers(1, 2), SIZE, WIDTH, SIZE, SIZE, st.integers(1, 3), st.booleans())
def convolutions(batch, height, width, channels, features, factor, precise):
    x, kernel = drawn(batch, height, width, channels), drawn(3, 3, channels, features * factor**2)
    bias, strided = drawn(features * factor**2), drawn(batch, -(-height // 2), -(-width // 2), features)
    size = x.shape, kernel.shape
    with jax.default_matmul_precision("highest" if precise else None):
        if factor == 1 or features % 16 == 0:  # others are shuffled by JAX
            check(f"convolve {size} {factor} {precise}", kernels.convolve, x, kernel, bias, 0.1, factor)
    check(f"strided {size}", kernels.convolve_strided, x, kernel, bias, 0.1)
    gradient = drawn(batch, height, width, features)
    for stride, one in ((1, gradient), (2, strided)):
        check(f"kernel gradient {size} {stride}", kernels.convolution_kernel_gradient, x, one, stride)
    taps = drawn(min(11, height, width))
    if width * channels >= 16:
        check(f"blur {size}", kernels.blur, x, taps)


@settings(max_examples=60, deadline=None, database=None)
@given(st.integers(1, 600), SIZE, SIZE, st.booleans(), st.booleans(), st.integers(0, 7))
def products(positions, channels, features, two, with_residual, function):
    xs = [drawn(positions, channels)] * (1 + two)
    kernel, bias = drawn(len(xs) * channels, features), drawn(features)
    residual = drawn(positions, features) if with_residual else None
    outputs = 2 if features % 2 == 0 else 1
    size = positions, channels, features
    check(f"product {size} {two} {with_residual}", kernels.product, xs, kernel, bias, residual, outputs)
    square = np.abs(drawn(channels, channels))
    for inverse in (False, True):
        check(f"gdn {size}", kernels.gdn, xs[0], square, np.ones(channels, np.float32), xs[0], inverse)
    name = ("GELU", "GATE", "TANH", "EXP", "LOG", "MULTIPLY_ADD", "RELU", "SUM_RELU")[function]
    check(f"{name} {size}", pointwise._pointwise, name, *[np.abs(xs[0]) + np.float32(0.1)] * 3)


@settings(max_examples=25, deadline=None, database=None)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), SIZE, st.integers(1, 8), st.booleans()
)
def swin_blocks(batch, rows, columns, heads, head_dim, window, shifted):
    channels = heads * (head_dim % 20 + 1)
    x = drawn(batch, rows * window, columns * window, channels)
    shapes = [(channels,), (channels,), (channels, 3 * channels), (3 * channels,), (channels, channels), (channels,)]
    shapes += [
        (channels,),
        (channels,),
        (channels, 4 * channels),
        (4 * channels,),
        (4 * channels, channels),
        (channels,),
    ]
    layers = [drawn(*shape) / np.float32(channels**0.5) for shape in shapes]
    biases = drawn(4 if shifted else 1, heads, window**2, window**2)
    rest = biases, layers, window, channels // heads, shifted
    check(f"Swin {x.shape} {window} {shifted}", kernels.swin_block, x, *rest)
    check(f"Swin gradient {x.shape} {window} {shifted}", kernels.swin_block_gradient, x, x, *rest)
    check(f"Swin gradients {x.shape} {window} {shifted}", kernels.swin_block_gradients, x, x, *rest)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="by mmap and mprotect")
@pytest.mark.parametrize("lanes", [16, 8, 4])
def test_kernels_keep_to_their_memory(lanes, run_with_lanes):
    run_with_lanes(__file__, lanes)


if __name__ == "__main__":
    at_most(int(sys.argv[1]))
    assert kernels.training_available()
    convolutions()
    products()
    swin_blocks()
