"""The embedded models: `--tune` chooses one to compress with, and a file decodes by the one that wrote it."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import drawn_weights, photograph

import tcm_jax
from tcm_jax import cli
from tcm_jax.codec import Codec
from tcm_jax.codec.container import parse
from tcm_jax.errors import ModelMismatchError
from tcm_jax.images.pictures import write_png
from tcm_jax.model.tcm import flat_shapes
from tcm_jax.weights import embedded
from tcm_jax.weights.files import load_weights, save_weights
from tcm_jax.weights.weights import Weights, flatten, match_parameters

IMAGE = photograph(60, 90)


@pytest.fixture(scope="module")
def drawn(tiny_config) -> dict[str, Weights]:
    """Small weights in place of the embedded ones."""
    weights = {tune: drawn_weights(tiny_config, seed) for seed, tune in enumerate(embedded.EMBEDDED)}
    return {tune: dataclasses.replace(w, metadata={"name": f"small_{tune}"}) for tune, w in weights.items()}


@pytest.fixture(autouse=True)
def small(drawn, tmp_path, monkeypatch):
    for tune, weights in drawn.items():
        path = tmp_path / "weights" / f"{tune}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_weights(path, weights)
        monkeypatch.setitem(embedded.EMBEDDED, tune, path)


def model_of(data: bytes) -> str:
    return parse(data).model_id.hex()


@pytest.mark.parametrize(
    ("tune", "model"),
    [(None, "visual"), ("visual", "visual"), ("psnr", "psnr"), ("ms-ssim", "visual"), ("ssimulacra2", "visual")],
)
def test_tune_chooses_the_model(drawn, tune, model, tmp_path):
    data = tcm_jax.compress(IMAGE, tune=tune)
    assert model_of(data) == drawn[model].identity[:16]
    write_png(tmp_path / "a.png", IMAGE)
    assert cli.main(["compress", str(tmp_path / "a.png"), *(["--tune", tune] if tune else [])]) == 0
    assert (tmp_path / "a.tcm").read_bytes() == data


def test_a_file_decodes_by_the_model_that_wrote_it(drawn, tmp_path, capsys):
    written = {tune: Codec(weights).encode(IMAGE) for tune, weights in drawn.items()}
    for tune, encoded in written.items():
        np.testing.assert_array_equal(tcm_jax.decompress(encoded.data), encoded.reconstruction)
        (tmp_path / f"{tune}.tcm").write_bytes(encoded.data)
    assert cli.main(["decompress", str(tmp_path)]) == 0
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "visual.tcm"), str(tmp_path / "psnr.tcm"), "--json"]) == 0
    names = [json.loads(line)["model_name"] for line in capsys.readouterr().out.splitlines()]
    assert names == ["small_visual", "small_psnr"]
    for tune, encoded in written.items():
        assert (tmp_path / f"{tune}.png").exists()
        again = Codec(drawn["visual"]).decode(encoded.data).array
        np.testing.assert_array_equal(again, encoded.reconstruction)


def test_a_codec_keeps_the_other_model(drawn, monkeypatch):
    data, loaded = Codec(drawn["psnr"]).compress(IMAGE), []
    codec = Codec(drawn["visual"])
    monkeypatch.setattr("tcm_jax.codec.codec.load_weights", lambda path: loaded.append(path) or load_weights(path))
    assert np.array_equal(codec.decompress(data), codec.decompress(data))
    assert len(loaded) == 1


def test_a_file_of_no_embedded_model_is_refused(drawn, tiny_config):
    with pytest.raises(ModelMismatchError, match="small_visual"):
        Codec(drawn["visual"]).decompress(Codec(drawn_weights(tiny_config, 7)).compress(IMAGE))


@pytest.mark.parametrize("path", embedded.EMBEDDED.values(), ids=lambda path: path.stem)
def test_the_embedded_parameters_are_those_of_their_network(path):
    """Which nobody checks who loads them."""
    weights = load_weights(path)
    match_parameters({key: x.shape for key, x in flatten(weights.params).items()}, flat_shapes(weights.config))
