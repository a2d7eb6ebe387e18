"""Bytes with Gaussian tables for the middle of their scales, for the upper end, and with the model's own; prints JSON.

The embedded model's own tables are fitted to symbols. A variable-rate model codes at quality 50.

python benchmarks/table_scales.py DIR
"""

import argparse
import dataclasses
import json
from unittest import mock

import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.entropy import tables
from tcm_jax.images.datasets import open_dataset
from tcm_jax.system.process import tune_process
from tcm_jax.weights.files import load_weights


def main() -> None:
    """Compresses all pictures with both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder, kodak or samples")
    source = open_dataset(parser.parse_args().data)
    tune_process()
    weights = load_weights()
    middle = tables.build_tables(weights.params["entropy_bottleneck"])
    with mock.patch.object(tables, "gaussian_scales", lambda: tables.scale_table().astype(np.float64)):
        upper = tables.build_tables(weights.params["entropy_bottleneck"])
    choices = {"middle": middle, "upper_end": upper, "own": weights.tables}
    codecs = {name: Codec(dataclasses.replace(weights, tables=choice)) for name, choice in choices.items()}
    total = {name: sum(len(codec.compress(source[i])) for i in range(len(source))) for name, codec in codecs.items()}
    saved = {"middle": 1 - total["middle"] / total["upper_end"], "own": 1 - total["own"] / total["middle"]}
    print(json.dumps(total | {"saved": saved}))


if __name__ == "__main__":
    main()
