"""Training batches: what is read, in which order, and that the position can be saved."""

import functools
import io
import logging
import pickle
import shutil
import tarfile
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcm_jax.errors import ConfigError, DataError, ImageError, TcmWarning
from tcm_jax.images.datasets import open_dataset
from tcm_jax.images.pictures import read_picture
from tcm_jax.images.sources import Files
from tcm_jax.training.batches import Batches, ReadableImages, random_crop

CASES = Path(__file__).parent / "cases"
CROP = 16


def picture(seed, height=24, width=40):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Ten pictures: six files in folders and four in a tar file; two more files are no pictures."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for i in range(6):
        place = tmp_path / ("deep/er" if i % 2 else "deep")
        (place / f"{i}.PNG").write_bytes(png(picture(i)))
    (tmp_path / "notes.txt").write_text("no picture")
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        for i in range(6, 10):
            write_member(archive, f"a/{i}.png", png(picture(i)))
        write_member(archive, "a/README", b"no picture")
    return tmp_path


def write_member(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def batches(folder, seed=0, batch_size=4, crop=CROP, **options):
    return Batches(f"folder:{folder}", batch_size, crop, seed, **options)


def test_folder_and_tar_files_are_read_in_sorted_order(folder):
    source = open_dataset(f"folder:{folder}")
    names = [source.name(i).removeprefix(f"{folder}/") for i in range(len(source))]
    assert names == [f"deep/{i}.PNG" for i in (0, 2, 4)] + [f"deep/er/{i}.PNG" for i in (1, 3, 5)] + [
        f"more.tar/a/{i}.png" for i in (6, 7, 8, 9)
    ]
    for i, name in enumerate(names):
        np.testing.assert_array_equal(source[i], picture(int(name[-5])))
    alone = open_dataset(f"folder:{folder}/more.tar")
    np.testing.assert_array_equal(alone[3], picture(9))
    assert len(alone) == 4


def test_pictures_are_read_as_the_codec_reads_them(tmp_path):
    """Upright, in the same colours, and whatever their metadata."""
    names = ["cmyk_garbage_profile.jpg", "exif_garbage.jpg", "exif_ori_gps_byte.jpg"]
    for name in names:
        shutil.copy(CASES / name, tmp_path)
    source = open_dataset(str(tmp_path))
    for i, name in enumerate(names):
        with pytest.warns(TcmWarning, match=rf"{name} is read without its"):
            found = source[i]
        np.testing.assert_array_equal(found, read_picture(CASES / name).rgb)


def test_pictures_of_lists_and_of_tfds_are_read_so_too(monkeypatch):
    path = CASES / "exif_ori_gps_byte.jpg"

    class Source(list):
        dataset_info = types.SimpleNamespace(features={"image": None})

    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds, "data_source", lambda *args, **options: Source([{"image": path.read_bytes()}]))
    for source in (Files((path,)), open_dataset("tfds:photos")):
        with pytest.warns(TcmWarning, match="is read without its EXIF"):
            found = source[0]
        np.testing.assert_array_equal(found, read_picture(path).rgb)


def test_batches_are_crops_of_the_pictures(folder):
    pictures = [picture(i) for i in range(10)]
    batch = next(batches(folder))
    assert batch.shape == (4, CROP, CROP, 3)
    assert batch.dtype == np.uint8
    for crop in batch:
        assert any(contains(p, c) for p in pictures for c in (crop, crop[:, ::-1]))


def contains(image, crop):
    windows = np.lib.stride_tricks.sliding_window_view(image, (CROP, CROP, 3))
    return (windows == crop).all((-1, -2, -3)).any()


def test_every_epoch_has_every_picture_in_another_order(tmp_path):
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(png(np.full((CROP, CROP, 3), i, np.uint8)))
    it = batches(tmp_path)
    epochs = [np.concatenate([next(it), next(it)])[:, 0, 0, 0].tolist() for _ in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(8))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_sequence_depends_on_the_seed_alone(folder):
    first = [next(it) for it in [batches(folder)] for _ in range(6)]
    again = [next(it) for it in [batches(folder, cache_bytes=0)] for _ in range(6)]
    np.testing.assert_array_equal(first, again)
    assert (next(batches(folder, seed=1)) != first[0]).any()


def test_position_is_saved_and_restored_to_the_picture(folder):
    it = batches(folder, batch_size=3)
    for _ in range(3):
        next(it)
    assert it.position == 9
    expected = np.concatenate([next(it) for _ in range(4)])
    other = batches(folder, batch_size=4, start=9)
    np.testing.assert_array_equal(np.concatenate([next(other) for _ in range(3)]), expected)


@pytest.mark.parametrize("start", [0, 6])
def test_hosts_share_each_batch(folder, start):
    whole = batches(folder, start=start)
    parts = [batches(folder, start=start, shard=(i, 2)) for i in range(2)]
    for _ in range(4):
        np.testing.assert_array_equal(np.concatenate([next(part) for part in parts]), next(whole))
    assert parts[0].position == whole.position
    with pytest.raises(ConfigError, match="cannot be shared among 3 hosts"):
        batches(folder, shard=(0, 3))


