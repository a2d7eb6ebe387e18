"""Networks that start as a linear transform: what they code, and that training can start from them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import smoke
from tcm_jax.errors import ConfigError
from tcm_jax.images.pictures import write_png
from tcm_jax.model import klt
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.initialization import init_params
from tcm_jax.model.tcm import TCM
from tcm_jax.training import start

LAMS = (0.002, 0.01, 0.05)
CHANGES = {"widths": (12, 48, 64), "latent_channels": 24, "levels": 3, "skip": "shuffled"}
SMALL = dataclasses.replace(smoke.MODEL, head_dims=(6, 24, 32), **CHANGES)


def pictures(count: int = 6) -> np.ndarray:
    """Smooth colours with some noise, uint8 [count, 128, 128, 3]."""
    rng = np.random.default_rng(0)
    coarse = jax.image.resize(rng.uniform(0, 255, (count, 8, 8, 3)), (count, 128, 128, 3), "cubic")
    return np.clip(coarse + rng.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)


def started(config: ModelConfig, crops: np.ndarray):
    return {"params": klt.start_from_klt(init_params(config, 0), config, crops, LAMS)}


def there_and_back(model: TCM, variables, x: jax.Array, level: jax.Array):
    y = model.apply(variables, x, level, method="analysis")
    return y, model.apply(variables, y, level, method="synthesis")


def energy(values: jax.Array) -> float:
    return float(np.sum(np.square(values, dtype=np.float64)))  # a sum in float32 is off by up to 0.1 on some versions


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_transforms_are_orthonormal_and_inverse(level):
    """With all 768 channels nothing is lost; with fewer, what is lost is what the latents lack (Parseval)."""
    crops = pictures()
    x = jnp.asarray(crops, jnp.float32) / 255
    at = jnp.full(len(x), level)
    whole = dataclasses.replace(SMALL, widths=(12, 48, 192), latent_channels=768)
    for config, lost in ((whole, False), (SMALL, True)):
        variables, model = started(config, crops), TCM(config)
        y, x_hat = jax.jit(functools.partial(there_and_back, model))(variables, x, at)
        missing = energy(x - 0.5) - energy(y * klt.quantization_step(LAMS[int(level)]))
        assert energy(x - x_hat) == pytest.approx(missing, abs=0.02)
        assert (energy(x - x_hat) > 1) == lost


def test_latents_are_uncorrelated_and_every_slice_has_strong_ones():
    crops = pictures()
    x = jnp.asarray(crops, jnp.float32) / 255
    y = np.asarray(TCM(SMALL).apply(started(SMALL, crops), x, jnp.ones(len(x)), method="analysis")).reshape(-1, 24)
    moments = y.T @ y / len(y)
    power = np.diag(moments)
    np.testing.assert_allclose(moments - np.diag(power), 0, atol=1e-3 * power.max())
    ranks = np.argsort(np.argsort(-power)).reshape(2, 12)
    np.testing.assert_array_equal(ranks, np.arange(24).reshape(12, 2).T)


def test_the_first_scales_are_the_deviations_of_the_latents():
    crops = pictures()
    x = jnp.asarray(crops, jnp.float32) / 255
    _, out = jax.jit(TCM(SMALL).apply)(started(SMALL, crops), x, level=jnp.ones(len(x)))
    np.testing.assert_allclose(out["scales"][0, 0, 0], jnp.sqrt(jnp.mean(out["y"] ** 2, (0, 1, 2))), rtol=1e-3)
    assert not np.any(out["means"])
    np.testing.assert_array_equal(out["y_hat"], out["symbols"])


def test_quantization_step_is_the_best_one():
    lam = 0.0067
    step = np.linspace(0.5, 2, 20_001) * klt.quantization_step(lam)
    loss = lam * 255**2 * step**2 / 12 + 3 * np.log2(1 / step)
    assert step[np.argmin(loss)] == pytest.approx(klt.quantization_step(lam), rel=1e-3)


@pytest.mark.slow
def test_a_run_starts_from_the_klt_of_its_pictures(tmp_path):
    for i, picture in enumerate(pictures()):
        write_png(tmp_path / f"{i}.png", picture)
    config = smoke.get_config()
    config.model.update(dataclasses.asdict(SMALL))
    config.level_lams, config.initialization = LAMS, "klt"
    config.data.source, config.data.crop = f"folder:{tmp_path}", 128
    first, again = (start.first_state(config).params["g_a"]["layers_0"]["skip"]["kernel"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first.T @ first, np.eye(12), atol=1e-5)


@pytest.mark.parametrize("change", [{"levels": 0}, {"skip": "strided"}, {"attention": "transforms"}])
def test_networks_that_cannot(change):
    config = smoke.get_config()
    config.model.update(dataclasses.asdict(dataclasses.replace(SMALL, **change)))
    config.initialization = "klt"
    with pytest.raises(ConfigError, match="initialization klt needs"):
        start.check_start(config)
    config.initialization = "dct"
    with pytest.raises(ConfigError, match="'dct' is none of random, klt"):
        start.check_start(config)
