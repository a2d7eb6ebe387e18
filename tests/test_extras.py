"""What an installation lacks: one sentence with the command that installs it; the core alone codes pictures."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import photograph
from golden_files import GOLDEN, WEIGHTS

from tcm_jax import cli
from tcm_jax.errors import MissingExtraError
from tcm_jax.evaluation import command as evaluation
from tcm_jax.images.pictures import write_png
from tcm_jax.system.extras import require_extra

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = {"PIL": "pillow", "orbax": "orbax-checkpoint", "absl": "absl-py", "skimage": "scikit-image",
           "tensorflow_datasets": "tensorflow-datasets", "pillow_jxl": "pillow-jxl-plugin",
           "tensorflow_compression_ops": "tensorflow-compression-ops"}  # fmt: skip
COME_WITH_JAX = {"jaxlib", "scipy"}
COME_WITH_FLAX = {"optax", "orbax-checkpoint"}
NOT_IN_CORE = ("bjontegaard", "grain", "matplotlib", "ml_collections", "onnx", "onnxruntime", "pillow_jxl", "ray",
               "skimage", "ssimulacra2", "tensorboardX", "tensorflow_datasets", "torch")  # fmt: skip


def distributions(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


CORE = distributions(PROJECT["dependencies"])
EXTRAS = {name: distributions(listed) for name, listed in PROJECT["optional-dependencies"].items()}


def imported(tree: ast.AST):
    """(distribution, extra of the `with require_extra(...)` around it or None) of all that a file imports."""
    guarded = {}
    for block in (node for node in ast.walk(tree) if isinstance(node, ast.With)):
        call = block.items[0].context_expr
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "require_extra":
            guarded |= {inner: call.args[0].value for inner in ast.walk(block)}
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for top in (name.partition(".")[0] for name in names):
            if top != "tcm_jax" and top not in sys.stdlib_module_names:
                yield MODULES.get(top, top).lower(), guarded.get(node)


def looked_for(tree: ast.AST) -> set[str]:
    """Distributions that a file asks `find_spec` for before it imports them."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {getattr(call.args[0], "value", "") for call in calls if getattr(call.func, "attr", "") == "find_spec"}
    return {MODULES.get(name, name) for name in names}


