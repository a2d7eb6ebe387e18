"""The pictures that evaluation knows by name, and what it says where they are not."""

import hashlib
import io
import urllib.error
import urllib.request

import numpy as np
import pytest

from tcm_jax.errors import ConfigError, DataError
from tcm_jax.images import datasets, kodak
from tcm_jax.images.pictures import write_png


def test_sample_photographs_are_there():
    pictures = datasets.open_dataset("samples")
    assert datasets.short_names(pictures) == ["astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg"]
    assert [pictures[i].shape for i in range(4)] == [(512, 512, 3), (400, 600, 3), (300, 451, 3), (427, 640, 3)]


def test_short_names_of_data_sets(tmp_path):
    assert datasets.short_name("samples") == "samples"
    assert datasets.short_name(f"folder:{tmp_path}/kodak/") == "kodak"
    assert datasets.short_name("tfds:clic:test") == "tfds:clic:test"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(address, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_kodak_without_a_network_says_where_to_put_it(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"cannot download .*kodim01\.png \(no network\); put .* into .*tcm_jax/kodak"):
        datasets.open_dataset("kodak")


def test_kodak_files_are_checked_downloaded_and_kept(tmp_path, monkeypatch, no_network):
    files = {f"kodim{i:02}.png": b"picture %d" % i for i in range(1, 25)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    digests = [hashlib.sha256(content).hexdigest() for content in files.values()]
    monkeypatch.setattr(kodak, "KODAK_SHA256", digests)
    assert [path.name for path in kodak.kodak_files(tmp_path)] == list(files)

    (tmp_path / "kodim07.png").write_bytes(b"another picture")
    (tmp_path / "kodim09.png").unlink()
    (tmp_path / "kodim09.png").mkdir()
    with pytest.raises(DataError, match=r"cannot download .*kodim07\.png"):
        kodak.kodak_files(tmp_path)
    with pytest.raises(DataError, match="no home folder"):
        kodak.kodak_files(None)

    monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: io.BytesIO(files[address.split("/")[-1]]))
    assert [path.read_bytes() for path in kodak.kodak_files(tmp_path)] == list(files.values())

    (tmp_path / "kodim24.png").unlink()
    monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: io.BytesIO(b"a login page"))
    with pytest.raises(DataError, match=r"kodim24\.png does not give the original file"):
        kodak.kodak_files(tmp_path)
    assert not (tmp_path / "kodim24.png").exists()


def test_kodak_without_a_home_says_what_to_set(monkeypatch):
    monkeypatch.setattr(datasets, "cache_folder", lambda: None)
    with pytest.raises(DataError, match="no home folder to keep the Kodak suite in; set XDG_CACHE_HOME"):
        datasets.open_dataset("kodak")


def test_data_sets_that_do_not_exist(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        datasets.open_dataset(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="data set is empty"):
        datasets.open_dataset("")


def test_one_grammar_for_training_validation_and_evaluation(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", np.zeros((8, 9, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    for spec in (".", "folder:.", str(tmp_path), f"folder:{tmp_path}/", "~", "folder:~"):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert [len(datasets.open_dataset(spec)), datasets.open_dataset(spec)[0].shape] == [1, (8, 9, 3)]
    asked = []
    monkeypatch.setattr(datasets, "TfdsSource", lambda name, split: asked.append((name, split)))
    datasets.open_dataset("tfds:clic")
    datasets.open_dataset("tfds:clic", "train")
    datasets.open_dataset("tfds:clic:validation[:10]", "train")
    assert asked == [("clic", "test"), ("clic", "train"), ("clic", "validation[:10]")]
