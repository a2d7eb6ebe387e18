"""TCM tiny, second generation: the embedded network with detail slices beside its transforms, up to visually lossless.

Command: `python train.py --config configs/tcm_tiny2.py --config.data.source=folder:PICTURES --workdir runs/tiny2`;
docs/experiments/2026-11-28-detail.md says why it is as it is. It begins as the weights in `init_from`, whose levels
it has first, in the same order, and codes as they do; the levels after them and the detail slices are new. On a GPU
for some minutes: docs/models/tiny/gpu.py.
"""

import dataclasses

from configs import tcm_tiny
from configs.default import make_config

LAMBDAS = (0.0009, 0.0022, 0.0055, 0.0135, 0.034, 0.085, 0.2125, 0.53, 1.33)
MODEL = dataclasses.replace(
    tcm_tiny.MODEL,
    levels=len(LAMBDAS),
    checkerboard_width=48,
    detail_channels=528,
    detail_from=(5.0, 5.5, 6.5),
    detail_width=96,
)


def get_config():
    """A flat learning rate for as long as there is time, then a fall in a run of its own."""
    config = make_config("tcm_tiny2", MODEL)
    config.level_lams = LAMBDAS
    config.balance_levels = True
    config.init_from = "tcm_jax/weights/tcm_tiny.safetensors"
    config.optimizer = "soap"
    config.schedule = "flat"
    config.data.crop, config.data.batch_size = 128, 8
    config.steps, config.fall_steps, config.warmup_steps = 200_000, 20_000, 300
    config.learning_rate, config.clip_norm, config.ema_decay = 8e-4, 10.0, 0.9995
    config.log_every = 20
    config.checkpoint_every = 200
    return config
