"""`tcm_jax.compress` and `decompress`, and Pillow with the plugin; with the small weights in place of the embedded."""

import importlib
import importlib.metadata
import io
import os
import re
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import photograph
from golden_files import GOLDEN, WEIGHTS, golden_codec
from PIL import Image, ImageCms

import tcm_jax
from tcm_jax import (
    ConfigError,
    ImageError,
    ModelMismatchError,
    StreamError,
    TcmError,
    TcmWarning,
    WeightsError,
    cli,
    errors,
    pillow_plugin,
)
from tcm_jax.codec.effort import Effort
from tcm_jax.images.picture import Picture
from tcm_jax.weights.files import load_weights, save_weights

CASES = Path(__file__).parent / "cases"
IMAGE = photograph(60, 90)


@pytest.fixture(scope="module", autouse=True)
def small_weights():
    pillow_plugin.use_weights(str(WEIGHTS))
    yield
    pillow_plugin.use_weights(None)


def saved(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TCM", **options)
    return buffer.getvalue()


def test_everything_public_is_named():
    raised = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    named = [*raised, "Codec", "__version__", "compress", "decompress", "tune_process"]
    assert sorted(tcm_jax.__all__) == sorted(named)
    assert all(getattr(tcm_jax, name).__doc__ for name in tcm_jax.__all__)
    assert all(getattr(tcm_jax, name) is getattr(errors, name) for name in raised)
    assert tcm_jax.Codec is importlib.import_module("tcm_jax.codec.codec").Codec
    assert tcm_jax.__version__ == importlib.metadata.version("tcm_jax")
    with pytest.raises(AttributeError, match="no attribute 'codecs'"):
        tcm_jax.__getattr__("codecs")


@pytest.mark.parametrize("name", ["tcm_jax", "tcm_jax.codec", "tcm_jax.ops", "tcm_jax.ops.kernels"])
def test_all_is_what_is_exported(name):
    """What a module with `__all__` defines without an underscore is in it, and what is in it is there."""
    module = importlib.import_module(name)
    defined = {key for key, value in vars(module).items() if str(getattr(value, "__module__", "")).startswith(name)}
    assert {key for key in defined if not key.startswith("_")} <= set(module.__all__)
    assert all(hasattr(module, exported) for exported in module.__all__)
    assert len(module.__all__) == len(set(module.__all__))


def test_arrays_and_images():
    data = tcm_jax.compress(IMAGE, weights=WEIGHTS)
    assert tcm_jax.compress(Image.fromarray(IMAGE), weights=str(WEIGHTS)) == data
    decoded = tcm_jax.decompress(data, weights=WEIGHTS)
    np.testing.assert_array_equal(np.array(tcm_jax.decompress(data, weights=WEIGHTS, as_pil=True)), decoded)
    np.testing.assert_array_equal(decoded, golden_codec("grey").decompress(data))
    with pytest.raises(ConfigError, match="one rate"):
        tcm_jax.compress(IMAGE, quality=50, weights=WEIGHTS)
    with pytest.raises(ImageError):
        tcm_jax.compress(IMAGE.astype(float), weights=WEIGHTS)


def test_the_embedded_model_is_the_default():
    with pytest.raises(ModelMismatchError, match="give the right ones"):
        tcm_jax.decompress((GOLDEN / "rgb.tcm").read_bytes())


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK"])
def test_pillow_saves_and_opens_every_mode(mode, tmp_path):
    image = Image.fromarray(IMAGE).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "a.tcm")
    with Image.open(tmp_path / "a.tcm") as opened:
        assert (opened.format, opened.size) == ("TCM", image.size)
        assert opened.mode == {"P": "RGB", "1": "L", "CMYK": "RGB"}.get(mode, mode)
        array = tcm_jax.decompress((tmp_path / "a.tcm").read_bytes(), weights=WEIGHTS)
        np.testing.assert_array_equal(np.array(opened), array)
        if mode in ("LA", "RGBA"):
            np.testing.assert_array_equal(np.array(opened.getchannel("A")), np.array(image.getchannel("A")))


