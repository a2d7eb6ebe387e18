"""TCM tiny for the eye, the embedded default: the network of tcm_tiny2.py trained for a mixture with SSIMULACRA 2.

Command: `python train.py --config configs/tcm_tiny_visual.py --config.data.source=folder:PICTURES --workdir
runs/visual`; docs/models/visual/README.md says which pictures.
Hardware and hours: two CPU cores with AVX-512, two hours after the twenty-one of tcm_tiny
(docs/models/visual/README.md).
Should reach on Kodak at quality 40 (that page): SSIMULACRA 2 of 64.7 at 0.4397 bpp.
"""

from configs import tcm_tiny2


def get_config():
    """From the weights that were trained for the squared error: a flat learning rate, then a fall to 0."""
    config = tcm_tiny2.get_config()
    config.name = "tcm_tiny_visual"
    config.seed = 21
    config.distortion = "visual"
    config.data.crop, config.data.batch_size = 256, 8
    config.steps, config.fall_steps, config.warmup_steps = 3_800, 1_500, 100
    config.learning_rate, config.ema_decay = 1.25e-3, 0.999
    return config
