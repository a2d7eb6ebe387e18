"""Networks of the paper's ablations: what changes, and that what was stored before does not."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from conftest import drawn_weights, photograph
from golden_files import WEIGHTS
from PIL import Image

from benchmarks import ablations
from configs import smoke
from tcm_jax.errors import ConfigError
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.tcm import TCM, flat_shapes
from tcm_jax.weights import files

CHANGES = [{"blocks": "cnn"}, {"blocks": "transformer"}, {"attention": "none"}, {"attention": "transforms"},
           {"lrp": False}, {"num_slices": 2}]  # fmt: skip
TOGETHER = [{"blocks": "cnn", "attention": "none", "lrp": False},
            {"blocks": "transformer", "attention": "transforms", "num_slices": 6}]  # fmt: skip


def modules(config):
    return {part for path in flat_shapes(config) for part in path.split("/")}


def test_defaults_leave_the_json_and_the_identity_alone():
    names = {"blocks", "attention", "lrp", "levels", "skip"}
    assert not names & json.loads(ModelConfig().to_json()).keys()
    assert ModelConfig.from_dict(json.loads(ModelConfig().to_json())) == ModelConfig()
    changed = dataclasses.replace(ModelConfig(), blocks="cnn", lrp=False)
    assert names & json.loads(changed.to_json()).keys() == {"blocks", "lrp"}
    assert ModelConfig.from_dict(json.loads(changed.to_json())) == changed
    # Written before there were such fields; loading compares the identity with the stored one.
    assert files.load_weights(WEIGHTS).identity.startswith("f48e8dfbd1dc5a75")


def test_each_change_is_seen_in_the_parameters(tiny_config):
    base, first, second = (modules(dataclasses.replace(tiny_config, **changes)) for changes in ({}, *TOGETHER))
    assert {"lrp_transforms_0", "atten_mean_0", "trans_block", "conv_block"} <= base
    assert {"conv_block", "conv_block_2"} <= first
    assert not {"trans_block", "atten_mean_0", "non_local_block", "lrp_transforms_0"} & first
    assert {"trans_block", "trans_block_2", "non_local_block", "lrp_transforms_5"} <= second
    assert not {"conv_block", "atten_mean_0"} & second


@pytest.mark.parametrize("changes", TOGETHER, ids=str)
def test_every_variant_has_shapes_for_a_forward_pass(tiny_config, changes):
    model = TCM(dataclasses.replace(tiny_config, **changes))
    picture = jax.ShapeDtypeStruct((1, 128, 128, 3), np.float32)
    params = drawn_weights(model.config, 0).params
    x_hat, out = jax.eval_shape(lambda p, x: model.apply({"params": p}, x), params, picture)
    assert x_hat.shape == (1, 128, 128, 3)
    assert out["y_hat"].shape == (1, 8, 8, 12)


@pytest.mark.slow
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_variant_is_a_codec(tiny_config, changes):
    from tcm_jax.codec import Codec

    codec = Codec(drawn_weights(dataclasses.replace(tiny_config, **changes), 0), coder="native")
    image = photograph(100, 90)
    encoded = codec.encode(image)
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.slow
def test_the_comparison_runs_and_goes_on_where_it_was(tiny_config, tmp_path, monkeypatch):
    Image.fromarray(photograph(160, 160)).save(tmp_path / "photo.png")
    command = ["ablations.py", "--train", f"folder:{tmp_path}", "--data", "samples", "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*command, "--steps", "2", "--seeds", "2", "--batch", "1"])
    one_slice = dataclasses.replace(tiny_config, num_slices=1, latent_channels=4)  # compiles in less time
    monkeypatch.setattr(ablations, "BASE", one_slice)
    monkeypatch.setattr(ablations, "VARIANTS", {"TCM": {}})
    ablations.main()
    file = tmp_path / "out" / "ablations.json"
    first = json.loads(file.read_text())["variants"]["TCM"]
    assert len(set(first["loss"])) == 2  # seeds differ
    assert np.all(np.isfinite([first[key] for key in ("loss", "bpp", "psnr")]))
    monkeypatch.setattr(ablations, "VARIANTS", {"TCM": {}, "without LRP": {"lrp": False}})
    ablations.main()
    found = json.loads(file.read_text())["variants"]
    assert found["TCM"] == first  # its seconds too: not trained again
    assert found["without LRP"]["parameters"] < first["parameters"]
    table = [line for line in (tmp_path / "out" / "ablations.md").read_text().splitlines() if line.startswith("|")]
    assert table[-1].startswith("| without LRP |")
    assert len({line.count("|") for line in table}) == 1
    monkeypatch.setattr("sys.argv", [*command, "--steps", "3"])
    with pytest.raises(SystemExit):
        ablations.main()


@pytest.mark.slow
def test_designs_start_from_the_klt_and_count_all_levels(tmp_path, monkeypatch):
    changes = {"widths": (12, 48, 64), "latent_channels": 24, "head_dims": (6, 24, 32)}
    small = dataclasses.replace(smoke.MODEL, levels=6, skip="shuffled", **changes)
    monkeypatch.setattr(ablations.tcm_tiny, "MODEL", small)
    monkeypatch.setattr(ablations, "DESIGNS", {"tcm_tiny": {}, "2 slices": {"num_slices": 2}})
    Image.fromarray(photograph(300, 300)).save(tmp_path / "photo.png")
    command = ["ablations.py", "--designs", "--train", f"folder:{tmp_path}", "--data", "samples", "--seeds", "1"]
    monkeypatch.setattr("sys.argv", [*command, "--output", str(tmp_path), "--steps", "2", "--batch", "1"])
    ablations.main()
    found = json.loads((tmp_path / "ablations.json").read_text())["variants"]
    assert found.keys() == {"tcm_tiny", "2 slices"}
    assert found["tcm_tiny"]["loss"][0] < 10  # random networks: 25 and more
    assert 20 < found["tcm_tiny"]["psnr"][0] < 40
    assert "loss over the levels" in (tmp_path / "ablations.md").read_text()


def test_choices_that_do_not_exist():
    with pytest.raises(ConfigError, match="blocks is 'rnn'; choose from mixed, cnn, transformer"):
        ModelConfig(blocks="rnn")
    with pytest.raises(ConfigError, match="attention is 'all'; choose from entropy, none, transforms"):
        ModelConfig(attention="all")
