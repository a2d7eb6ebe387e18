"""What was written decodes for ever: files of every feature, to the same symbols and the same pixels."""

import numpy as np
import pytest
from golden_files import ALPHA, FILES, GOLDEN, golden_codec, samples
from old_files import pack_listed

from tcm_jax.codec.container import parse
from tcm_jax.codec.residual.layer import step_of

LARGE = ("all", "tiles")  # their tiles take minutes to compile


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in FILES])
def test_golden_files(name):
    """Equal symbols, as their checksums in the file say; equal pixels, within one level."""
    data = (GOLDEN / f"{name}.tcm").read_bytes()
    decoded = golden_codec(name).decompress(data)
    difference = samples(decoded) - np.load(GOLDEN / f"{name}.npy")
    assert np.abs(difference).max() <= 1
    assert pack_listed(parse(data)) == data


def test_what_is_kept_exactly():
    for name in ("rgb_alpha", "grey_alpha"):
        decoded = golden_codec(name).decode((GOLDEN / f"{name}.tcm").read_bytes())
        np.testing.assert_array_equal(decoded.alpha, ALPHA)
    decoded = golden_codec("metadata").decode((GOLDEN / "metadata.tcm").read_bytes())
    assert (decoded.icc, decoded.exif) == (b"an ICC profile" * 9, b"II*\0 EXIF" * 9)


def test_every_feature_has_a_file():
    files = [parse((GOLDEN / f"{name}.tcm").read_bytes()) for name in FILES]
    for field in ("quality", "tile", "grey", "alpha", "icc", "exif"):
        assert {bool(getattr(file, field)) for file in files} == {False, True}
    assert {file.guard_band > 0 for file in files} == {False, True}
    assert {bool(file.corrections) for file in files} == {False, True}
    assert {bool(file.sides) for file in files} == {False, True}
    assert {(file.has_latents, file.layer[:1]) for file in files} == {
        (True, b""), (True, b"\0"), (False, b"\0"), (False, b"\1"), (False, b"\2")
    }  # fmt: skip
    assert {step_of(file.layer) > 1 for file in files if file.layer} == {False, True}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("layer")])
def test_layers_are_exact(name):
    """What a layer decodes to depends on no device; at quality 100 it is the picture."""
    picture, _, quality = FILES[name]
    decoded = golden_codec(name).decompress((GOLDEN / f"{name}.tcm").read_bytes())
    np.testing.assert_array_equal(samples(decoded), np.load(GOLDEN / f"{name}.npy"))
    if quality == 100:
        np.testing.assert_array_equal(decoded, picture)
