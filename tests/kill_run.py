"""The training program around a step that compiles at once, so that it can be killed often.

python kill_run.py WORKDIR [COORDINATOR PROCESS_ID], the latter with two processes.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from configs import smoke
from tcm_jax.errors import Preempted, TcmError
from tcm_jax.training import loop
from tcm_jax.training.step import TrainState
from tcm_jax.weights import files
from train import show_messages


def state_of_nothing(config):
    weights = {"w": jnp.ones((64, 64))}
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, weights, jax.tree.map(jnp.copy, weights), (), zero.copy())


def compile_step(config, replicated, sharded):
    def step(state, batch):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed), state.step), (64, 64))
        w = 0.9 * state.params["w"] + noise + batch[:, :64, :64].astype(jnp.float32).mean((0, 3))
        ema = {"w": 0.9 * state.ema["w"] + 0.1 * w}
        loss = w.mean()
        metrics = {"loss": loss, "bpp": loss, "mse": loss, "psnr": loss, "bad_steps": jnp.zeros(())}
        return state.replace(step=state.step + 1, params={"w": w}, ema=ema), metrics

    return jax.jit(step, donate_argnums=0, in_shardings=(replicated, sharded), out_shardings=(replicated, replicated))


show_messages()
loop.first_state = state_of_nothing
loop.abstract_state = lambda config: jax.eval_shape(lambda: state_of_nothing(config))
loop.compile_step = compile_step
loop.averaged = lambda *args: {}
files.export = lambda path, *args: path

config = smoke.get_config()
config.validation.source = ""
config.log_every = config.checkpoint_every = 1
if len(sys.argv) > 2:
    jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
try:
    loop.train(config, Path(sys.argv[1]))
except Preempted as stop:
    print(stop)
    sys.exit(75)
except TcmError as error:
    sys.exit(f"{type(error).__name__}: {error}")
