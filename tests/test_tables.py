"""Integer tables: the reference's scales, what the tables cost, and weights that make no sense."""

import itertools
import math
import zlib

import numpy as np
import pytest

from tcm_jax.entropy import coders, tables
from tcm_jax.entropy.factorized import logits_cumulative
from tcm_jax.errors import WeightsError

FILTERS = (1, 3, 3, 3, 3, 1)


def prior(channels: int, seed: int = 0, scale: float = 5.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    params = {"quantiles": rng.normal(0, 3, (channels, 1, 3)).cumsum(-1)}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(FILTERS)):
        initial = math.log(math.expm1(scale**-0.2 / fan_out))
        params[f"matrices_{i}"] = rng.normal(initial, 0.1, (channels, fan_out, fan_in))
        params[f"biases_{i}"] = rng.uniform(-0.5, 0.5, (channels, fan_out, 1))
        if i < 4:
            params[f"factors_{i}"] = rng.normal(0, 0.3, (channels, fan_out, 1))
    return {name: value.astype(np.float32) for name, value in params.items()}


@pytest.fixture(scope="module")
def built():
    params = prior(12)
    return params, tables.build_tables(params)


def frequencies(built, index: int) -> np.ndarray:
    start = built.starts[index]
    return np.diff(built.lookup[start : start + built.sizes[index] + 2])


def cost(built, index: int, symbols: np.ndarray, masses: np.ndarray) -> tuple[float, float]:
    """Bits a symbol under the table and under the probabilities themselves."""
    keep = masses > 0
    symbols, masses = symbols[keep].astype(np.int32), masses[keep]
    at = np.array([index], np.int32)
    bits = [coders.information_content(built, at, symbols[i : i + 1]) for i in range(symbols.size)]
    return float(masses @ bits), float(-masses @ np.log2(masses))


def gaussian(scale: float) -> tuple[np.ndarray, np.ndarray]:
    symbols = np.arange(-math.ceil(8 * scale) - 2, math.ceil(8 * scale) + 3)
    tail = np.vectorize(lambda x: 0.5 * math.erfc(x / scale / math.sqrt(2)))
    return symbols, tail(np.abs(symbols) - 0.5) - tail(np.abs(symbols) + 0.5)


def test_scale_table_is_the_reference():
    scales = tables.scale_table()
    assert scales.dtype == np.float32
    assert scales.shape == (64,)
    np.testing.assert_allclose(scales, np.exp(np.linspace(np.log(0.11), np.log(256), 64)), rtol=3e-7)
    # What CompressAI 1.2.8 computes with PyTorch 2.13, as bits.
    bits = scales[[0, 1, 31, 62, 63]].view(np.uint32).tolist()
    assert bits == [1038174126, 1040107411, 1084206488, 1130519531, 1132462080]


def test_scale_table_is_torch_s():
    torch = pytest.importorskip("torch")
    expected = torch.exp(torch.linspace(math.log(0.11), math.log(256), 64)).numpy()
    np.testing.assert_array_equal(tables.scale_table(), expected)


def test_tables_are_made_for_the_middle_of_their_scales():
    middle, ends = tables.gaussian_scales(), tables.scale_table().astype(np.float64)
    np.testing.assert_allclose(middle[1:] ** 2, ends[1:] * ends[:-1], rtol=1e-15)
    assert middle[0] == ends[0]
    np.testing.assert_array_equal(tables.build_indexes(middle), np.arange(64))


def test_every_symbol_has_a_place(built):
    _, built = built
    assert len(built) == 64 + 12
    for index in range(len(built)):
        counts = frequencies(built, index)
        assert counts.min() >= 1
        assert counts.sum() == 65536
        assert built.offsets[index] <= -1
        assert built.offsets[index] + built.sizes[index] >= 2


def test_golden_tables(built):
    """Tables are part of a model's identity: the same weights must give the same integers for ever."""
    _, built = built
    assert frequencies(built, 0).tolist() == [1, 65533, 1, 1]
    assert frequencies(built, 14).tolist() == [1, 314, 12400, 40105, 12400, 314, 1, 1]
    gaussians = built.lookup[: built.starts[64] - 1]
    assert zlib.crc32(gaussians.astype("<i4").tobytes()) == 1227653158
    assert zlib.crc32(built.lookup.astype("<i4").tobytes()) == 190919050
    assert built.sizes[[20, 40, 63]].tolist() == [11, 119, 1679]


@pytest.mark.parametrize("index", [0, 1, 2, 3, 5, 8, 14, 20, 31, 45, 63])
def test_gaussian_tables_cost_under_a_thousandth(built, index):
    _, built = built
    coded, ideal = cost(built, index, *gaussian(float(tables.gaussian_scales()[index])))
    # 5e-5 bits: with 16 bits no symbol can be likelier than 65533/65536.
    assert ideal <= coded <= 1.001 * ideal + 5e-5


