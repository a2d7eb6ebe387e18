"""ONNX programs: what JAX computes, for any size; golden files decode with onnxruntime, and without JAX."""

import contextlib
import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import drawn_weights
from golden_files import CONFIG, FILES, GOLDEN, WEIGHTS, _variable, _weights, samples
from onnx import TensorProto
from test_host import SETTINGS

from tcm_jax import cli, ops
from tcm_jax.codec.container import parse
from tcm_jax.codec.onnx import export
from tcm_jax.codec.onnx.convert import convert
from tcm_jax.codec.onnx.decoder import OnnxDecoder, OnnxNetwork, load_onnx
from tcm_jax.errors import ArithmeticMismatchError, ModelMismatchError, WeightsError

CONFIGS = {
    "one rate": {},
    "all": {"levels": 3, "detail_channels": 8, "detail_from": (1.0, 1.5), "detail_width": 6, "checkerboard_width": 6},
    "convolutions": {"blocks": "cnn", "attention": "none", "lrp": False, "num_slices": 2},
    "transformers": {"blocks": "transformer", "attention": "transforms", "skip": "shuffled", "max_support": 1},
    "deep": {"depths": (2, 1, 2), "hyper_depth": 2, "num_slices": 1},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of the golden files' weights, of one rate and of variable rate."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("fixed", "variable")}
    export.export_onnx(folders["fixed"], _weights())
    export.export_onnx(folders["variable"], _variable(_weights()))
    return folders


@pytest.fixture(scope="module")
def decoders(models):
    return {name: OnnxDecoder(folder) for name, folder in models.items()}


def decoder_of(decoders, name: str) -> OnnxDecoder:
    return decoders["fixed" if FILES[name][2] is None else "variable"]


def drawn(one, size, rng) -> np.ndarray:
    """Something that an input of a program may be."""
    spec = one.spec(*size)
    if one.name == "level":
        return np.array([1.7], np.float32)
    if spec.dtype != np.float32:
        low, high = (0, 256) if spec.dtype == np.uint8 else (-9, 10)
        return rng.integers(low, high, spec.shape).astype(spec.dtype)
    values = rng.standard_normal(spec.shape).astype(np.float32)
    return np.abs(values) if one.name.startswith("sigma") else values


def assert_as_jax(weights, folder, names, sizes):
    """Programs in `folder`, whole ones of `ai.onnx`, give what JAX gives for pictures of `sizes`."""
    leaves, structure = jax.tree.flatten(weights.params)
    rng, target, programs = np.random.default_rng(0), ops.Target("cpu"), export._programs(weights.config)
    for name in names or programs:
        exported, model = programs[name], onnx.load(folder / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [one.domain for one in model.opset_import] == [""]
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
        inputs, tree = jax.tree.flatten(exported.inputs)
        traced = exported.program.traced(target, weights.config, structure, exported.static)
        for size in sizes:
            given = [drawn(one, size, rng) for one in inputs]
            lowered = jax.jit(traced).lower(leaves, *tree.unflatten(given))
            unoptimized = lowered.compile({"xla_backend_optimization_level": 0})
            wanted = jax.tree.leaves(unoptimized(leaves, *tree.unflatten(given)))
            named = {one.name: array for one, array in zip(inputs, given, strict=True)}
            found = session.run(exported.outputs, {one.name: named[one.name] for one in session.get_inputs()})
            for result, expected in zip(found, wanted, strict=True):
                assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
                atol = 1 if result.dtype == np.uint8 else 1e-4 * max(1, np.abs(expected).max())
                np.testing.assert_allclose(result.astype(float), expected, rtol=0, atol=atol, err_msg=name)


def test_what_a_host_has_set_changes_nothing(models, tmp_path):
    with contextlib.ExitStack() as settings:
        for enter in SETTINGS.values():
            settings.enter_context(enter())
        export.export_onnx(tmp_path, _weights())
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files == {path.name: path.read_bytes() for path in models["fixed"].iterdir()}


def test_what_encodes(models):
    """Golden files show the rest."""
    assert_as_jax(_weights(), models["fixed"], ("analysis", "hyper_analysis"), [(1, 2)])


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_programs_compute_what_jax_does(name, tmp_path):
    weights = drawn_weights(dataclasses.replace(CONFIG, **CONFIGS[name]), 3)
    export.export_onnx(tmp_path, weights)
    assert_as_jax(weights, tmp_path, (), [(1, 2), (2, 1)])


@pytest.mark.parametrize("name", FILES)
def test_golden_files(name, decoders):
    """Equal symbols, as their checksums say; pixels within one level; layers alone exactly."""
    data = (GOLDEN / f"{name}.tcm").read_bytes()
    try:
        decoded = decoder_of(decoders, name).decompress(data)
    except ArithmeticMismatchError:  # this machine's onnxruntime is not exact, and need not be
        assert parse(data).has_latents and parse(data).layer
        return
    difference = np.abs(samples(decoded) - np.load(GOLDEN / f"{name}.npy"))
    assert difference.max() <= (0 if name.startswith("layer") else 1)


@pytest.fixture
def inexact(monkeypatch):
    """Every sample that g_s makes is off by one level."""
    exact = OnnxNetwork.compute

    def compute(self, program, *args):
        result = exact(self, program, *args)
        return np.where(result > 127, result - 1, result + 1).astype(np.uint8) if program == "synthesis" else result

    monkeypatch.setattr(OnnxNetwork, "compute", compute)


def test_a_layer_over_latents_needs_exact_arithmetic(decoders, inexact):
    with pytest.raises(ArithmeticMismatchError, match="decode it on a CPU with JAX, without --runtime onnx"):
        decoder_of(decoders, "layer").decompress((GOLDEN / "layer.tcm").read_bytes())


def test_g_s_by_tiles(decoders, monkeypatch):
    """Pieces of 512 pixels, and one where a residual layer asks for a single one."""
    calls, compute = [], OnnxNetwork.compute
    monkeypatch.setattr(OnnxNetwork, "synthesis_pixels", 256 * 512)
    monkeypatch.setattr(OnnxNetwork, "compute", lambda *args: calls.append(args[1]) or compute(*args))
    decoded = decoders["fixed"].decompress((GOLDEN / "tiles.tcm").read_bytes())
    assert calls.count("synthesis") == 2
    assert np.abs(samples(decoded) - np.load(GOLDEN / "tiles.npy")).max() <= 1
    assert decoders["fixed"].network.synthesis_sides((256, 640), 0) == (256, 512)


def test_parameters_are_stored_as_halves(models):
    """Each once: the programs of a decoder and an encoder take what the weight file takes, and a little."""
    for path in models["fixed"].glob("*.onnx"):
        tensors = onnx.load(path).graph.initializer
        assert not [t.name for t in tensors if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 64]
        large = [t.raw_data for t in tensors if np.prod(t.dims) > 64]
        assert len(large) == len(set(large)) > 0
    config = dataclasses.replace(CONFIG, levels=3)
    assert load_onnx(models["variable"]).config == config


BLOCKED = """
import sys
for name in ("jax", "jaxlib", "flax"):
    sys.modules[name] = None
from tcm_jax.cli import main
sys.exit(main(["decompress", *sys.argv[1:], "--runtime", "onnx"]))
"""


def test_without_jax(models, tmp_path):
    files = [str(GOLDEN / f"{name}.tcm") for name in ("quality", "layer_alone", "sides")]
    arguments = [*files, "-o", str(tmp_path), "--weights", str(models["variable"])]
    run = subprocess.run([sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer_alone.png", "quality.png", "sides.png"]


def test_the_command_exports(models, tmp_path, capsys):
    folder = tmp_path / "model"
    arguments = ["export-onnx", str(folder), "--weights", str(WEIGHTS)]
    folder.mkdir()
    (folder / "model.json").write_bytes(b"")
    assert cli.main(arguments) == 1
    sentence = f"TcmError: {folder} holds a model; give another folder, or --overwrite to replace it\n"
    assert capsys.readouterr().err == sentence
    assert cli.main([*arguments, "--overwrite"]) == 0
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert capsys.readouterr().out == f"{folder}: {size:,} bytes, model f48e8dfbd1dc5a75\n"
    again, first = ({path.name: path.read_bytes() for path in one.iterdir()} for one in (folder, models["fixed"]))
    assert again == first


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "_programs", lambda config: {})
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert cli.main(["export-onnx", str(file / "model"), "--weights", str(WEIGHTS)]) == 1
    assert capsys.readouterr().err.startswith(f"TcmError: cannot make the folder {file / 'model'}: ")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "ConfigError: --runtime onnx needs --weights FOLDER, which tcm export-onnx wrote"),
        (["--weights", "no"],
         "WeightsError: cannot read {no}: No such file or directory; `tcm export-onnx no` writes it"),
        (["--weights", "no", "--engine", "ray"], "ConfigError: --runtime onnx works with --engine local alone"),
    ],
)  # fmt: skip
def test_what_the_command_lacks(options, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    no = str((tmp_path / "no" / "model.json").relative_to(tmp_path))
    source = str(GOLDEN / "rgb.tcm")
    assert cli.main(["decompress", source, "-o", "rgb.png", "--runtime", "onnx", *options]) == 1
    assert capsys.readouterr().err == sentence.format(no=no) + "\n"


def test_other_weights_are_refused(decoders):
    with pytest.raises(ModelMismatchError, match="f48e8dfbd1dc5a75"):
        decoders["variable"].decompress((GOLDEN / "rgb.tcm").read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.pop("lookup"), lambda said: said.update(lookup="no"), lambda said: said.update(identity="xy"),
        lambda said: said.update(format="tcm_jax onnx 0"), lambda said: said["config"].update(widths=[1]),
        lambda said: said.update(offsets=[2**40]), lambda said: said["offsets"].pop(),
        lambda said: said["config"].update(depth=3), lambda said: said.update(programs=None),
        lambda said: said.pop("name"),
    ],
)  # fmt: skip
def test_descriptions_that_are_none(change, models, tmp_path):
    said = json.loads((models["fixed"] / "model.json").read_text(encoding="utf-8"))
    change(said)
    (tmp_path / "model.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(WeightsError):
        load_onnx(tmp_path)


def test_programs_that_are_damaged(models, tmp_path):
    for path in models["fixed"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:1000]), lambda path: path.unlink()):
        damage(tmp_path / "slice_params_1.onnx")
        with pytest.raises(WeightsError, match=r"^cannot load .*slice_params_1\.onnx: "):
            OnnxDecoder(tmp_path).decompress((GOLDEN / "rgb.tcm").read_bytes())