SOURCES = sorted((ROOT / "tcm_jax").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "tcm_jax")))
def test_what_is_imported_is_installed_or_said(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = list(imported(tree))
    said = {name for name, extra in found if extra} | looked_for(tree)
    for name, extra in found:
        if extra:
            assert name in EXTRAS[extra], f"the extra {extra} does not install {name}"
        elif path.parent.name == "training":  # train.py asks for them before it imports these
            assert name in CORE | EXTRAS["train"] | COME_WITH_JAX, name
        else:
            assert name in CORE | COME_WITH_JAX | said, f"{name} is of no extra and not imported under require_extra()"


def test_training_asks_for_all_that_it_imports():
    asked = {name for name, extra in imported(ast.parse((ROOT / "train.py").read_text(encoding="utf-8"))) if extra}
    used = {name for path in (ROOT / "tcm_jax" / "training").glob("*.py")
            for name, _ in imported(ast.parse(path.read_text(encoding="utf-8")))}  # fmt: skip
    assert used - CORE - COME_WITH_JAX <= asked <= EXTRAS["train"]


def test_the_core_installs_nothing_of_an_extra():
    """Whoever only codes pictures fetches little; the extra `tfc` alone pins versions of the core's."""
    extras = set().union(*(EXTRAS[name] for name in ("evaluation", "train", "onnx", "ray", "torch")))
    assert CORE & extras == set()


@pytest.mark.parametrize(
    ("missing", "arguments", "sentence"),
    [
        ("bjontegaard", ["evaluate"], 'BD-rates need bjontegaard: pip install "tcm_jax[evaluation]"'),
        ("skimage", ["evaluate"], 'the sample photographs come with scikit-image: pip install "tcm_jax[evaluation]"'),
        ("pillow_jxl", ["evaluate", "--data", "FOLDER", "--codecs", "jpegxl"],
         'JPEG XL needs pillow-jxl-plugin: pip install "tcm_jax[evaluation]"'),
        ("tensorflow_datasets", ["evaluate", "--data", "tfds:mnist"],
         'data sets of TFDS need tensorflow-datasets: pip install "tcm_jax[train]"'),
        ("matplotlib", ["analyze", "bits", "PICTURE", "--weights", "gone"],
         'figures need matplotlib: pip install "tcm_jax[evaluation]"'),
        ("torch", ["convert", "a.pth.tar", "a.safetensors"],
         'reading PyTorch checkpoints needs PyTorch: pip install "tcm_jax[torch]"'),
        ("torch", ["compress", "PICTURE", "--weights", "a.pth.tar"],
         'reading PyTorch checkpoints needs PyTorch: pip install "tcm_jax[torch]"'),
        ("ray", ["compress", "PICTURE", "--engine", "ray"], '--engine ray needs Ray: pip install "tcm_jax[ray]"'),
        ("onnx", ["export-onnx", "model", "--weights", str(WEIGHTS)],
         'ONNX programs need onnx: pip install "tcm_jax[onnx]"'),
        ("onnxruntime", ["decompress", str(GOLDEN / "rgb.tcm"), "--runtime", "onnx", "--weights", "model"],
         '--runtime onnx needs onnxruntime: pip install "tcm_jax[onnx]"'),
        ("tensorflow_compression_ops", ["decompress", str(GOLDEN / "rgb.tcm"), "--coder", "tfc"],
         'the tfc coder needs tensorflow-compression-ops: pip install "tcm_jax[tfc]"'),
    ],
)  # fmt: skip
def test_each_command_says_what_it_lacks(missing, arguments, sentence, picture, tmp_path, monkeypatch, capsys):
    """On one line, before the work, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    for module in [missing, *(name for name in sys.modules if name.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    places = {"PICTURE": str(picture), "FOLDER": str(picture.parent)}
    arguments = [places.get(argument, argument) for argument in arguments]
    if arguments[0] in ("compress", "decompress"):
        arguments = [*arguments, "-o", "out.png" if arguments[0] == "decompress" else "out.tcm"]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"MissingExtraError: {sentence}\n")
    assert not list(tmp_path.iterdir())
    if arguments[0] == "evaluate":
        assert evaluation.main(arguments[1:]) == 1
        assert capsys.readouterr().err == printed.err


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    write_png(path, photograph(60, 90))
    return path


def without(*modules: str) -> list[str]:
    """The start of a Python program in whose place these are not installed."""
    return ["import sys", *(f"sys.modules[{module!r}] = None" for module in modules)]


def run(*lines: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, **options)


@pytest.mark.slow
def test_the_core_codes_pictures(picture, tmp_path):
    arguments = json.dumps(
        [
            ["compress", str(picture), "-o", "a.tcm", "--weights", str(WEIGHTS)],
            ["info", "a.tcm"],
            ["decompress", "a.tcm", "-o", "a.png", "--weights", str(WEIGHTS)],
            ["completion", "bash"],
        ]
    )
    lines = [*without(*NOT_IN_CORE), "from tcm_jax.cli import main", f"for one in {arguments}: assert main(one) == 0"]
    result = run(*lines, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.tcm"]


@pytest.mark.parametrize("missing", ["absl", "ml_collections", "grain", "tensorboardX"])
def test_training_says_what_it_lacks(missing, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    script = f"import runpy; sys.argv = ['train.py']; runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')"
    result = run(*without(missing), script, cwd=tmp_path, env=environment)
    assert result.returncode == 1
    sentence = 'train.py needs what the codec does without: pip install "tcm_jax[train]"'
    assert result.stderr == f"MissingExtraError: {sentence}\n"


def test_what_is_installed_but_broken_says_why():
    sentence = r'^figures need it \(libGL\.so\.1 is missing\): pip install "tcm_jax\[evaluation\]"$'
    with pytest.raises(MissingExtraError, match=sentence), require_extra("evaluation", "figures need it"):
        raise ImportError("libGL.so.1 is missing")
