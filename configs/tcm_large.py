"""TCM large (N = 128, C = 256) with the paper's recipe.

Command: python train.py --config configs/tcm_large.py:mse-3 \\
    --config.data.source=folder:PATH --workdir runs/tcm_large
Hardware and hours: not trained here; the paper used 300,000 pictures and 50 epochs on a GPU.
Should reach on Kodak at lambda 0.0067 (the authors' RD_data.md): 32.59 dB at 0.300 bpp.
"""

from configs.default import make_config
from tcm_jax.model.config import reference_config


def get_config(rate: str = "mse-3"):
    """The paper's recipe at a rate of configs/default.py: mse-1 .. mse-6, ms_ssim-1 .. ms_ssim-6."""
    return make_config("tcm_large", reference_config(128), rate)
