"""TCM tiny for PSNR, embedded beside the one for the eye: the first generation's network with detail slices beside its
transforms, up to visually lossless, and a second step of each slice.

Command: `python train.py --config configs/tcm_tiny_psnr.py --config.data.source=folder:PICTURES --workdir runs/psnr`;
docs/models/tiny/README.md says which pictures and what `init_from` is, docs/experiments/2026-11-28-detail.md why the
network is as it is. On a GPU for some minutes: docs/models/tiny/gpu.py.
Hardware and hours: two CPU cores with AVX-512, 100 minutes after the two hours of the model for the eye.
Should reach on Kodak at quality 40 (that page): 33.57 dB at 0.5639 bpp.
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
    """From the weights for the eye: a flat learning rate, then a fall to 0."""
    config = make_config("tcm_tiny_psnr", MODEL)
    config.seed = 22
    config.level_lams = LAMBDAS
    config.balance_levels = True
    config.init_from = "eye.safetensors"
    config.optimizer = "soap"
    config.schedule = "flat"
    config.data.crop, config.data.batch_size = 256, 8
    config.steps, config.fall_steps, config.warmup_steps = 3_600, 1_500, 100
    config.learning_rate, config.clip_norm, config.ema_decay = 1.25e-3, 10.0, 0.999
    config.log_every = 20
    config.checkpoint_every = 200
    return config
