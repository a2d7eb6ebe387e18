"""The training step: what it learns from, what it skips, and what it adds up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import photograph
from flax.traverse_util import flatten_dict

from configs import default, smoke
from tcm_jax.errors import ConfigError
from tcm_jax.model.initialization import init_params
from tcm_jax.training import start, step
from tcm_jax.training.config import model_config
from tcm_jax.training.vectors import to_params, to_vectors

LAMS = (0.001, 0.01, 0.1)
BATCH = np.stack([photograph(128, 128, i) for i in range(4)])


# Without SWAtten, which has no part in what is tested here and takes a third of the compilation.
MODEL = dataclasses.replace(smoke.MODEL, levels=len(LAMS), attention="none")


def make_config(**changes):
    config = default.make_config("test", MODEL)
    config.update({"level_lams": LAMS, "clip_norm": 1e9, **changes})
    return config


@pytest.fixture(scope="module")
def state():
    return start.first_state(make_config())


@pytest.fixture(scope="module")
def once(state):
    return jax.jit(step.make_step(make_config())).lower(state, BATCH).compile()


def test_parameters_become_vectors_and_back():
    params = init_params(smoke.MODEL, 0)
    back = flatten_dict(to_params(to_vectors(params), smoke.MODEL), sep="/")
    flat = flatten_dict(params, sep="/")
    assert back.keys() == flat.keys()
    for name, value in flat.items():
        np.testing.assert_array_equal(back[name], value)
    assert to_vectors(params)["quantiles"].size == 3 * smoke.MODEL.hyper_channels
    with pytest.raises(ValueError, match="values for the"):
        to_params(to_vectors(params), dataclasses.replace(smoke.MODEL, atten_width=16))


def test_slices_of_the_vector_share_kernels():
    """Where a slice starts is an operand: XLA would compile a kernel for each start."""
    vectors = to_vectors(init_params(smoke.MODEL, 0))
    program = jax.jit(lambda vectors: to_params(vectors, smoke.MODEL)).lower(vectors).compile()
    if jax.default_backend() == "cpu":
        assert program.as_text().count(" slice(") <= 1  # the value that hides the starts
    expected = to_params(jax.tree.map(np.asarray, vectors), smoke.MODEL)
    jax.tree.map(np.testing.assert_array_equal, program(vectors), expected)


@pytest.mark.slow
def test_parts_of_a_batch_are_the_whole(state, once):
    whole, expected = once(state, BATCH)
    parts, metrics = jax.jit(step.make_step(make_config(accumulate=2)))(state, BATCH)
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-4), name
    first, second = (jax.tree.leaves(s.opt_state) for s in (whole, parts))
    for ours, theirs in zip(second, first, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(jnp.abs(theirs).max()))


def test_a_step_that_is_not_finite_is_skipped(state, once):
    stem = jax.tree.map(lambda leaf: leaf * jnp.nan, state.params["g_a"]["layers_0"])
    broken = state.replace(params=state.params | {"g_a": state.params["g_a"] | {"layers_0": stem}})
    after, metrics = once(broken, BATCH)
    assert (int(after.step), int(after.bad_steps), float(metrics["skipped"])) == (1, 1, 1)
    for name in ("params", "ema", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(broken, name))
    again, metrics = once(after, BATCH)
    assert float(metrics["bad_steps"]) == 2
    mended, metrics = once(again.replace(params=state.params), BATCH)
    assert (int(mended.step), int(mended.bad_steps), float(metrics["skipped"])) == (3, 0, 0)
    assert not np.array_equal(to_vectors(mended.params)["main"], to_vectors(state.params)["main"])


def test_each_picture_has_a_level_and_its_lambda():
    """Over levels the loss is that of each picture under its own lambda."""
    config = make_config()
    params = init_params(model_config(config), 0)
    noise = step.draw_noise(model_config(config), jax.random.key(0), BATCH.shape)
    level = jnp.array([0.0, 2, 1, 1])
    loss_fn = jax.jit(step.make_loss(config))
    (loss, parts) = loss_fn(params, BATCH, noise, level)
    repeated = [jax.tree.map(lambda leaf, i=i: leaf[np.full(4, i)], (BATCH, noise, level)) for i in range(4)]
    single = [loss_fn(params, *inputs)[1] for inputs in repeated]
    mse = np.array([float(p["mse"]) for p in single])
    bpp = np.mean([float(p["bpp"]) for p in single])
    assert float(parts["loss"]) == pytest.approx(np.mean(np.array(LAMS)[[0, 2, 1, 1]] * 255**2 * mse) + bpp, rel=1e-4)
    assert float(loss) == pytest.approx(float(parts["loss"] + parts["aux_loss"]), rel=1e-6)


def test_balanced_levels_count_by_the_root_of_lambda():
    config = make_config(balance_levels=True, lam=0.01)
    params = init_params(model_config(config), 0)
    noise = step.draw_noise(model_config(config), jax.random.key(0), BATCH.shape)
    level = jnp.array([0.0, 2, 1, 1])
    _, balanced = jax.jit(step.make_loss(config))(params, BATCH, noise, level)
    alone = jax.jit(step.make_loss(make_config()))
    losses = []
    for i in range(4):
        inputs = jax.tree.map(lambda leaf, i=i: leaf[np.full(4, i)], (BATCH, noise, level))
        losses.append(float(alone(params, *inputs)[1]["loss"]))
    weights = np.array([10**0.5, 10**-0.5, 1, 1])
    assert float(balanced["loss"]) == pytest.approx(np.mean(weights * losses), rel=1e-4)


@pytest.mark.slow
def test_the_entropy_model_alone_is_trained_on_the_rate_alone(state, once):
    after, metrics = jax.jit(step.make_step(make_config(entropy_only=True)))(state, BATCH)
    assert float(metrics["loss"]) == float(metrics["bpp"])
    assert float(metrics["bpp"]) == pytest.approx(float(once(state, BATCH)[1]["bpp"]), rel=1e-4)
    before, now = (flatten_dict(s.params, sep="/") for s in (state, after))
    moved = {name for name in before if not np.array_equal(before[name], now[name])}
    resting = {name for name in before if name.startswith(step.TRANSFORMS)}
    assert not moved & resting
    for part in ("h_a", "h_mean_s", "h_scale_s", "cc_mean_transforms_0", "cc_scale_transforms_0", "entropy_bottleneck"):
        assert any(name.startswith(part) for name in moved), part


def test_each_part_has_noise_of_its_own():
    """No part begins with the noise of another, nor with that of the levels' key."""
    model = dataclasses.replace(MODEL, detail_channels=8, detail_from=(1.0,))
    noise = step.draw_noise(model, jax.random.key(3), (2, 128, 128, 3))
    assert {name: part.shape for name, part in noise.items()} == {
        "y": (2, 8, 8, 16), "z": (2, 2, 2, 8), "detail": (2, 8, 8, 8)
    }  # fmt: skip
    beginnings = [np.asarray(part).ravel()[:64] for part in noise.values()]
    assert np.abs(np.concatenate(beginnings)).max() <= 0.5
    assert np.abs(np.corrcoef(beginnings) - np.eye(3)).max() < 0.5


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="level_lams has 2 lambdas"):
        step.make_step(make_config(level_lams=LAMS[:2]))
    with pytest.raises(ConfigError, match="float16"):
        step.make_step(make_config(precision="float16"))
    with pytest.raises(ConfigError, match="optimizer 'sgd' is none of adam, soap"):
        step.make_step(make_config(optimizer="sgd"))
    with pytest.raises(ConfigError, match="schedule 'linear' is none of multistep, cosine, flat"):
        step.make_schedule(make_config(schedule="linear"))
    detailed = make_config(entropy_only=True)
    detailed.model.update(detail_channels=8, detail_from=(1.0,))
    with pytest.raises(ConfigError, match="entropy_only trains no detail slices"):
        step.make_loss(detailed)


def test_levels_are_drawn_whole_and_between_two_with_lambdas_between_theirs():
    config = make_config(balance_levels=True, lam=0.01)
    levels = np.asarray(step.draw_levels(jax.random.key(0), 6000, len(LAMS)))
    assert levels.min() == 0 and levels.max() == len(LAMS) - 1
    np.testing.assert_allclose(np.bincount(np.rint(levels).astype(int)) / 6000, 1 / len(LAMS), atol=0.02)
    np.testing.assert_allclose(np.mean(levels == 0), 0.5 / len(LAMS), atol=0.02)
    lam, weight = step.level_weights(config, jnp.array([0, 0.5, 2]))
    np.testing.assert_allclose(lam, [LAMS[0], (LAMS[0] * LAMS[1]) ** 0.5, LAMS[2]], rtol=1e-6)
    np.testing.assert_allclose(weight, np.sqrt(0.01 / lam), rtol=1e-6)
    assert not np.any(step.draw_levels(jax.random.key(0), 8, 1))