def test_pillow_keeps_metadata():
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(IMAGE)
    opened = Image.open(io.BytesIO(saved(image, exif=exif, icc_profile=profile)))
    assert (opened.getexif()[0x010F], opened.info["icc_profile"]) == ("a camera", profile)
    bare = Image.open(io.BytesIO(saved(opened, exif=b"", icc_profile=b"")))
    assert not bare.getexif()
    assert "icc_profile" not in bare.info
    png = io.BytesIO()
    opened.save(png, "PNG", icc_profile=opened.info["icc_profile"])
    assert Image.open(png).info["icc_profile"] == profile


def test_opening_decodes_nothing(monkeypatch):
    monkeypatch.setattr(tcm_jax, "decompress", None)
    with Image.open(GOLDEN / "tiles.tcm") as opened:
        assert (opened.size, opened.mode) == ((530, 150), "RGB")


def test_altered_files_do_not_open():
    data = bytearray((GOLDEN / "rgb.tcm").read_bytes())
    data[-9] ^= 1
    with pytest.raises(StreamError, match="altered"):
        Image.open(io.BytesIO(bytes(data)))


def test_decompress_takes_bytes_paths_and_files(tmp_path):
    data = tcm_jax.compress(IMAGE, weights=WEIGHTS)
    expected = tcm_jax.decompress(data, weights=WEIGHTS)
    path = tmp_path / "a.tcm"
    path.write_bytes(data)
    for given in (bytearray(data), memoryview(data), path, str(path), io.BytesIO(data)):
        np.testing.assert_array_equal(tcm_jax.decompress(given, weights=WEIGHTS), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(tcm_jax.decompress(file, weights=WEIGHTS), expected)
    for given, message in (
        (tmp_path / "gone.tcm", "gone.tcm: No such file"),
        ("a\0b", "null"),
        (tmp_path, "Is a directory"),
        (file, "a.tcm: .*closed"),
    ):
        with pytest.raises(StreamError, match=message):
            tcm_jax.decompress(given, weights=WEIGHTS)


def test_compress_takes_paths(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    expected = tcm_jax.compress(IMAGE, weights=WEIGHTS)
    assert tcm_jax.compress(path, weights=WEIGHTS) == tcm_jax.compress(str(path), weights=WEIGHTS) == expected
    shutil.copy(CASES / "exif_garbage.jpg", tmp_path)
    with pytest.warns(TcmWarning, match=r"exif_garbage\.jpg is read without its EXIF") as caught:
        tcm_jax.compress(tmp_path / "exif_garbage.jpg", weights=WEIGHTS)
    assert caught[0].filename == __file__
    for given, message in (
        (tmp_path / "gone.png", "gone.png: No such file"),
        ("a\0b", "null"),
        (WEIGHTS, "not a picture"),
    ):
        with pytest.raises(ImageError, match=message):
            tcm_jax.compress(given, weights=WEIGHTS)


@pytest.mark.parametrize(
    "given", [io.StringIO("text"), 3, None, IMAGE, ["a.tcm"]], ids=lambda given: type(given).__name__
)
def test_no_tcm_file_by_its_type(given):
    with pytest.raises(TypeError, match=f"but not {'str' if isinstance(given, io.StringIO) else type(given).__name__}"):
        tcm_jax.decompress(given, weights=WEIGHTS)


def test_arguments_of_wrong_types_and_places():
    for given in (None, 3, [[0, 1]], b"bytes", io.BytesIO(b"bytes")):
        with pytest.raises(TypeError, match=f"also a PIL image or a path, not {type(given).__name__}$"):
            tcm_jax.compress(given)
    for weights in (3, b"a.safetensors", IMAGE):
        with pytest.raises(TypeError, match=type(weights).__name__):
            tcm_jax.compress(IMAGE, weights=weights)
    with pytest.raises(TypeError, match="positional"):
        tcm_jax.compress(IMAGE, 50)
    with pytest.raises(TypeError, match="positional"):
        tcm_jax.decompress(b"", WEIGHTS)


@pytest.mark.parametrize(
    "option",
    [
        {"quality": True},
        {"quality": "50"},
        {"quality": float("nan")},
        {"max_error": True},
        {"max_error": 1.0},
        {"effort": True},
        {"effort": "3"},
        {"lossless": "yes"},
        {"lossless": 2},
        {"lossless": np.array([True, False])},
        {"lossless": np.array([])},
    ],
    ids=str,
)
def test_options_of_another_kind(option):
    """True is no number, though Python takes it for 1."""
    (value,) = option.values()
    for save in (tcm_jax.compress, lambda image, **option: Image.fromarray(image).save(io.BytesIO(), "TCM", **option)):
        with pytest.raises(ConfigError, match=rf"not {re.escape(repr(value))}$"):
            save(IMAGE, **option)


GREY = np.zeros((4, 5), np.uint8)


@pytest.mark.parametrize(
    "planes",
    [(GREY.astype(float),), (GREY[0],), (np.zeros((4, 5, 4), np.uint8),), (np.zeros((4, 5, 1), np.uint8),),
     (GREY, GREY[1:]), (GREY, GREY.astype(float)), (GREY, GREY[..., None])],
)  # fmt: skip
def test_a_picture_of_planes_that_are_none(planes):
    """A file of them might never be decoded."""
    with pytest.raises(ImageError, match=r"^a Picture has uint8 colours"):
        Picture(*planes)
    assert Picture(GREY, GREY).array.shape == (4, 5, 2)


@pytest.mark.parametrize("tile", [512.0, 511, 500, 256, 1 << 20])
def test_tiles_that_are_none(tile):
    with pytest.raises(ConfigError, match=rf"^tiles are multiples of 128 from 512 to 8192, or 0, not {tile}$"):
        tcm_jax.Codec(load_weights(WEIGHTS), tile=tile)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int64, np.float32, np.array, jnp.int8, jnp.float32, jnp.array])
