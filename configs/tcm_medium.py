"""TCM medium (N = 96, C = 192) with the paper's recipe.

Command: python train.py --config configs/tcm_medium.py:mse-3 \\
    --config.data.source=folder:PATH --workdir runs/tcm_medium
Hardware and hours: not trained here; the paper used 300,000 pictures and 50 epochs on a GPU.
Should reach on Kodak at lambda 0.0067 (the authors' RD_data.md): 32.38 dB at 0.295 bpp.
"""

from configs.default import make_config
from tcm_jax.model.config import reference_config


def get_config(rate: str = "mse-3"):
    """The paper's recipe at a rate of configs/default.py: mse-1 .. mse-6, ms_ssim-1 .. ms_ssim-6."""
    return make_config("tcm_medium", reference_config(96), rate)
