"""Decoding with onnxruntime and a folder that `tcm export-onnx` wrote; imports no JAX (docs/onnx.md)."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.codec.container import Container
from tcm_jax.codec.decoder import Decoder
from tcm_jax.codec.decoding_network import DecodingNetwork
from tcm_jax.codec.tile_sizes import piece_pixels
from tcm_jax.entropy.range_tables import RangeTables
from tcm_jax.errors import ArithmeticMismatchError, ConfigError, WeightsError
from tcm_jax.model.config import ModelConfig
from tcm_jax.system.extras import require_extra
from tcm_jax.system.locks import make_lock

FORMAT, DESCRIPTION = "tcm_jax onnx 1", "model.json"
# Pixels of a piece of g_s times channels of its finest grid: 2 Mi pixels of the embedded model, 0.9 GB.
SYNTHESIS_VALUES = 48 << 20


@dataclasses.dataclass(frozen=True)
class OnnxModel:
    """What `model.json` says of exported weights; `programs` has names of arguments, inputs and outputs of each."""

    folder: Path
    name: str
    identity: str
    config: ModelConfig
    tables: RangeTables
    programs: dict[str, dict[str, list[str]]]


def load_onnx(folder: str | os.PathLike) -> OnnxModel:
    """The model in a folder that `tcm export-onnx` wrote. Raises WeightsError."""
    path = Path(folder) / DESCRIPTION
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["format"] != FORMAT:
            raise WeightsError(f"{path} is of another version, {said['format']!r}; export it again")
        tables = RangeTables(*(_int32(said[key]) for key in ("lookup", "offsets")))
        config, programs = ModelConfig.from_dict(said["config"]), dict(said["programs"])
        name, _ = str(said["name"]), bytes.fromhex(said["identity"])
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(f"cannot read {path}: {reason}; `tcm export-onnx {folder}` writes it") from error
    except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
        raise WeightsError(f"{path} describes no exported model: {error}") from error
    return OnnxModel(Path(folder), name, said["identity"], config, tables, programs)


def _int32(numbers: list[int]) -> np.ndarray:
    array = np.array(numbers, np.int64)
    if not np.array_equal(array.astype(np.int32), array):
        raise ValueError("a number of its tables is out of range")
    return array.astype(np.int32)


class OnnxNetwork(DecodingNetwork):
    """The programs of a model, each loaded when it is first called."""

    def __init__(self, model: OnnxModel):
        self.config, self._model, self._runtime = model.config, model, _runtime()
        self._sessions: dict[str, Any] = {}
        self._lock = make_lock()

    @property
    def synthesis_pixels(self) -> int:
        """The most pixels of a piece of g_s."""
        return piece_pixels(SYNTHESIS_VALUES, self.config.widths[0])

    def synthesis_sides(self, size: tuple[int, int], side: int | None) -> tuple[int, int]:
        """Height and width of tiles of g_s; one piece, which a layer may ask for, is too much of a large picture."""
        return super().synthesis_sides(size, side or None)

    def compute(self, program: str, *args: Any) -> Any:
        """Results of a program: integers among its arguments are part of its name."""
        name = "_".join([program, *(str(arg) for arg in args if isinstance(arg, int))])
        if program == "detailed_synthesis":  # it takes all details: those that a file does not have are 0
            y_hat, details, level = args
            lacking = len(self.config.detail_from) - len(details)
            args = y_hat, [*details, *[np.zeros_like(details[0])] * lacking], level
        session = self._session(name)
        try:
            said = self._model.programs[name]
            grids = dict(zip(said["arguments"], _flat(args), strict=True))
            results = session.run(said["outputs"], {key: grids[key] for key in said["inputs"]})
        except Exception as error:  # of onnxruntime's own kinds, or what a description lacks
            reason = " ".join(str(error).split())
            raise WeightsError(f"{name}.onnx in {self._model.folder} cannot be run: {reason}") from error
        return results[0] if len(results) == 1 else results

    def _session(self, name: str) -> Any:
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = self._load(self._model.folder / f"{name}.onnx")
        return self._sessions[name]

    def _load(self, path: Path) -> Any:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3  # errors alone, which are raised
        options.enable_cpu_mem_arena = False  # which would keep the most memory that any tile took
        try:
            return self._runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of a dozen kinds, which share no base
            reason = " ".join(str(error).split())
            raise WeightsError(f"cannot load {path}: {reason}") from error


def _runtime() -> Any:
    """The module onnxruntime. Raises MissingExtraError."""
    with require_extra("onnx", "--runtime onnx needs onnxruntime"):
        import onnxruntime
    return onnxruntime


def _flat(args: Any) -> list[np.ndarray]:
    """Arrays in order, out of lists; without numbers and None."""
    if isinstance(args, list | tuple):
        return [array for arg in args for array in _flat(arg)]
    return [] if args is None or isinstance(args, int) else [np.ascontiguousarray(args)]


class OnnxDecoder(Decoder):
    """Decompresses pictures as `Codec` does, pixels within one level; `model` is a folder or what `load_onnx` gives."""

    def __init__(self, model: str | os.PathLike | OnnxModel, coder: str = "auto", tile: int | None = None):
        _runtime()  # before a folder is looked for
        model = model if isinstance(model, OnnxModel) else load_onnx(model)
        super().__init__(model, OnnxNetwork(model), coder, tile)

    def _colour_elsewhere(self, file: Container, problem: str) -> np.ndarray:
        raise ArithmeticMismatchError(
            "this picture has a residual layer over latents, which needs the encoder's arithmetic to the last bit, and "
            "that is not ONNX's; decode it on a CPU with JAX, without --runtime onnx"
        )