def laplacian(scale: float, count: int) -> np.ndarray:
    """Counts of -REACH ... REACH among `count` Laplacian numbers of a standard deviation, rounded."""
    numbers = np.random.default_rng(0).laplace(0, scale / math.sqrt(2), count)
    return np.bincount(np.rint(numbers).astype(int) + tables.REACH, minlength=2 * tables.REACH + 1)


@pytest.mark.parametrize("index", [4, 14, 20, 45])
def test_fitted_tables_cost_what_the_counted_symbols_are_worth(built, index):
    params, gaussians = built
    row = laplacian(float(tables.gaussian_scales()[index]), 1_000_000)
    counts = np.zeros((64, row.size), np.int64)
    counts[index] = row
    fitted = tables.build_tables(params, counts)
    symbols = np.arange(-tables.REACH, tables.REACH + 1)
    coded, ideal = cost(fitted, index, symbols, row / row.sum())
    assert ideal <= coded <= 1.002 * ideal + 5e-5
    assert coded < 0.985 * cost(gaussians, index, symbols, row / row.sum())[0]
    others = np.arange(len(fitted)) != index
    np.testing.assert_array_equal(fitted.sizes[others], gaussians.sizes[others])


def test_nothing_counted_gives_gaussians(built):
    params, gaussians = built
    fitted = tables.build_tables(params, np.zeros((64, 2 * tables.REACH + 1), np.int64))
    np.testing.assert_array_equal(fitted.lookup, gaussians.lookup)


def test_a_symbol_met_far_out_leaves_a_fitted_table_short(built):
    params, gaussians = built
    counts = np.zeros((64, 2 * tables.REACH + 1), np.int64)
    counts[10, [tables.REACH, tables.REACH + 900, -1]] = 1000, 1, 1
    fitted = tables.build_tables(params, counts)
    assert fitted.sizes[10] <= gaussians.sizes[10]
    assert fitted.lookup[fitted.starts[10] + fitted.sizes[10]] < 65536 - 30  # the escape has what was met out there


def test_factorized_tables_follow_the_prior(built):
    params, built = built
    symbols = np.arange(-600, 601)
    params = {name: value.astype(np.float64) for name, value in params.items()}
    edges = params["quantiles"][:, :, 1:2] + (np.arange(-600, 602) - 0.5)
    cumulative = 1 / (1 + np.exp(-logits_cumulative(params, edges)[:, 0]))
    for channel in range(12):
        coded, ideal = cost(built, 64 + channel, symbols, np.diff(cumulative[channel]))
        assert ideal <= coded <= 1.001 * ideal + 5e-5


def test_building_again_gives_the_same(built):
    params, first = built
    again = tables.build_tables(params)
    np.testing.assert_array_equal(first.lookup, again.lookup)
    np.testing.assert_array_equal(first.offsets, again.offsets)


@pytest.mark.parametrize("shift", [1e4, -1e6, 1e30])
def test_absurd_quantiles_leave_small_tables(shift):
    params = prior(2)
    params["quantiles"] = params["quantiles"] + np.float32(shift)
    built = tables.build_tables(params)
    assert built.sizes[64:].tolist() == [3, 3]
    symbols = np.array([-5000, -1, 0, 1, 5000], np.int32)
    encoder = coders.encoder(built, "native")
    encoder.encode(np.full(5, 64, np.int32), symbols)
    decoder = coders.decoder(built, encoder.finish())
    np.testing.assert_array_equal(decoder.decode(np.full(5, 64, np.int32)), symbols)


def test_wide_priors_are_bounded():
    built = tables.build_tables(prior(2, scale=300.0))
    assert np.all(built.sizes[64:] <= 4096)
    assert np.all(built.sizes[64:] > 1000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["biases_2", "quantiles", "factors_0"])
def test_a_prior_that_is_not_finite_is_refused(name, value):
    params = prior(2)
    params[name][1, 0, :] = value
    with pytest.raises(WeightsError, match="not finite"):
        tables.build_tables(params)


def test_indexes_count_the_smaller_scales():
    scales = tables.scale_table()
    above, below = np.nextafter(scales, np.float32(np.inf)), np.nextafter(scales, np.float32(0))
    assert tables.build_indexes(scales).tolist() == list(range(64))
    assert tables.build_indexes(below).tolist() == list(range(64))
    assert tables.build_indexes(above).tolist() == [*range(1, 64), 63]
    odd = np.array([[-np.inf, -1, 0, 1e-30], [300, 1e30, np.inf, np.nan]], np.float32)
    indexes = tables.build_indexes(odd)
    assert indexes.tolist() == [[0] * 4, [63] * 4]
    assert indexes.dtype == np.int32
