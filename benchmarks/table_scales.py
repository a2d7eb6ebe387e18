"""Bytes with Gaussian tables for the middle of their scales against tables for the upper end; prints JSON.

python benchmarks/table_scales.py DIR
"""

import argparse
import dataclasses
import json
from unittest import mock

import numpy as np

from tcm_jax.checkpoint import load_weights
from tcm_jax.codec import Codec
from tcm_jax.entropy import tables
from tcm_jax.evaluation.testsets import open_dataset
from tcm_jax.programs import keep_compiled_programs


def main() -> None:
    """Compresses all pictures with both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder, kodak or samples")
    source = open_dataset(parser.parse_args().data)
    keep_compiled_programs()
    weights = load_weights()
    with mock.patch.object(tables, "gaussian_scales", lambda: tables.scale_table().astype(np.float64)):
        upper = tables.build_tables(weights.params["entropy_bottleneck"])
    codecs = [Codec(w) for w in (weights, dataclasses.replace(weights, tables=upper))]
    middle, end = (sum(len(codec.compress(source[i])) for i in range(len(source))) for codec in codecs)
    print(json.dumps({"middle": middle, "upper_end": end, "saved": 1 - middle / end}))


if __name__ == "__main__":
    main()
