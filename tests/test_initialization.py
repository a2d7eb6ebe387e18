"""Parameters drawn by NumPy have the distributions of the network's own initializers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tcm_jax.model.initialization import init_params
from tcm_jax.model.tcm import TCM


@pytest.mark.slow
def test_distributions_are_those_of_the_modules(tiny_config):
    tiny_config = dataclasses.replace(tiny_config, depths=(0, 0, 1), hyper_depth=0, num_slices=1)  # quick to trace
    picture = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles in a third of threefry's time
    theirs = flatten_dict(TCM(tiny_config).lazy_init(key, picture)["params"], sep="/")
    ours = flatten_dict(init_params(tiny_config, 0), sep="/")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        want = np.asarray(theirs[name])
        assert value.shape == want.shape
        assert value.dtype == want.dtype == np.float32
        if want.std() == 0 or name.endswith(("gamma", "quantiles")):
            np.testing.assert_allclose(value, want, rtol=1e-6, err_msg=name)
        elif value.size >= 200:
            assert 0.8 < value.std() / want.std() < 1.25, name
            assert 0.8 < np.abs(value).max() / np.abs(want).max() < 1.25, name
            assert abs(value.mean()) < 0.3 * want.std(), name


def test_the_seed_and_the_name_decide(tiny_config):
    first, again, other = (flatten_dict(init_params(tiny_config, seed), sep="/") for seed in (0, 0, 1))
    name = "g_a/layers_6/kernel"
    np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first[name], other[name])
    a, b = (first[f"cc_{kind}_transforms_0/layers_0/kernel"] for kind in ("mean", "scale"))
    assert not np.array_equal(a, b)
