"""Weights between two files of one network: `python docs/models/visual/between.py EYE PSNR 0.25 OUT`.

Of models that were trained one from the other, those on the line between them are as good as a training for a mixture
of both aims begins with.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from tcm_jax.weights import files

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("first", help="a weight file; its metadata is kept")
parser.add_argument("second", help="one of the same network")
parser.add_argument("share", type=float, help="of the second, 0 to 1")
parser.add_argument("out", help="the file to write, float32")
flags = parser.parse_args()
first, second = files.load_weights(flags.first), files.load_weights(flags.second)
if first.config != second.config:
    parser.error("the two files are not of one network")
params = jax.tree.map(lambda a, b: np.float32(a + flags.share * (b - a)), first.params, second.params)
files.export(Path(flags.out), first.config, params, first.metadata)
