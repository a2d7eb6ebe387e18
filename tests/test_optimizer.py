"""The optimizer against PyTorch's: two Adams, one of them behind clipping by norm."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.default import make_config
from tcm_jax.training.optimizer import make_optimizer

STEPS = 8


@pytest.mark.parametrize("size", [0.01, 30.0])  # below and above the norm at which clipping begins
def test_steps_are_those_of_torch(tiny_config, size):
    torch = pytest.importorskip("torch")
    config = make_config("test", tiny_config)
    config.learning_rate, config.milestones = 1e-4, (5,)
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 3, 4, 8), "bias": (8,), "biases_0": (6, 3, 1), "quantiles": (6, 1, 3)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    grads = [
        {name: (size * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(STEPS)
    ]

    optimizer = make_optimizer(config)
    ours = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(ours)
    theirs = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in params.items()}
    main = [value for name, value in theirs.items() if name != "quantiles"]
    adam = torch.optim.Adam(main, lr=config.learning_rate)
    aux_adam = torch.optim.Adam([theirs["quantiles"]], lr=config.aux_learning_rate)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(adam, [5], gamma=0.1)

    for i, gradient in enumerate(grads):
        before = jax.tree.map(np.asarray, ours)
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, gradient), state, ours)
        ours = optax.apply_updates(ours, updates)
        torch_before = {name: value.detach().clone() for name, value in theirs.items()}
        for name, value in theirs.items():
            value.grad = torch.tensor(gradient[name])
        torch.nn.utils.clip_grad_norm_(main, config.clip_norm)
        adam.step()
        aux_adam.step()
        scheduler.step()
        for name, update in updates.items():
            rate = config.aux_learning_rate if name == "quantiles" else 1e-4 * (0.1 if i >= 5 else 1)
            # PyTorch rounds the sum, so that its own update is known only to half a unit of the parameter's last place.
            moved = (theirs[name].detach() - torch_before[name]).numpy()
            unit = np.spacing(np.abs(before[name]).max())
            np.testing.assert_allclose(update, moved, rtol=0, atol=1e-6 * rate + unit, err_msg=f"{name}, step {i}")


def test_one_step_from_zero_agrees_to_a_millionth_of_the_rate(tiny_config):
    """Parameters that start at 0 keep the update without rounding."""
    torch = pytest.importorskip("torch")
    config = make_config("test", tiny_config)
    rng = np.random.default_rng(1)
    gradient = {name: rng.normal(size=(64, 3)).astype(np.float32) for name in ("kernel", "quantiles")}
    params = {name: jnp.zeros((64, 3)) for name in gradient}
    optimizer = make_optimizer(config)
    updates, _ = optimizer.update(jax.tree.map(jnp.asarray, gradient), optimizer.init(params), params)
    theirs = {name: torch.nn.Parameter(torch.zeros(64, 3)) for name in gradient}
    for name, value in theirs.items():
        value.grad = torch.tensor(gradient[name])
    torch.nn.utils.clip_grad_norm_([theirs["kernel"]], config.clip_norm)
    torch.optim.Adam([theirs["kernel"]], lr=config.learning_rate).step()
    torch.optim.Adam([theirs["quantiles"]], lr=config.aux_learning_rate).step()
    for name, rate in (("kernel", config.learning_rate), ("quantiles", config.aux_learning_rate)):
        difference = np.abs(np.asarray(updates[name]) - theirs[name].detach().numpy()).max()
        print(f"{name}: largest difference {difference / rate:.1e} of the learning rate")
        assert difference <= 1e-6 * rate