def test_worker_processes_give_the_same_sequence(folder, caplog):
    (folder / "text.png").write_text("no picture")
    here, there = batches(folder), batches(folder, num_workers=2)
    np.testing.assert_array_equal([next(there) for _ in range(5)], [next(here) for _ in range(5)])
    assert there.unreadable == here.unreadable == {10}
    there = batches(folder, num_workers=2, start=here.position, shard=(1, 2))
    np.testing.assert_array_equal(next(there), next(here)[2:])


def test_unreadable_pictures_are_named_and_skipped(folder, caplog):
    broken = folder / "deep" / "0.PNG"
    broken.write_bytes(broken.read_bytes()[:200])
    (folder / "text.png").write_text("no picture")
    it = batches(folder)
    with caplog.at_level(logging.WARNING, logger="tcm_jax.training.batches"):
        for _ in range(9):
            assert next(it).shape == (4, CROP, CROP, 3)
    messages = sorted(record.getMessage() for record in caplog.records)
    assert len(messages) == 2
    assert f"{broken} is broken" in messages[0]
    assert "text.png is not a picture" in messages[1]
    assert any("(2 of 11 pictures so far)" in message for message in messages)


def test_all_unreadable_is_fatal(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"none of the 3 pictures can be read; the first: .*a\.jpg is not a picture"):
        next(batches(tmp_path))


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (40, 5), (CROP, CROP)])
def test_small_pictures_are_continued_by_reflection(tmp_path, shape):
    image = picture(0, *shape)
    (tmp_path / "a.png").write_bytes(png(image))
    batch = next(batches(tmp_path, batch_size=2))
    assert batch.shape == (2, CROP, CROP, 3)
    assert {tuple(p) for p in batch.reshape(-1, 3)} <= {tuple(p) for p in image.reshape(-1, 3)}


def test_reflection_is_even():
    image = np.arange(4, dtype=np.uint8)[None, :, None].repeat(8, 0).repeat(3, 2)
    crop = random_crop(image, 8, np.random.default_rng(0))
    assert crop[0, :, 0].tolist() in ([2, 1, 0, 1, 2, 3, 2, 1], [1, 2, 3, 2, 1, 0, 1, 2])


class Counting:
    """Four pictures of 100 bytes or so that count how often each is decoded; number 2 is broken."""

    def __init__(self):
        self.reads = [0] * 4

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.reads[index] += 1
        if index == 2:
            raise ImageError("two is broken")
        return picture(index, 4, 8)

    def name(self, index):
        return str(index)


def test_decoded_pictures_are_kept_up_to_the_limit():
    source = Counting()
    images = ReadableImages(source, cache_bytes=2 * 96)
    for _ in range(3):
        for i in range(4):
            image, unreadable = images[i]
            np.testing.assert_array_equal(image, picture(3 if i == 2 else i, 4, 8))
            assert unreadable == (2 if i == 2 else -1)
    assert source.reads == [1, 1, 1, 6]
    assert images.reason(2) == "two is broken"
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy[0][0], picture(0, 4, 8))


@pytest.mark.parametrize("spec", ["", "folder:", "tfds:"])
def test_data_sets_without_a_name_are_refused(spec):
    with pytest.raises(ConfigError, match=r"name of the data set is empty; give samples, .* tfds:NAME\[:SPLIT\]"):
        open_dataset(spec)


@pytest.mark.parametrize("spec", ["folder", "/some/where", "ftp:x"])
def test_data_sets_that_are_nowhere_are_refused(spec):
    with pytest.raises(DataError, match=r"does not exist; a data set is samples, .* tfds:NAME\[:SPLIT\]"):
        open_dataset(spec)


def test_bad_sizes_are_refused(folder):
    with pytest.raises(ConfigError, match="must be at least 1"):
        batches(folder, batch_size=0)


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="none does not exist"):
        open_dataset(f"folder:{tmp_path}/none")
    with pytest.raises(DataError, match="holds no pictures"):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b" + b"x" * 2000)
    with pytest.raises(DataError, match="not an uncompressed tar file"):
        open_dataset(f"folder:{tmp_path}")


def test_tfds_is_read_without_tensorflow(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    class TinyPhotos(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None, None, 3))})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"test": self._generate_examples()}

        def _generate_examples(self):
            for i in range(3):
                yield i, {"image": io.BytesIO(png(picture(i)))}

    tfds.disable_progress_bar()
    TinyPhotos(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    monkeypatch.setattr(tfds, "data_source", functools.partial(tfds.data_source, data_dir=tmp_path))
    source = open_dataset("tfds:tiny_photos:test")
    assert sorted(source[i].tobytes() for i in range(len(source))) == sorted(picture(i).tobytes() for i in range(3))
    assert next(Batches("tfds:tiny_photos:test", 2, CROP, 0)).shape == (2, CROP, CROP, 3)
    with pytest.raises(DataError, match=r"'tiny_photos', split 'train', cannot be read: Unknown split"):
        open_dataset("tfds:tiny_photos", "train")
    with pytest.raises(DataError, match=r"'tiny_photos', split 'train', cannot be read: Unknown split"):
        Batches("tfds:tiny_photos", 2, CROP, 0)
    with pytest.raises(DataError, match="'no_such_set', split 'train', cannot be read: Dataset no_such_set not found"):
        open_dataset("tfds:no_such_set", "train")


def test_a_batch_of_one(folder):
    assert next(Batches(f"folder:{folder}", batch_size=1, crop=16, seed=0)).shape == (1, 16, 16, 3)
