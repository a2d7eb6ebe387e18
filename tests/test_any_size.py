"""Programs of steps that are traced once for every size: formulas, trees, and that neither tracing nor JAX is asked."""

import dataclasses
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import drawn_weights, photograph
from golden_files import WEIGHTS
from hypothesis import given
from hypothesis import strategies as st
from jax.export import symbolic_shape
from lowering import codec_programs
from test_ablations import CHANGES as ABLATIONS

from tcm_jax import ops
from tcm_jax.codec import Codec, making, programs, tiled_network, trees
from tcm_jax.codec.formulas import Formula, at, shape_of_any_size, sides_of, with_formulas
from tcm_jax.ops import kernels
from tcm_jax.system.cache import cache_folder

needs_kernels = pytest.mark.skipif(not kernels.available(), reason="no kernels here")


@given(st.integers(1, 99), st.integers(1, 99))
def test_formulas_are_what_jax_means_by_them(height, width):
    h, w = symbolic_shape("h, w")
    dimensions = (8 * h * w, -(-128 * h * w // 48), 16 * h * -(-(16 * w) // 32), 2 * h - 1, (3 * w) % 7, 5)
    expected = tuple(eval(str(d), {"h": height, "w": width, "floordiv": int.__floordiv__, "mod": int.__mod__})
                     for d in dimensions)  # fmt: skip
    assert at(with_formulas(dimensions), height, width) == expected
    assert expected[:3] == (8 * height * width, -(-128 * height * width // 48), 16 * height * -(-width // 2))


def test_formulas_are_found_wherever_they_are():
    (h,) = symbolic_shape("h")

    @dataclasses.dataclass(frozen=True)
    class Settings:
        shape: tuple

    value = (slice(0, 2 * h, 2), Settings((h, 3)), "h", None)
    found = with_formulas(value)
    assert found == (slice(0, Formula("2*h"), 2), Settings((Formula("h"), 3)), "h", None)
    assert at(found, 4, 9) == (slice(0, 8, 2), Settings((4, 3)), "h", None)


def test_grids_are_those_of_padded_pictures():
    assert sides_of((24, 8, 3), 16) == (3, 1)
    assert shape_of_any_size((24, 8, 3), 16) == ("8*h", "8*w", "3")
    with pytest.raises(ValueError, match=r"^a grid of 24x7 is none of a picture padded to multiples of 128$"):
        sides_of((24, 7, 3), 16)


LEAVES = st.recursive(
    st.none() | st.integers(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
)


@given(LEAVES)
def test_trees_are_taken_apart_as_jax_does(tree):
    leaves, structure = trees.flatten(tree)
    assert leaves == jax.tree.leaves(tree)
    assert trees.unflatten(structure, leaves) == tree
    hash(structure)


@needs_kernels
def test_one_trace_serves_every_size(tiny_weights, monkeypatch):
    for program in tiled_network.PROGRAMS.values():
        monkeypatch.setattr(program, "_made", {})
    codec = Codec(tiny_weights)
    codec.encode(photograph(100, 120))
    made = [len(program) for program in tiled_network.PROGRAMS.values()]
    monkeypatch.setattr(making, "steps", None)
    monkeypatch.setattr(making, "executable", None)
    for height, width in ((300, 120), (100, 500), (390, 260)):
        encoded = codec.encode(photograph(height, width))
        np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    assert [len(program) for program in tiled_network.PROGRAMS.values()] == made


@needs_kernels
def test_grids_of_one_call_are_of_one_picture(tiny_codec):
    config, params = tiny_codec.network.config, tiny_codec.network.params
    mu, sigma = (np.zeros((height, 8, config.slice_channels), np.float32) for height in (8, 16))
    with pytest.raises(ValueError, match=r"of pictures of several sizes: \[\(1, 1\), \(2, 1\)\]$"):
        tiled_network.PROGRAMS["slice_latents"](config, params, 0, mu, mu, sigma)


@needs_kernels
def test_few_sizes_are_held(tiny_codec, monkeypatch):
    monkeypatch.setattr(programs, "_SIZES", 2)
    program = tiled_network.PROGRAMS["hyper_synthesis"]
    monkeypatch.setattr(program, "_stepwise", {})
    first = tiny_codec.compress(photograph(100, 120))
    for side in (130, 260, 390):
        tiny_codec.compress(photograph(100, side))
    assert len(program._stepwise) == 2
    assert tiny_codec.compress(photograph(100, 120)) == first


NO_JAX = """
import sys
{first}
import numpy as np
from tcm_jax.codec.codec import Codec
from tcm_jax.weights.files import load_weights
codec = Codec(load_weights({weights!r}), coder="native")  # TensorFlow imports JAX
picture = np.random.default_rng(0).integers(0, 256, ({height}, {width}, 3), np.uint8)
data = codec.compress(picture)
codec.decompress(data)
print(len(data), "jax" in sys.modules)
"""


@needs_kernels
def test_a_second_process_needs_no_jax_for_any_size(tmp_path):
    """The first one has kept the programs, of another size; the kernels were kept before."""
    shutil.copytree(cache_folder() / "objects", tmp_path / "tcm_jax" / "objects")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def run(height: int, width: int, first: str = "") -> list[str]:
        code = NO_JAX.format(weights=str(WEIGHTS), height=height, width=width, first=first)
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert run(40, 60)[1] == "True"
    size, with_jax = run(300, 140)
    assert with_jax == "False"
    assert run(300, 140, "import jax") == [size, "True"]


CHANGES = [*ABLATIONS, {}, {"skip": "shuffled", "hyper_window": 2, "levels": 3, "checkerboard_width": 16}]


@needs_kernels
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_network_is_steps(tiny_config, changes):
    config = dataclasses.replace(tiny_config, **changes)
    params = programs.Parameters(drawn_weights(config, 0).params)
    for program, static, grids in codec_programs(config).values():
        program.executable(config, params, *static, *grids)  # raises NotImplementedError for what is no step


def test_every_name_of_the_operations_is_there():
    for package in (ops, kernels):
        assert all(getattr(package, name) is not None for name in package.__all__)
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = package.nothing
