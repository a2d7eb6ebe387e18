"""What every configuration starts from: the paper's recipe for the small model (Sec. 4.1).

The paper trains 50 epochs of 300,000 images in batches of 8, with the learning rate x0.1 at epochs 45 and 48.
"""

import dataclasses

from ml_collections import ConfigDict

from tcm_jax.errors import ConfigError
from tcm_jax.model.config import ModelConfig, reference_config

EPOCH = 300_000 // 8  # steps of one epoch of the paper

# Weight of the distortion by the name of the rate, low to high. The six for MSE are those of the reference's released
# weights. Its repository states none for MS-SSIM: those six have not been checked against the paper.
LAMBDAS = {f"mse-{i}": lam for i, lam in enumerate((0.0025, 0.0035, 0.0067, 0.013, 0.025, 0.05), 1)}
LAMBDAS |= {f"ms_ssim-{i}": float(lam) for i, lam in enumerate((3, 5, 8, 16, 36, 64), 1)}


def make_config(name: str, model: ModelConfig, rate: str = "mse-3") -> ConfigDict:
    """The paper's recipe for the network `model` at the rate that is named so in LAMBDAS."""
    if rate not in LAMBDAS:
        raise ConfigError(
            f"{rate!r} is no rate; give one of {', '.join(LAMBDAS)}, or its lambda as --config.lam=NUMBER"
        )
    config = ConfigDict()
    config.name = name  # what the exported weights are called
    config.seed = 0  # of the initial weights, the noise, and the order and crops of the pictures
    config.model = ConfigDict(dataclasses.asdict(model))  # every size of the network: see ModelConfig

    config.distortion = rate.partition("-")[0]  # "mse", "ms_ssim" or "visual" (losses.py)
    config.lam = LAMBDAS[rate]  # weight of the distortion
    config.level_lams = ()  # one for each gain level of a variable-rate network (model.levels), whose gains start as
    # ones for lam: the rate of the network in init_from, if that has one rate
    config.balance_levels = False  # a picture's loss counts by 1 / sqrt(its lambda): low rates as much as high ones
    config.entropy_only = False  # the transforms stay as they are, and the rate alone is trained: a network's first run
    config.precision = "float32"  # of g_a and g_s, on every device; "tf32" for their products alone (on a TPU three of
    # bfloat16), or "bfloat16"; all else is float32
    config.remat = False  # keep the inputs of blocks only and compute the rest anew for the gradients: less memory
    config.accumulate = 1  # parts of a batch, one after the other: less memory, the same step

    config.data = ConfigDict()
    config.data.source = ""  # a folder (its tar files are read too), a .tar file or tfds:NAME, as in evaluation
    config.data.batch_size = 8  # pictures a step, over all devices
    config.data.crop = 256  # side of a random crop in pixels, a multiple of 128
    config.data.workers = 0  # reader processes of each host; 0 reads in threads of the training process

    config.validation = ConfigDict()
    config.validation.source = ""  # pictures never trained on: a folder, samples, kodak or tfds:NAME; "" for none
    config.validation.every = 5_000  # steps; the run's best checkpoint is the one with the lowest validation loss
    config.validation.pictures = 8  # at most, the first of the source; they become real files

    config.steps = 50 * EPOCH
    config.optimizer = "adam"  # or "soap" (soap.py): fewer steps for as much, each of them slower
    config.learning_rate = 1e-4  # at its peak
    config.aux_learning_rate = 1e-3  # Adam for the quantiles of the factorized prior
    config.schedule = "multistep"  # x0.1 at each milestone; or "cosine", or "flat" with a fall at the end
    config.milestones = (45 * EPOCH, 48 * EPOCH)  # steps
    config.fall_steps = 1  # of the flat schedule, its last ones
    config.warmup_steps = 0
    config.clip_norm = 1.0  # largest global norm of the gradients
    config.ema_decay = 0.999  # of the averaged parameters, which are what is exported
    config.max_bad_steps = 10  # steps in a row without finite gradients, then back to the last checkpoint
    config.initialization = "random"  # or "klt": transforms that start as a linear one, of training pictures (klt.py)
    config.init_from = ""  # a .safetensors file whose parameters to start from, as one of another rate

    config.log_every = 100  # steps
    config.checkpoint_every = 5_000  # steps
    config.keep_checkpoints = 3  # the last ones; the best is kept besides
    config.profile = ""  # a folder for the profiler's trace of five steps (TensorBoard and Perfetto read it)
    return config.lock()


def get_config(rate: str = "mse-3") -> ConfigDict:
    """Small model."""
    return make_config("tcm_small", reference_config(64), rate)
