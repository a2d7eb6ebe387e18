"""SSIMULACRA 2 beside the package `ssimulacra2`, which is slower and has no gradient."""

import io
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from skimage import data

from tcm_jax import ops
from tcm_jax.errors import ImageError
from tcm_jax.images.ssimulacra2 import MIN_SIDE, ssimulacra2


def jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def floats(*images):
    return [image[None].astype(np.float32) / 255 for image in images]


def pair(quality, height=161, width=250):
    photograph = data.astronaut()[:height, :width]
    return floats(photograph, jpeg(photograph, quality))


@pytest.mark.parametrize("quality", [5, 30, 75, 95])
@pytest.mark.parametrize("image", [data.astronaut()[:301, :397], data.coffee()[100:, :177], data.chelsea()[:33, :40]])
def test_scores_are_those_of_the_package(image, quality):
    package = pytest.importorskip("ssimulacra2")
    files = [io.BytesIO(), io.BytesIO()]
    distorted = jpeg(image, quality)
    for file, picture in zip(files, (image, distorted), strict=True):
        Image.fromarray(picture).save(file, "PPM")
        file.seek(0)
    score = package.compute_ssimulacra2(*files)
    assert ssimulacra2(*floats(image, distorted)) == pytest.approx([score], abs=0.01)


@pytest.mark.parametrize("way", ["XLA", "kernels"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 20), (15, 16), (161, 250)])
def test_jax_gives_what_numpy_gives(height, width, way):
    a, b = map(np.concatenate, zip(pair(60, height, width), pair(10, height, width), strict=True))
    target = ops.search_target("cpu") if way == "kernels" else ops.Target("cpu")

    def scores(a, b):
        with ops.target(target):
            return ssimulacra2(a, b)

    assert jax.jit(scores)(a, b) == pytest.approx(ssimulacra2(a, b), abs=2e-3)


def test_a_better_picture_scores_higher_and_an_equal_one_100():
    scores = [float(ssimulacra2(*pair(quality))[0]) for quality in (10, 40, 70, 95)]
    assert scores == sorted(scores)
    assert ssimulacra2(*pair(50)[:1] * 2) == pytest.approx([100])


@pytest.fixture(scope="module")
def score_and_gradient():
    """Of one pair of 64x64, with respect to the distorted picture; one compilation."""
    return jax.jit(jax.value_and_grad(lambda b, a: ssimulacra2(a, b).sum()))


def test_the_gradient_is_that_of_differences(score_and_gradient):
    a, b = pair(30, 64, 64)
    direction = np.random.default_rng(0).standard_normal(b.shape).astype(np.float32) * 1e-3
    higher, lower = (float(score_and_gradient(b + sign * direction, a)[0]) for sign in (1, -1))
    assert float(np.vdot(score_and_gradient(b, a)[1], direction)) == pytest.approx((higher - lower) / 2, rel=0.02)


def test_the_gradient_is_finite_for_equal_and_for_flat_pictures(score_and_gradient):
    a = pair(30, 64, 64)[0]
    for original, distorted in ((a, a), (a, np.zeros_like(a)), (np.zeros_like(a), np.ones_like(a))):
        assert np.isfinite(score_and_gradient(distorted, original)[1]).all()


def test_ascending_raises_the_score(score_and_gradient):
    a, b = pair(20, 64, 64)
    before, gradient = score_and_gradient(b, a)
    after, _ = score_and_gradient(np.clip(b + 1e-3 * np.sign(gradient), 0, 1), a)
    assert after > before + 0.2


# Prints which arrays two devices exchange for the gradient of a batch's scores, which are each picture's own.
EXCHANGED = """
import re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tcm_jax import ops
from tcm_jax.images.ssimulacra2 import ssimulacra2
mesh = Mesh(np.array(jax.devices()), ("batch",))
def scores(b, a):
    with ops.target(ops.training_target("cpu", mesh) if sys.argv[1] == "kernels" else ops.Target("cpu")):
        return ssimulacra2(a, b).sum()
parts, picture = NamedSharding(mesh, PartitionSpec("batch")), jnp.zeros((4, 15, 15, 3))
program = jax.jit(jax.grad(scores), in_shardings=(parts, parts), out_shardings=parts).lower(picture, picture).compile()
text = program.as_text()
print(len(jax.devices()), "tcm_jax_blur" in text, *re.findall(r" (all-to-all|all-gather|all-reduce)", text))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kernels", "XLA"])
def test_devices_exchange_nothing(way):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run([sys.executable, "-c", EXCHANGED, way], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["2", str(way == "kernels")], done.stdout + done.stderr


def test_pictures_must_be_alike_and_large_enough():
    with pytest.raises(ImageError, match="cannot be compared"):
        ssimulacra2(np.zeros((1, 16, 16, 3), np.float32), np.zeros((1, 16, 17, 3), np.float32))
    small = np.zeros((1, MIN_SIDE - 1, 40, 3), np.float32)
    with pytest.raises(ImageError, match="at least 8 pixels a side; the picture is 40x7"):
        ssimulacra2(small, small)