def test_numbers_of_numpy_and_jax(kind):
    """Those of 8 bits hold no more than 127 or 255, and would go round."""
    codec = tcm_jax.Codec(load_weights(tune="visual"))
    assert codec.compress(IMAGE, kind(50)) == codec.compress(IMAGE, 50)
    if kind not in (np.float32, jnp.float32):
        assert tcm_jax.compress(IMAGE, max_error=kind(100)) == tcm_jax.compress(IMAGE, max_error=100)
        assert Effort(kind(9)).steps == 2048
    assert tcm_jax.compress(IMAGE, lossless=np.bool_(True)) == tcm_jax.compress(IMAGE, lossless=1)
    for several in (np.array([50]), jnp.array([50]), np.bool_(True), jnp.bool_(True)):
        for option in ("quality", "max_error", "effort"):
            with pytest.raises(ConfigError, match="must be a"):
                tcm_jax.compress(IMAGE, **{option: several})


RATES = {"quality": 50, "lossless": True, "max_error": 5}


@pytest.mark.parametrize("left_out", [None, *RATES])
def test_one_of_quality_lossless_and_error(left_out, tmp_path, capsys):
    """Python, Pillow and the command line refuse more than one of them; none is left unused."""
    given = {name: value for name, value in RATES.items() if name != left_out}
    message = "give one of quality, lossless and max_error, not " + " and ".join(given)
    with pytest.raises(ConfigError, match=message):
        tcm_jax.compress(IMAGE, **given)
    with pytest.raises(ConfigError, match=message):
        saved(Image.fromarray(IMAGE), **given)
    flags = {"quality": ["--quality", "50"], "lossless": ["--lossless"], "max_error": ["--max-error", "5"]}
    argv = [flag for name in given for flag in flags[name]]
    with pytest.raises(SystemExit):
        cli.main(["compress", "a.png", *argv])
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_rate_that_says_no_is_none():
    exact = tcm_jax.compress(IMAGE, quality=None, lossless=True, max_error=None)
    assert exact == tcm_jax.compress(IMAGE, lossless=False, max_error=0)


