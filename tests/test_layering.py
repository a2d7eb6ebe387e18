"""Imports go down one list of names, without a circle; a heavy library is imported in one file."""

import ast
import graphlib
import pkgutil
from pathlib import Path

import pytest

from tcm_jax.cli.parser import make_parser

PACKAGE = Path(__file__).parent.parent / "tcm_jax"
# From the top down: a module imports what stands below its own line. docs/architecture.md says what each holds.
ORDER = (
    "__main__",
    "pillow_plugin",
    "cli",
    "__init__",
    "evaluation",
    "training",
    "codec",
    "weights",
    "model",
    "entropy",
    "images",
    "ops",
    "system",
    "errors",
)
# The one place where each heavy library may be imported.
ONLY_IN = {"torch": "pytorch.py", "tensorflow": "coders.py", "tensorflow_compression": "coders.py",
           "tensorflow_compression_ops": "coders.py", "matplotlib": "figures.py", "ray": "cluster.py",
           "fsspec": "storage.py", "orbax": "checkpoints.py", "grain": "batches.py", "tensorboardX": "log.py",
           "tensorflow_datasets": "sources.py", "bjontegaard": "bdrate.py", "shtab": "parser.py",
           "onnx": "graph.py", "onnxruntime": "decoder.py"}  # fmt: skip

SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """Full name of the module in a file."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in SOURCES}


def imports(path: Path):
    """Full names of what a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{path}: relative import; write the full name")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))
        elif isinstance(node, ast.keyword) and node.arg == "run" and isinstance(node.value, ast.Constant):
            yield node.value.value.replace(":", ".")  # a command of cli/parser.py


def modules_imported(path: Path) -> set[str]:
    """Our modules that a file imports."""
    names = {name if name in MODULES else name.rpartition(".")[0] for name in imports(path)}
    return {name for name in names if name.partition(".")[0] == "tcm_jax"}


def place(module: str) -> int:
    """Line of a module in ORDER."""
    return ORDER.index(module.split(".")[1] if "." in module else "__init__")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
    module = module_of(path)
    for name in modules_imported(path):
        same_folder = name.split(".")[:2] == module.split(".")[:2]
        assert same_folder or place(name) > place(module), f"{module} imports {name}, which stands above it"
    for name in imports(path):
        top = name.partition(".")[0]
        assert ONLY_IN.get(top, path.name) == path.name, f"{name} may be imported in {ONLY_IN[top]} alone"


def test_no_circle_inside_folders_either():
    graph = {module_of(path): modules_imported(path) - {module_of(path)} for path in SOURCES}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_the_commands_that_the_parser_names_count_as_imports():
    """And each name is that of a function, as `main` calls it."""
    commands = make_parser([])._subparsers._group_actions[0].choices
    runs = {name: parser.get_default("run") for name, parser in commands.items()}
    assert {run.partition(":")[0] for run in runs.values()} <= modules_imported(PACKAGE / "cli" / "parser.py")
    assert all(callable(pkgutil.resolve_name(run)) for run in runs.values())


def test_heavy_libraries_are_imported_where_it_says():
    """A library that was renamed, or is gone, must not keep its line."""
    for library, file in ONLY_IN.items():
        tops = {name.partition(".")[0] for path in SOURCES if path.name == file for name in imports(path)}
        assert library in tops or library in ("tensorflow", "tensorflow_compression"), f"{file} imports no {library}"


def test_every_entry_has_its_line():
    entries = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    assert entries - {"__pycache__", "py"} == set(ORDER)
