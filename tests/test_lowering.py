"""Every program of the codec, and the training step, lowered for GPUs and TPUs: nothing in them is for CPUs."""

import dataclasses
import re

import jax
import pytest
from conftest import drawn_weights, photograph
from lowering import ACCELERATOR, FORBIDDEN, codec_programs, lowered_program, lowered_step, products

from configs import default
from tcm_jax import ops
from tcm_jax.codec import Codec
from tcm_jax.model.config import ModelConfig
from tcm_jax.ops import cpu_gradients, kernels, shifted_windows

# As small as networks get that have every part: gains, both sorts of window, SWAtten, LRP.
MODEL = ModelConfig(
    widths=(8, 8, 8), depths=(0, 0, 2), head_dims=(4, 4, 4), hyper_width=8, hyper_depth=0, hyper_head_dim=4,
    latent_channels=8, hyper_channels=8, num_slices=2, atten_width=8, atten_head_dim=4, context_widths=(8, 8), levels=3,
)  # fmt: skip
EXTENDED = dataclasses.replace(MODEL, checkerboard_width=6, detail_channels=8, detail_from=(1.0, 1.5), detail_width=6)
DECODING = ("hyper_synthesis", "slice_params", "second_step", "slice_latents", "detail_scales", "synthesis",
            "detailed_synthesis")  # fmt: skip
PRECISE = ("hyper_synthesis", "slice_params", "second_step", "slice_latents", "detail_scales")
PROGRAMS = tuple(codec_programs(EXTENDED))
ENTROPY = ("HIGHEST", "f32")


@pytest.fixture(autouse=True)
def loops_for_small_maps(monkeypatch):
    """On a CPU there would be loops even at this size."""
    monkeypatch.setattr(shifted_windows, "HEADS", 1)
    for name in ("LARGE_MAP", "LARGE_KERNEL"):
        monkeypatch.setattr(cpu_gradients, name, 1)
    with jax.numpy_dtype_promotion("standard"):  # as train.py and the codec have it
        yield


def check_for_accelerators(text: str, allowed: tuple[str, ...] = ()) -> None:
    assert not [pattern for pattern in FORBIDDEN if pattern not in allowed and re.search(pattern, text)]
    calls = set(re.findall(r"custom_call @([\w.]+)", text))
    assert calls <= {"mhlo.erf", *allowed}  # JAX 0.5's name for an operation of XLA


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_the_codec(name):
    text = lowered_program(ACCELERATOR, EXTENDED, name, ("cuda", "tpu"))
    check_for_accelerators(text)
    assert products(text)
    if name in PRECISE:
        assert set(products(text)) == {ENTROPY}


@pytest.mark.skipif(not kernels.available(), reason="no kernels")
@pytest.mark.parametrize("name", DECODING)
def test_functions_of_decoding_are_kernels_on_cpus(name):
    """XLA's exp, log and the like differ from version to version in the last bit."""
    text = lowered_program(ops.Target("cpu", "codec"), EXTENDED, name, ("cpu",))
    assert "tcm_jax_" in text
    assert not re.findall(r"(?:stablehlo|chlo)\.(?:exp|log|tanh|sqrt|rsqrt|power|erf|cbrt)\w*", text)


STEPS = {
    "float32": ({}, {ENTROPY}),
    "tf32 in parts": ({"precision": "tf32", "remat": True, "accumulate": 2}, {ENTROPY, ("HIGH", "f32")}),
}
SLOW_STEPS = {
    "bfloat16": ({"precision": "bfloat16", "remat": True}, {ENTROPY, ("", "bf16"), ("", "f32")}),
    "shuffled skips": ({"model.skip": "shuffled"}, {ENTROPY}),
    "soap": ({"optimizer": "soap"}, {ENTROPY}),
    "the loss for the eye": ({"distortion": "ms_ssim"}, {ENTROPY}),
}


def make_config(**changes):
    config = default.make_config("test", dataclasses.replace(MODEL, num_slices=1))
    config.data.batch_size = 2
    config.update_from_flattened_dict({"level_lams": (0.001, 0.01, 0.1), **changes})
    return config


@pytest.mark.parametrize("name", [*STEPS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_STEPS)])
def test_training_steps(name):
    changes, expected = (STEPS | SLOW_STEPS)[name]
    text = lowered_step(make_config(**changes), 256 if "distortion" in changes else 128)
    scans = "accumulate" in changes or "optimizer" in changes  # over parts of a batch, over matrices of a shape
    check_for_accelerators(text, ("stablehlo.while", "Eigh", "cusolver_syevd_ffi") if scans else ())
    assert set(products(text)) == expected


@pytest.mark.slow
def test_one_process_for_three_sorts_of_device():
    """What is traced for a GPU and a TPU does not end up in a CPU's programs, nor the other way round."""
    assert kernels.available()
    config = dataclasses.replace(EXTENDED, context_widths=(8, 12))  # which no other test traces
    weights, image = drawn_weights(config, 0), photograph(100, 120)
    for target, platform in ((ACCELERATOR, "cuda"), (ops.Target("tpu"), "tpu"), (ops.codec_target("cpu"), "cpu")):
        for name in PROGRAMS:
            text, on_cpu = lowered_program(target, config, name, (platform,)), platform == "cpu"
            assert ("@tcm_jax_" in text, not products(text)) == (on_cpu, on_cpu), name
    data = Codec(weights, coder="native").compress(image, 50)
    for program, *_ in codec_programs(config).values():
        program._made.clear()
    jax.clear_caches()
    assert Codec(weights, coder="native").compress(image, 50) == data


def test_accelerators_wait_for_no_condition():
    count = jax.ShapeDtypeStruct((), "int32")
    for target, hidden in ((ACCELERATOR, False), (ops.Target("cpu"), True)):
        with ops.target(target):
            jaxpr = jax.make_jaxpr(lambda n: ops.kept_apart(lambda n: n + 1, n, when=n < 0))(count)
        assert ("cond" in str(jaxpr)) == hidden


def test_targets_are_what_they_are_for():
    assert ops.current() == ops.Target(jax.default_backend())
    with ops.target(ops.Target("cuda")):
        assert ops.current() == ACCELERATOR
        with jax.default_device(jax.devices("cpu")[0]):
            assert ops.current() == ACCELERATOR
    with jax.default_device("cpu"):
        assert ops.current() == ops.Target("cpu")
    assert ops.training_target("tpu") == ops.Target("tpu")
    with pytest.raises(ValueError, match="no kernels"):
        ops.Target("gpu", "codec")
