"""TCM tiny for the eye, the embedded default: the network of tcm_tiny_psnr.py trained for a mixture with SSIMULACRA 2.

Command: `python train.py --config configs/tcm_tiny_visual.py --config.data.source=folder:PICTURES --workdir
runs/visual`; docs/models/visual/README.md says which pictures, and where `init_from` is.
Hardware and hours: two CPU cores with AVX-512, 97 minutes after the two models that it begins between.
Should reach on Kodak at quality 40 (that page): SSIMULACRA 2 of 64.9 at 0.4896 bpp.
"""

from configs import tcm_tiny_psnr


def get_config():
    """From weights between an earlier model for the eye and the one for PSNR."""
    config = tcm_tiny_psnr.get_config()
    config.name = "tcm_tiny_visual"
    config.init_from = "between.safetensors"
    config.seed = 23
    config.distortion = "visual"
    config.steps, config.fall_steps = 3_000, 1_300
    return config