@pytest.mark.parametrize("programs", [{}, {"hyper_synthesis": {"arguments": ["z"], "inputs": [], "outputs": []}}])
def test_programs_that_are_not_described(programs, models, tmp_path):
    said = json.loads((models["fixed"] / "model.json").read_text(encoding="utf-8")) | {"programs": programs}
    (tmp_path / "model.json").write_text(json.dumps(said), encoding="utf-8")
    name = "hyper_synthesis.onnx"
    (tmp_path / name).write_bytes((models["fixed"] / name).read_bytes())
    with pytest.raises(WeightsError, match=r"^hyper_synthesis\.onnx in .* cannot be run: "):
        OnnxDecoder(tmp_path).decompress((GOLDEN / "rgb.tcm").read_bytes())


@pytest.mark.parametrize(
    "function",
    [
        jnp.cumsum,
        lambda x: x**3,
        lambda x: x[::-1],
        lambda x: jax.lax.fori_loop(0, 3, lambda _, value: value * 2, x),
        lambda x: _convolved(x[None, :, None], np.ones((3, 1, 1, 4)), groups=4),
    ],
)
def test_what_has_no_operator_is_refused(function):
    """Rather than converted to something else."""
    (side,) = jax.export.symbolic_shape("8*h")
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((side, 4), np.float32))
    with pytest.raises(NotImplementedError):
        convert(closed, [], ["x"], ["y"])


def _convolved(x, kernel, groups=1):
    layout = ("NHWC", "HWIO", "NHWC")
    kernel = jnp.asarray(kernel, np.float32)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=groups)


@pytest.mark.parametrize("bias", [(4,), (4, 1), (1, 4)])
def test_a_convolution_that_is_used_twice_keeps_its_result(bias):
    rng = np.random.default_rng(0)
    x, kernel, added = (rng.normal(size=shape).astype(np.float32) for shape in ((1, 3, 4, 4), (3, 3, 4, 4), bias))

    def function(x):
        result = _convolved(x, kernel)
        return result + added, jnp.abs(result), _convolved(x, kernel) + added

    model = convert(jax.make_jaxpr(function)(x), [], ["x"], ["a", "b", "c"])
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    for one, expected in zip(found, function(x), strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-4)
