"""Imports only go down: the floors of docs/architecture.md."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tcm_jax"
FLOORS = {
    "errors": -1,
    "cache": -0.5,
    "corrections": -0.5,
    "sides": 0,
    "memory": 0,
    "ops": 0,
    "image": 0,
    "metrics": 0,
    "container": 0,
    "lossless": 0,
    "tiles": 0,
    "kernels": 0.5,
    "layers": 1,
    "entropy": 1,
    "model_config": 0,
    "parameters": 1.5,
    "model": 2,
    "programs": 2,
    "network": 2.5,
    "symbol_streams": 2.5,
    "codec": 3,
    "losses": 3,
    "adam": 0,
    "soap": 0.5,
    "run_checkpoints": 3,
    "workdir": 1,
    "work": 4.2,
    "preemption": 0,
    "initialization": 3,
    "klt": 3,
    "start": 5,
    "flat_params": 3.5,
    "data": 3,
    "checkpoint": 3,
    "any_weights": 4,
    "convert": 3,
    "figures": 3,
    "step": 4,
    "training_log": 4.5,
    "symbol_counts": 3,
    "validation": 4,
    "analysis": 4,
    "search": 4,
    "evaluation": 5,
    "training": 6,
    "cli": 7,
    "__init__": 8,
    "pillow_plugin": 9,
    "__main__": 8,
}
# The one place where each heavy library may be imported.
ONLY_IN = {"torch": "convert.py", "tensorflow": "range_coder.py", "tensorflow_compression": "range_coder.py",
           "matplotlib": "figures.py", "ray": "cluster.py", "fsspec": "storage.py"}  # fmt: skip


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{path}: relative import; write the full name")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
    floor = FLOORS[module_of(path)]
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "tcm_jax" and rest and rest[0] in FLOORS:
            same_package = rest[0] == module_of(path) and path.parent != PACKAGE
            assert FLOORS[rest[0]] < floor or same_package, f"{path.name} (floor {floor}) imports {name}"
        assert ONLY_IN.get(top, path.name) == path.name, f"{name} may be imported in {ONLY_IN[top]} alone"


def test_sources_are_found():
    assert len(SOURCES) > 15
