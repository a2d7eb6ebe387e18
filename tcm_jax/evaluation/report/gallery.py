"""Pictures for the report: the original, the model's, and other codecs' files of about the same size."""

import base64
import functools
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tcm_jax.codec import Codec
from tcm_jax.codec.effort import Effort
from tcm_jax.evaluation.analysis.latents import ANALYSIS_PIXELS, latent_maps
from tcm_jax.evaluation.codecs import OTHER_CODECS, OtherCodec, file_of_size
from tcm_jax.evaluation.measure import quality_of
from tcm_jax.evaluation.provenance import source_digest
from tcm_jax.evaluation.sweep import Point, coder_key, dataset, loaded_weights, model_name
from tcm_jax.images.datasets import short_names
from tcm_jax.images.sources import middle
from tcm_jax.model.config import HYPER_STRIDE, LATENT_STRIDE
from tcm_jax.system.cache import kept_json

SHOWN_QUALITY = 90  # of the AVIF, 4:4:4, in which the page shows what no browser reads
SHOWN_PIXELS = 2**21  # larger pictures are shown by their middle
_SHOWN = ("width", "height", "original", "tcm", "others", "bits")


def galleries(
    data: Sequence[str], point: Point, codecs: Sequence[str], folder: Path, limit: int,
    on_progress: Callable[[str], None] = lambda name: None,
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """The first `limit` pictures of every data set at an operating point of a model, by the data sets' specs.

    Each is {"name", "width", "height", "original", "tcm", "others", "bits"}; what was made once lies in `folder`.
    "bits" is None for large pictures and with an effort, whose symbols the analysis does not see.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    key = [coder_key("tcm", point.weights), point.quality, *(coder_key(name, None) for name in codecs),
           source_digest("evaluation/report/gallery.py", "evaluation/analysis/latents.py")]  # fmt: skip
    key += [point.effort, point.tune] if point.effort else []
    for spec in data:
        pictures, entries = dataset(spec), []
        for index, name in list(enumerate(short_names(pictures)))[:limit]:
            image = pictures[index]
            digest = hashlib.sha256(json.dumps([*key, hashlib.sha256(image.data).hexdigest(), *image.shape]).encode())
            file = folder / f"shown-{digest.hexdigest()[:40]}.json"

            def make(name=name, image=image):
                on_progress(name)
                codec = _codec(point.weights, point.coder)
                return _entry(codec, point, [OTHER_CODECS[name] for name in codecs], _middle_shown(image))

            entries.append({"name": name, **kept_json(file, make, lambda entry: entry.keys() == set(_SHOWN))})
        found[spec] = entries
    return found


@functools.lru_cache(maxsize=1)
def _codec(weights: str | None, coder: str) -> Codec:
    return Codec(loaded_weights(weights), coder=coder)


def _middle_shown(image: np.ndarray) -> np.ndarray:
    """At most SHOWN_PIXELS of a picture, from its middle."""
    return image if image.shape[0] * image.shape[1] <= SHOWN_PIXELS else middle(image, int(SHOWN_PIXELS**0.5))


def _entry(codec: Codec, point: Point, codecs: Sequence[OtherCodec], image: np.ndarray) -> dict[str, Any]:
    encoded = codec.encode(image, point.quality, effort=Effort(point.effort, point.tune))
    others = []
    for other in codecs:
        try:
            quality, file = file_of_size(other, image, len(encoded.data))
            decoded = other.decompress(file)
        except Exception:  # plug-ins raise whatever they like; the result's rows tell of it
            continue
        uri = _uri(file, other.format.lower()) if other.shown_by_browsers else _shown(decoded)
        label = f"{other.label}, quality {quality}"
        others.append({"codec": other.label, **_caption(image, decoded, label, len(file)), "uri": uri})
    picture = encoded.reconstruction
    label = model_name(point) + (f", quality {point.quality:g}" if point.quality else "")
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "original": _shown(image),
        "tcm": _caption(image, picture, label, len(encoded.data)) | {"uri": _shown(picture)},
        "others": others,
        "bits": None if point.effort else _bits(codec, image, point.quality),
    }


def _caption(image: np.ndarray, decoded: np.ndarray, label: str, size: int) -> dict[str, Any]:
    found = quality_of(image, decoded)
    bpp = 8 * size / (image.shape[0] * image.shape[1])
    return {"label": label, "bytes": size, "bpp": bpp} | {key: found[key] for key in ("psnr", "ms_ssim", "ssimulacra2")}


def _shown(image: np.ndarray) -> str:
    """A picture for the page, of far less loss than what is compared."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "AVIF", quality=SHOWN_QUALITY, subsampling="4:4:4", speed=8)
    return _uri(buffer.getvalue(), "avif")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _bits(codec: Codec, image: np.ndarray, quality: float | None) -> dict[str, Any] | None:
    """Bits by latent position: layers (all, z, slices) of bytes row by row, each with the bits that 255 stands for."""
    if image.shape[0] * image.shape[1] > ANALYSIS_PIXELS:
        return None
    found = latent_maps(codec.weights, image, quality)
    slices = found.slice_bits
    rows, columns = slices.shape[1:]
    ratio = HYPER_STRIDE // LATENT_STRIDE
    hyper = np.kron(found.hyper_bits, np.ones((ratio, ratio), np.float32))[:rows, :columns] / ratio**2
    named = {"all": slices.sum(0) + hyper, "z": hyper} | {f"slice {i + 1}": one for i, one in enumerate(slices)}
    layers = []
    for name, values in named.items():
        largest = float(values.max()) or 1.0
        text = base64.b64encode(np.round(255 * values / largest).astype(np.uint8)).decode()
        layers.append({"name": name, "largest": largest, "total": float(values.sum()), "values": text})
    return {"rows": rows, "columns": columns, "layers": layers}
