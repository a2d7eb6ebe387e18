"""TCM tiny, the embedded model: at most 10 MB and 80 kMAC a pixel, for CPUs.

Command: python train.py --config configs/tcm_tiny.py --config.data.source=folder:PATH --workdir runs/tcm_tiny
Hardware and hours: one CPU core does about 1 step a second; the embedded weights came from a shorter, staged run, whose
commands, hours and results are in docs/models/tiny/README.md.
"""

from configs.default import make_config
from tcm_jax.model_config import ModelConfig

MODEL = ModelConfig(
    widths=(24, 64, 96),
    depths=(0, 2, 2),
    head_dims=(12, 16, 24),
    hyper_width=48,
    hyper_depth=1,
    hyper_head_dim=24,
    latent_channels=96,
    hyper_channels=48,
    num_slices=4,
    atten_width=32,
    atten_head_dim=16,
    context_widths=(48, 32),
)


def get_config(rate: str = "mse-3"):
    """A low rate, trained on a CPU."""
    config = make_config("tcm_tiny", MODEL, rate)
    config.data.crop = 128
    config.steps = 12_000
    config.learning_rate = 1e-3
    config.schedule = "cosine"
    config.warmup_steps = 200
    config.log_every = 20
    config.checkpoint_every = 500
    return config
