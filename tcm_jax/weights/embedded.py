"""The weights that come with the package, and where those of earlier versions are."""

import functools
from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).parent
# By what they were trained for.
EMBEDDED = {"visual": _FOLDER / "tcm_tiny_visual.safetensors", "psnr": _FOLDER / "tcm_tiny_psnr.safetensors"}
DEFAULT = "visual"  # what pictures are compressed with unless something else is asked for
# Model id of a file: where the weights are that were embedded before, for people who have such files.
EARLIER_EMBEDDED = {
    "00fbcc84faa69bdb": "commit e95b4a2, tcm_jax/weights/tcm_tiny.safetensors",
    "b7e06b2c91049438": "commit b3bc9cb, tcm_jax/weights/tcm_tiny.safetensors",
    "1e403f1b32a7dcb8": "commit a913901, tcm_jax/weights/tcm_tiny.safetensors",
    "f4ca7cab65749246": "commit 14f614d, tcm_jax/weights/tcm_tiny.safetensors",
    "b4b5d1b6673dd395": "commit 09ec97b, tcm_jax/weights/tcm_tiny.safetensors",
    "32bf1be613cbc9e5": "commit 14c1fd6, tcm_jax/weights/tcm_tiny.safetensors",
    "6c4abfc543118204": "commit ec0a5f5, tcm_jax/weights/tcm_tiny.safetensors",
    "b432811385423cda": "commit 7c3014a, tcm_jax/weights/tcm_tiny.safetensors",
    "35890c1450a7dc6b": "commit dd0e5b3, tcm_jax/weights/tcm_tiny.safetensors",
    "dc8d160c31d2d158": "commit 894519d, tcm_jax/weights/tcm_tiny.safetensors",
    "cd04e40be915a137": "commit e79f65e, tcm_jax/weights/tcm_tiny.safetensors",
    "5a6b6b019b70105d": "commit 0239c6f, tcm_jax/weights/tcm_tiny.safetensors",
    "65758a514de329f6": "commit 1319773, tcm_jax/weights/tcm_tiny.safetensors",
    "952103ebc810ce64": "commit d8d58e6, tcm_jax/weights/tcm_tiny_visual.safetensors",
}


def embedded_for(tune: str | None) -> Path:
    """The weights for what an encoder is tuned for (`effort.TUNES`): those for the eye but for "psnr"."""
    return EMBEDDED["psnr" if (tune or DEFAULT) == "psnr" else "visual"]


@functools.cache
def metadata(path: Path) -> Mapping[str, str]:
    """What the header of embedded weights says, their identity too; the parameters are not read."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as weights:
        return weights.metadata()


def embedded_by_id(model_id: bytes) -> Path | None:
    """The embedded weights that wrote a file with this `model_id`; None if none did."""
    return next((path for path in EMBEDDED.values() if metadata(path)["identity"].startswith(model_id.hex())), None)
