"""TCM small (N = 64, C = 128) with the paper's recipe.

Command: python train.py --config configs/tcm_small.py:mse-3 \\
    --config.data.source=folder:PATH --workdir runs/tcm_small
Hardware and hours: not trained here; the paper used 300,000 pictures and 50 epochs on a GPU.
Should reach on Kodak at lambda 0.0067 (the authors' RD_data.md): 32.42 dB at 0.306 bpp.
"""

from configs.default import make_config
from tcm_jax.model.config import reference_config


def get_config(rate: str = "mse-3"):
    """The paper's recipe at a rate of configs/default.py: mse-1 .. mse-6, ms_ssim-1 .. ms_ssim-6."""
    return make_config("tcm_small", reference_config(64), rate)