@pytest.mark.parametrize("target", ["--target-bpp", "--target-psnr"])
@pytest.mark.parametrize("rate", [["--quality", "50"], ["--lossless"], ["--max-error", "0"]], ids=lambda rate: rate[0])
def test_a_target_goes_with_no_rate(target, rate, capsys):
    with pytest.raises(SystemExit):
        cli.main(["compress", "a.png", target, "1", *rate])
    assert "not allowed with argument" in capsys.readouterr().err


def test_weights_that_are_rewritten_are_read_again(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    shutil.copy(WEIGHTS, path)
    data = tcm_jax.compress(IMAGE, weights=path)
    opened = tcm_jax._codec(path)
    monkeypatch.chdir(tmp_path)
    assert tcm_jax._codec("a.safetensors") is tcm_jax._codec(str(path)) is opened  # what stays is read once
    save_weights(path, golden_codec("quality").weights)
    with pytest.raises(ModelMismatchError):
        tcm_jax.decompress(data, weights=path)
    shutil.copy(WEIGHTS, path)
    tcm_jax.decompress(data, weights=path)
    same_size = bytearray(path.read_bytes())
    same_size[-1] ^= 1
    path.write_bytes(same_size)
    os.utime(path, ns=(1, 1))  # a clock that is too coarse for this test
    with pytest.raises(WeightsError, match="damaged"):
        tcm_jax.decompress(data, weights=path)
    path.unlink()
    with pytest.raises(WeightsError, match="No such file"):
        tcm_jax.decompress(data, weights=path)


@pytest.mark.parametrize("quality", ["keep", "web_low", "50", (50,), b"50", float("nan"), 0, 101, -1, 1e999])
def test_a_quality_that_is_none(quality):
    with pytest.raises(ConfigError, match="a number from 1 to 100"):
        tcm_jax.compress(IMAGE, quality=quality)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": "keep"},
        {"compress_level": 9},
        {"optimize": True, "progressive": True},
        {"exif": "text"},
        {"exif": {}},
        {"icc_profile": 5},
        {"save_all": True, "append_images": [Image.new("L", (1, 1))]},
        {"append_images": [Image.new("L", (1, 1))]},
    ],
    ids=lambda options: "-".join(options),
)
def test_what_saving_does_not_know(options):
    with pytest.raises(TcmError):
        saved(Image.fromarray(IMAGE), **options)


def test_all_frames_are_more_than_a_file_holds():
    frames, buffer = [Image.new("L", (8, 8), value) for value in (10, 200)], io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    with Image.open(buffer) as image, pytest.raises(ConfigError, match="holds one picture; save each one to a file"):
        saved(image, save_all=True)
    with pytest.raises(ConfigError, match="holds one picture"):
        saved(frames[0], save_all=True, append_images=frames[1:])


def test_what_saving_does_not_mind():
    data = saved(Image.fromarray(IMAGE))
    assert data == saved(Image.fromarray(IMAGE), save_all=True) == saved(Image.fromarray(IMAGE), dpi=None, exif=None)


@pytest.mark.parametrize("length", [0, 3, 20, 60, -1])
def test_damaged_files_raise_what_users_of_pillow_catch(length, tmp_path):
    (tmp_path / "a.tcm").write_bytes((GOLDEN / "rgb.tcm").read_bytes()[:length])
    with pytest.raises(OSError), Image.open(tmp_path / "a.tcm") as image:
        image.load()


def test_files_that_cannot_be_decoded_raise_it_too():
    pillow_plugin.use_weights(None)
    try:
        with pytest.raises(OSError, match="give the right ones") as caught, Image.open(GOLDEN / "rgb.tcm") as image:
            image.load()
    finally:
        pillow_plugin.use_weights(str(WEIGHTS))
    assert isinstance(caught.value, ModelMismatchError)
