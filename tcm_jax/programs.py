"""Compiled programs, kept between processes in the user's cache folder.

JAX keeps what XLA compiled, but only finds it again after tracing and lowering, which takes seconds of Flax for a
picture that takes half a second. So `Program` keeps the lowered form too (`jax.export`).
"""

import functools
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export

from tcm_jax.cache import cache_folder, write_quietly

_folder: Path | None = None


def keep_compiled_programs() -> None:
    """Keeps compiled programs in the user's cache folder, for the next process; JAX_COMPILATION_CACHE_DIR overrules.

    Not on JAX 0.5: its kept programs corrupt donated buffers (NaNs when training was resumed on 0.5.3).
    """
    global _folder  # as JAX's own setting, for the whole process
    if jax.__version_info__ < (0, 6):
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    _folder = Path(jax.config.jax_compilation_cache_dir) / "lowered"


def kept(name: str) -> Path | None:
    """Where something that depends on this source may be kept for the next process, if anything is."""
    return _folder and _folder / hashlib.sha256(f"{_surroundings()} {name}".encode()).hexdigest()


class Program:
    """A function of a model, its parameters, maybe a number, and grids, compiled for each of their shapes.

    The model and Python integers are static. `precise` computes matrix products in full float32, for what encoder and
    decoder must agree on.
    """

    def __init__(self, function: Callable[..., Any], precise: bool = False):
        self.function, self.precise = function, precise
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Programs made or loaded so far."""
        return len(self._compiled)

    def __call__(self, model: Any, params: Any, *args: Any) -> Any:
        static = tuple(arg for arg in args if isinstance(arg, int))
        grids = args[len(static) :]
        leaves, tree = jax.tree.flatten(grids)
        key = (model, static, tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
        with self._lock:  # one thread compiles, the others wait for it
            if key not in self._compiled:
                self._compiled[key] = self._make(key, params, grids)
        return self._compiled[key](params, *grids)

    def _make(self, key: Any, params: Any, grids: Any) -> Callable[..., Any]:
        model, static, tree, shapes = key

        def function(params, *grids):
            with jax.default_matmul_precision("highest" if self.precise else None):
                return self.function(model, params, *static, *grids)

        path = kept(f"{self.function.__name__} {model.config.to_json()} {static} {tree} {shapes}")
        if path is None:
            return jax.jit(function)
        try:
            lowered = export.deserialize(bytearray(path.read_bytes()))
        except Exception:  # not there, or damaged
            lowered = export.export(jax.jit(function))(params, *grids)
            write_quietly(path, lowered.serialize())
        return jax.jit(lowered.call)


@functools.cache
def _surroundings() -> str:
    """What else a lowered program depends on: JAX, the kind of device, and our own source."""
    source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source.update(path.read_bytes())
    return f"{jax.__version__} {jax.default_backend()} {source.hexdigest()}"
