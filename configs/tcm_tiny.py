"""TCM tiny, the first generation of the embedded models: at most 10 MB and 80 kMAC a pixel, for CPUs; for all rates.

Command: `python train.py --config configs/tcm_tiny.py:entropy ...` from the KLT of the pictures, then runs of `python
train.py --config configs/tcm_tiny.py --config.init_from=FILE ...`, each from the weights of the one before;
docs/experiments/2026-11-28-tiny-runs.md has all in full.
Hardware and hours: two CPU cores, twenty-one hours (that page).
Should reach on Kodak at quality 40 (`python evaluate.py --data kodak --weights FILE`): 31.09 dB at 0.3282 bpp.
"""

from configs.default import make_config
from tcm_jax.errors import ConfigError
from tcm_jax.model.config import ModelConfig

MODEL = ModelConfig(
    widths=(24, 64, 72),
    depths=(0, 1, 2),
    head_dims=(12, 16, 18),
    hyper_width=32,
    hyper_depth=1,
    hyper_head_dim=16,
    latent_channels=240,
    hyper_channels=48,
    num_slices=3,
    atten_width=32,
    atten_head_dim=16,
    context_widths=(32, 24),
    levels=6,
    skip="shuffled",
)


def get_config(stage: str = "all"):
    """Stage "entropy" trains the entropy model of a KLT, "all" everything."""
    if stage not in ("all", "entropy"):
        raise ConfigError(f"{stage!r} is neither all nor entropy, the two kinds of run of this network")
    config = make_config("tcm_tiny", MODEL)
    config.level_lams = (0.0009, 0.0021, 0.005, 0.0118, 0.0277, 0.065)
    config.schedule = "cosine"
    config.log_every = 20
    config.checkpoint_every = 500
    config.initialization = "klt"
    config.entropy_only = stage == "entropy"
    config.balance_levels = not config.entropy_only
    if config.entropy_only:
        config.data.crop, config.data.batch_size = 256, 4
        config.steps, config.warmup_steps, config.learning_rate = 1_000, 100, 2e-3
    else:
        config.data.crop, config.data.batch_size = 128, 8
        config.steps, config.warmup_steps, config.learning_rate = 12_000, 200, 5e-4
    return config
