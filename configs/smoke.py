"""Smoke test: a test-sized network, 60 steps on the photographs that come with scikit-image.

Command: python train.py --config configs/smoke.py --workdir runs/smoke
Hardware and hours: two CPU cores, under two minutes with compilation.
Should reach: a falling loss; 60 steps make no codec.
"""

from pathlib import Path

from configs.default import make_config
from tcm_jax.model.config import ModelConfig
from tcm_jax.system.extras import require_extra

MODEL = ModelConfig(
    widths=(8, 8, 8),
    depths=(0, 0, 1),
    head_dims=(4, 4, 4),
    hyper_width=8,
    hyper_depth=0,
    hyper_head_dim=4,
    latent_channels=16,
    hyper_channels=8,
    num_slices=2,
    atten_width=8,
    atten_head_dim=4,
    context_widths=(8, 8),
)


def get_config(rate: str = "mse-3"):
    """Every part of the training program, as quickly as it can be had."""
    with require_extra("all", "this configuration trains on photographs of scikit-image"):
        import skimage
    config = make_config("smoke", MODEL, rate)
    config.data.source = f"folder:{Path(skimage.__file__).parent / 'data'}"
    config.data.crop = 128
    config.data.batch_size = 4
    config.validation.source = "samples"
    config.validation.every = 30
    config.validation.pictures = 1
    config.steps = 60
    config.learning_rate = 1e-3
    config.schedule = "cosine"
    config.log_every = 5
    config.checkpoint_every = 20
    return config
