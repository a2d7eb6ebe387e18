"""What every configuration starts from: the paper's recipe for the small model (Sec. 4.1).

The paper trains 50 epochs of 300,000 images in batches of 8, with the learning rate x0.1 at epochs 45 and 48.
"""

import dataclasses

from ml_collections import ConfigDict

from tcm_jax.model_config import ModelConfig, reference_config

EPOCH = 300_000 // 8  # steps of one epoch of the paper


def make_config(name: str, model: ModelConfig) -> ConfigDict:
    """The paper's recipe for the network `model`."""
    config = ConfigDict()
    config.name = name  # what the exported weights are called
    config.seed = 0  # of the initial weights, the noise, and the order and crops of the pictures
    config.model = ConfigDict(dataclasses.asdict(model))  # every size of the network: see ModelConfig

    config.distortion = "mse"  # or "ms_ssim"
    config.lam = 0.0067  # weight of the distortion; the paper's for MSE: 0.0025 0.0035 0.0067 0.013 0.025 0.05

    config.data = ConfigDict()
    config.data.source = ""  # folder:PATH (images, also inside .tar files) or tfds:NAME
    config.data.batch_size = 8  # pictures a step, over all devices
    config.data.crop = 256  # side of a random crop in pixels, a multiple of 128
    config.data.workers = 0  # reader processes; 0 reads in threads of the training process

    config.steps = 50 * EPOCH
    config.learning_rate = 1e-4  # Adam, at its peak
    config.aux_learning_rate = 1e-3  # Adam for the quantiles of the factorized prior
    config.schedule = "multistep"  # x0.1 at each milestone; or "cosine"
    config.milestones = (45 * EPOCH, 48 * EPOCH)  # steps
    config.warmup_steps = 0
    config.clip_norm = 1.0  # largest global norm of the gradients
    config.ema_decay = 0.999  # of the averaged parameters, which are what is exported
    config.init_from = ""  # a .safetensors file whose parameters to start from

    config.log_every = 100  # steps
    config.checkpoint_every = 5_000  # steps
    config.keep_checkpoints = 3
    return config.lock()


def get_config() -> ConfigDict:
    """Small model, lambda 0.0067."""
    return make_config("tcm_small", reference_config(64))
