"""The kernels' side of XLA's interface, and machines on which XLA's own operations serve."""

import ctypes
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numba
import numpy as np
import pytest

from tcm_jax.codec import Codec
from tcm_jax.ops import kernels


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("INVALID_ARGUMENT: version"),
        numba.core.errors.LoweringError("of Numba\nFile ..."),
        RuntimeError("of LLVM"),
        OSError("no memory that may be executed"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("place", ["address", "table"])
def test_where_they_cannot_be_made_xla_serves(error, place, monkeypatch):
    from tcm_jax.ops.kernels import handlers

    def fail(*_):
        raise error

    monkeypatch.setattr(handlers, place, fail)
    monkeypatch.setattr(handlers, "table", getattr(handlers.table, "__wrapped__", handlers.table))
    with pytest.warns(RuntimeWarning, match=f"{type(error).__name__}: {str(error).splitlines()[0]}$") as warned:
        assert not kernels.available.__wrapped__()
    assert len(warned) == 1


def test_where_xla_refuses_them_searches_and_training_do_without(monkeypatch):
    """The codec's own programs ask nothing of XLA."""
    from tcm_jax.ops.kernels import handlers

    def refuse():
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: version")

    monkeypatch.setattr(handlers, "register", refuse)
    assert kernels.available.__wrapped__()
    for ask in (kernels.gradients_available, kernels.training_available):
        with pytest.warns(RuntimeWarning, match="INVALID_ARGUMENT: version$"):
            assert not ask.__wrapped__()


def test_without_llvmlite_xla_serves(monkeypatch):
    monkeypatch.setitem(sys.modules, "tcm_jax.ops.kernels.handlers", None)  # whose import then fails
    monkeypatch.delattr(kernels, "handlers")
    with pytest.warns(RuntimeWarning, match="XLA's slower operations serve"):
        assert not kernels.available.__wrapped__()


def test_the_codec_is_imported_where_kernels_cannot_be():
    """In a process of its own: here both have been imported."""
    code = "import sys; sys.modules['tcm_jax.ops.kernels.handlers'] = None; import tcm_jax.codec.codec"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_failure_is_told_once_and_the_codec_works(monkeypatch, tiny_weights):
    from tcm_jax.ops.kernels import handlers

    monkeypatch.setattr(handlers, "table", lambda: (_ for _ in ()).throw(RuntimeError("of LLVM")))
    monkeypatch.setattr(kernels, "available", functools.cache(kernels.available.__wrapped__))
    codec = Codec(tiny_weights)
    picture = np.random.default_rng(0).integers(0, 256, (600, 48, 3), np.uint8)  # no other test compiles for its size
    with pytest.warns(RuntimeWarning) as warned:
        encoded = codec.encode(picture)
        np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    told = [warning for warning in warned if warning.category is RuntimeWarning]  # matplotlib may warn of other things
    assert len(told) == 1


@pytest.mark.parametrize(
    ("features", "machine", "fused"),
    [
        ({"avx": True, "fma": False}, "x86_64", False),
        ({"avx": True}, "AMD64", False),
        ({"avx": True, "fma": True}, "x86_64", True),
        ({"neon": True}, "aarch64", True),
        ({}, "arm64", True),
    ],
)
def test_a_processor_that_does_not_fuse(features, machine, fused, monkeypatch):
    from tcm_jax.ops.kernels import handlers
    from tcm_jax.ops.kernels import machine as this

    assert this.fuses(features, machine) == fused
    monkeypatch.setattr(this, "FUSES", fused)
    monkeypatch.setattr(handlers, "register", lambda: [])
    assert kernels.available.__wrapped__() == fused


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_structures_are_those_of_xla_s_header(tmp_path):
    from tcm_jax.ops.kernels import frame, xla

    names = (
        "Api_Version", "Api", "Extension_Base", "Metadata", "Metadata_Extension", "Buffer", "Scalar", "Args", "Rets",
        "Attrs", "CallFrame", "ThreadPool_Schedule_Args", "ThreadPool_NumThreads_Args",
    )  # fmt: skip
    structures = {name: getattr(frame, name.replace("_", "")) for name in names}
    called = {"api_version", "XLA_FFI_ThreadPool_Schedule", "XLA_FFI_ThreadPool_NumThreads"}  # others were renamed
    offsets = [
        (f"struct XLA_FFI_{name}" if name != "Scalar" else "XLA_FFI_Scalar", field, getattr(ours, field).offset)
        for name, ours in structures.items()
        for base in ours.__mro__
        for field, *_ in vars(base).get("_fields_", ())
        if ours is not frame.Api or field in called
    ]
    assert len(offsets) > 40
    lines = [f'_Static_assert(offsetof({kind}, {field}) == {at}, "{field}");' for kind, field, at in offsets]
    lines.append(f'_Static_assert(XLA_FFI_API_MAJOR == {xla.MAJOR_VERSION}, "version");')
    for name in ("ThreadPool_Schedule_Args", "ThreadPool_NumThreads_Args"):
        lines.append(f'_Static_assert(sizeof(XLA_FFI_{name}) == {ctypes.sizeof(structures[name])}, "size");')
    header = (Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h").read_text(encoding="utf-8")
    text = "\n".join(lines)
    if "struct XLA_FFI_InternalExtension {" in header:  # what JAX 0.12 calls it
        text = text.replace("XLA_FFI_Extension_Base", "XLA_FFI_InternalExtension")
    (tmp_path / "check.c").write_text("#include <xla/ffi/api/c_api.h>\n" + text)
    command = ["cc", "-std=c11", "-fsyntax-only", f"-I{jax.ffi.include_dir()}", str(tmp_path / "check.c")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_attributes_have_the_places_that_names_sort_to():
    from tcm_jax.ops.kernels import frame, xla

    assert xla.places("window", "head_dim") == (5, 4)
    names = (*frame.COMMON_ATTRIBUTES, "a", "factor")
    assert sorted(names) == list(names)
