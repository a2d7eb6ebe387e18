"""SOAP against a plain one in NumPy, and what it is for: curvature that lies across the axes of a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.default import make_config
from tcm_jax.errors import ConfigError
from tcm_jax.training.adam import adam
from tcm_jax.training.optimizer import make_optimizer, make_schedule
from tcm_jax.training.soap import LARGEST_SIDE, REFRESH, soap

SHAPES = {
    "a/bias": (5,),
    "a/kernel": (3, 3, 2, 4),  # a matrix of 18 rows
    "b/kernel": (18, 4),
    "b/scale": (18,),
    "c/kernel": (LARGEST_SIDE + 1, 3),  # of which the columns alone have a basis
    "d/kernel": (LARGEST_SIDE + 1, LARGEST_SIDE + 2),  # and none
    "d/matrices_0": (3, 3),
}
B, EPS, RATE = 0.95, 1e-8, 1e-3


def plain_soap(grads: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """The updates of each step, in float64."""
    updates = []
    state = {name: (np.zeros(1), np.zeros(1)) for name in SHAPES}
    sides = {}
    for name, shape in SHAPES.items():
        matrix = (int(np.prod(shape[:-1])), shape[-1]) if name.endswith("kernel") else ()
        sides[name] = [(np.zeros((n, n)), np.eye(n)) if n <= LARGEST_SIDE else None for n in matrix]
    for count, gradient in enumerate(grads, 1):
        updates.append({})
        for name, grad in gradient.items():
            shape = grad.shape
            grad = grad.astype(np.float64)
            if sides[name]:
                grad = grad.reshape(-1, shape[-1])
                for i, product in enumerate((grad @ grad.T, grad.T @ grad)):
                    if sides[name][i]:
                        covariance, basis = sides[name][i]
                        covariance = B * covariance + (1 - B) * product
                        basis = basis if count % REFRESH else np.linalg.eigh(covariance)[1][:, ::-1]
                        sides[name][i] = covariance, basis
            bases = [side[1] if side else np.eye(n) for side, n in zip(sides[name], grad.shape, strict=False)]
            mean, square = state[name]
            mean = B * mean + (1 - B) * grad
            turned, turned_mean = (bases[0].T @ v @ bases[1] if bases else v for v in (grad, mean))
            square = B * square + (1 - B) * turned**2
            state[name] = mean, square
            moved = (turned_mean / (1 - B**count) / (np.sqrt(square / (1 - B**count)) + EPS)).clip(-1, 1)
            updates[-1][name] = -RATE * (bases[0] @ moved @ bases[1].T if bases else moved).reshape(shape)
    return updates


def test_updates_are_those_of_a_plain_one():
    rng = np.random.default_rng(0)
    # Gradients that lean to a few directions, of other sizes from step to step.
    lean = {name: rng.normal(size=(3, *shape)) for name, shape in SHAPES.items()}
    grads = [
        {
            name: np.float32(np.tensordot(rng.normal(size=3), lean[name], 1) + 0.3 * rng.normal(size=shape))
            for name, shape in SHAPES.items()
        }
        for _ in range(2 * REFRESH + 3)
    ]
    optimizer = soap(RATE, SHAPES)
    state = optimizer.init({"main": jnp.zeros(sum(int(np.prod(shape)) for shape in SHAPES.values()))})
    update = jax.jit(optimizer.update)
    for count, (gradient, expected) in enumerate(zip(grads, plain_soap(grads), strict=True), 1):
        updates, state = update({"main": flat(gradient)}, state)
        difference = np.abs(updates["main"] - flat(expected)).max()
        assert difference < 2e-3 * RATE, f"update {count}"


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([arrays[name].ravel() for name in SHAPES]).astype(np.float32)


@pytest.mark.parametrize("name", ["soap", "adam"])
def test_turned_curvature_is_soap_s_strength(name, tiny_config):
    """Loss sum(h * (Q.T W R)**2), curvatures h of 1 to 1e-4, noise in W: Adam takes W's axes, SOAP those of Q, R."""
    config = make_config("test", tiny_config)
    config.learning_rate, config.schedule, config.steps = 0.03, "cosine", 600
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0].astype(np.float32) for n in (24, 16))
    curvature = np.outer(np.logspace(0, -2, 24), np.logspace(0, -2, 16)).astype(np.float32)

    def error(params):
        return left.T @ params["main"].reshape(24, 16) @ right

    schedule = make_schedule(config)
    optimizer = soap(schedule, {"kernel": (24, 16)}) if name == "soap" else adam(schedule)
    start = np.sign(rng.normal(size=(24, 16))).astype(np.float32)
    params = {"main": jnp.asarray((left @ start @ right.T).ravel())}

    def one(carry, key):
        params, state = carry
        noisy = jax.tree.map(lambda w: w + 0.3 * jax.random.normal(key, w.shape), params)
        grads = jax.grad(lambda params: jnp.sum(curvature * error(params) ** 2))(noisy)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(0), config.steps)
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(one, carry, keys))((params, optimizer.init(params)))
    largest = float(jnp.abs(error(params)).max())
    print(f"{name}: largest error {largest:.3f}, 1 at first")
    assert (largest < 0.1) == (name == "soap")


def test_other_shapes_than_the_parameters_are_refused():
    with pytest.raises(ValueError, match="not the 12 of the shapes"):
        soap(RATE, {"kernel": (3, 4)}).init({"main": jnp.zeros(13)})


def test_an_unknown_optimizer_is_named(tiny_config):
    config = make_config("test", tiny_config)
    config.optimizer = "sgd"
    with pytest.raises(ConfigError, match="'sgd' is none of adam, soap"):
        make_optimizer(config)
