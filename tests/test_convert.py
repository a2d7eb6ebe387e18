"""Checkpoints of the PyTorch reference: every form they come in gives the same parameters, every defect one error."""

import functools
import hashlib
import os
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tcm_jax.errors import MissingExtraError, WeightsError
from tcm_jax.model import tcm
from tcm_jax.model.config import ModelConfig, reference_config
from tcm_jax.weights import pytorch

torch = pytest.importorskip("torch")

CONFIG = ModelConfig(
    widths=(16, 24, 16),
    depths=(1, 1, 1),
    head_dims=(4, 4, 8),
    hyper_width=8,
    hyper_depth=1,
    hyper_head_dim=4,
    latent_channels=10,
    hyper_channels=6,
    num_slices=2,
    atten_width=8,
    atten_head_dim=4,
    context_widths=(7, 5),
)
# SHA-256 of the sorted lines "name shape" of the reference's parameters.
REFERENCE_NAMES = {
    64: "3779422e32dd591f3bb87799e4c820cfd3c5640c0bd16f8ab1e6434a6183fd4f",
    96: "4c01dfe834b659743eab8a23fd95eba0984fa4cb6379ac4aff7bd5ac5bc6df68",
    128: "4f0794e947495ca5b0b1f01c47fb5b699561004916c17a849fa566f081116682",
}


def shapes_in_reference(config):
    flat = flatten_dict(tcm.parameter_shapes(config)).items()
    return {pytorch.reference_name(path): pytorch.reference_shape(path, leaf.shape) for path, leaf in flat}


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    """Tracing a model for its shapes takes over a second; do it once a configuration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tcm, "parameter_shapes", functools.cache(tcm.parameter_shapes))
        yield


@pytest.fixture(scope="module")
def state(traced_once):
    """A reference state dict of CONFIG, values all different."""
    rng = np.random.default_rng(0)
    return {n: rng.standard_normal(s, np.float32) for n, s in shapes_in_reference(CONFIG).items()}


def save(state, path, *, old=False, prefix="", nested=False, buffers=None, **options):
    """Write `state` as the reference's training script would; `buffers` is the length of the coder's buffers."""
    tensors = {}
    for name, value in state.items():
        for new, former in {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}.items() if old else ():
            name = name.replace(f"entropy_bottleneck.{new}.", f"entropy_bottleneck.{former}")
        tensors[prefix + name] = torch.from_numpy(value)
    if buffers is not None:
        for owner in ("entropy_bottleneck", "gaussian_conditional"):
            for name in ("_offset", "_quantized_cdf", "_cdf_length"):
                tensors[f"{prefix}{owner}.{name}"] = torch.ones(buffers, dtype=torch.int32)
            tensors[f"{prefix}{owner}.likelihood_lower_bound.bound"] = torch.ones(1)
        for name in ("scale_table", "scale_bound", "lower_bound_scale.bound"):
            tensors[f"{prefix}gaussian_conditional.{name}"] = torch.ones(buffers)
        tensors[f"{prefix}entropy_bottleneck.target"] = torch.ones(3)
        for name in ("pedestal", "lower_bound.bound"):
            tensors[f"{prefix}g_a.0.gdn.beta_reparam.{name}"] = torch.ones(1)
    torch.save({"epoch": 1, "loss": torch.tensor(2.0), "state_dict": tensors} if nested else tensors, path, **options)
    return path


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"old": True},
        {"prefix": "module."},
        {"nested": True, "buffers": 0},
        {"old": True, "prefix": "module.", "nested": True, "buffers": 4},
        {"nested": True, "_use_new_zipfile_serialization": False},
    ],
    ids=str,
)
def test_every_form_of_a_checkpoint_reads_the_same(form, state, tmp_path):
    read = pytorch.read_reference(save(state, tmp_path / "model.pth.tar", **form))
    assert read.keys() == state.keys()
    for name, value in read.items():
        np.testing.assert_array_equal(value, state[name])
        assert value.dtype == np.float32


def test_optimizer_and_scheduler_states_do_not_disturb(state, tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [45, 48], gamma=0.1)
    checkpoint = {"optimizer": optimizer.state_dict(), "lr_scheduler": scheduler.state_dict()}
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    torch.save({"state_dict": tensors, **checkpoint}, tmp_path / "model.pth.tar")
    assert pytorch.read_reference(tmp_path / "model.pth.tar").keys() == state.keys()


def test_flax_parameters_fit_the_model_and_come_back(state):
    params = pytorch.to_flax(state, CONFIG)
    jax.tree.map(lambda value, want: np.testing.assert_equal(value.shape, want.shape), params,
                 tcm.parameter_shapes(CONFIG))  # fmt: skip
    back = pytorch.from_flax(params)
    assert back.keys() == state.keys()
    for name, value in back.items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize(
    ("flax_path", "name", "axes"),
    [
        ("g_a/layers_0/conv1/kernel", "g_a.0.conv1.weight", (2, 3, 1, 0)),
        ("g_a/layers_0/gdn/gamma", "g_a.0.gdn.gamma", (0, 1)),
        ("g_a/layers_1/trans_block/ln1/scale", "g_a.1.trans_block.ln1.weight", (0,)),
        ("g_a/layers_1/trans_block/mlp/layers_2/kernel", "g_a.1.trans_block.mlp.2.weight", (1, 0)),
        ("g_s/layers_0/subpel_conv/layers_0/kernel", "g_s.0.subpel_conv.0.weight", (2, 3, 1, 0)),
        ("atten_mean_1/non_local_block/block_2/msa/linear/kernel",
         "atten_mean.1.0.non_local_block.block_2.msa.linear.weight", (1, 0)),
        ("atten_scale_0/conv_b/layers_1/conv/layers_2/bias", "atten_scale.0.0.conv_b.1.conv.2.bias", (0,)),
        ("cc_scale_transforms_1/layers_4/kernel", "cc_scale_transforms.1.4.weight", (2, 3, 1, 0)),
        ("lrp_transforms_0/layers_0/bias", "lrp_transforms.0.0.bias", (0,)),
        ("entropy_bottleneck/matrices_3", "entropy_bottleneck.matrices.3", (0, 1, 2)),
        ("entropy_bottleneck/quantiles", "entropy_bottleneck.quantiles", (0, 1, 2)),
    ],
)  # fmt: skip
def test_names_and_layouts(flax_path, name, axes, state):
    value = flatten_dict(pytorch.to_flax(state, CONFIG), sep="/")[flax_path]
    np.testing.assert_array_equal(value, state[name].transpose(axes))


def test_a_1x1_convolution_becomes_a_matrix(state):
    kernel = pytorch.to_flax(state, CONFIG)["g_a"]["layers_1"]["conv1_1"]["kernel"]
    np.testing.assert_array_equal(kernel, state["g_a.1.conv1_1.weight"][:, :, 0, 0].T)


@pytest.mark.parametrize("n", [64, *(pytest.param(n, marks=pytest.mark.slow) for n in (96, 128))])
def test_names_and_shapes_are_the_reference_s(n):
    lines = [f"{name} {shape}" for name, shape in sorted(shapes_in_reference(reference_config(n)).items())]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == REFERENCE_NAMES[n]


def test_convert_infers_n(tmp_path):
    shapes = shapes_in_reference(reference_config(32))
    # One stored number a parameter, repeated by a stride of 0: a whole checkpoint in a small file.
    tensors = {name: torch.full((1,), float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items())}
    torch.save({"state_dict": tensors}, tmp_path / "model.pth.tar")
    config, params = pytorch.convert(tmp_path / "model.pth.tar")
    assert config == reference_config(32)
    assert [float(value.flat[0]) for value in flatten_dict(params).values()] == list(range(len(shapes)))


def test_all_differences_are_reported_at_once(state):
    changed = dict(state)
    del changed["g_a.0.skip.bias"], changed["h_a.0.conv2.weight"]
    changed |= {"g_a.99.bias": np.zeros(3), "g_s.0.conv.bias": np.zeros(5)}
    with pytest.raises(WeightsError) as caught:
        pytorch.to_flax(changed, CONFIG)
    for part in (
        "2 missing in the checkpoint: g_a.0.skip.bias (16,), h_a.0.conv2.weight (8, 8, 3, 3);",
        "1 in the checkpoint but not in the model: g_a.99.bias (3,);",
        "1 of another shape than the model's: g_s.0.conv.bias (5,) for (16,)",
    ):
        assert part in str(caught.value)


def test_a_checkpoint_of_another_network(tmp_path):
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match=r"resnet\.pth: no TCM checkpoint.*fc\.weight"):
        pytorch.convert(tmp_path / "resnet.pth")


def test_an_impossible_n():
    with pytest.raises(WeightsError, match="N = 50 is impossible"):
        pytorch.infer_config({"g_a.0.conv1.bias": np.zeros(100)})


def test_a_name_in_both_schemes(tmp_path):
    tensors = {"entropy_bottleneck._matrix0": torch.ones(1), "entropy_bottleneck.matrices.0": torch.ones(1)}
    torch.save(tensors, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match="twice"):
        pytorch.read_reference(tmp_path / "model.pth")


class Forbidden:
    """Runs a command when unpickled without `weights_only`."""

    def __reduce__(self):
        return os.system, ("echo not to be seen",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": Forbidden()}, r"holds a Python object \(\w+\.system\)"),
        (torch.nn.Linear(1, 1), r"holds a Python object \(torch\.nn"),
        ([torch.ones(1)], "holds no state dict$"),
        ({"state_dict": {}}, "holds no state dict$"),
        ({"epoch": 3}, "'epoch' is no tensor"),
    ],
)
def test_pytorch_files_that_are_no_checkpoint(content, message, tmp_path):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=message):
        pytorch.read_reference(tmp_path / "model.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files(zipped, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match="damaged or no PyTorch checkpoint"):
            pytorch.read_reference(path)


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "model.pth"
    for content in (b"\x89PNG\r\n\x1a\n" + bytes(100), b"some words, and more words", b"PK\x03\x04" + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="damaged or no PyTorch checkpoint"):
            pytorch.read_reference(path)
    for missing in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match="cannot be read"):
            pytorch.read_reference(missing)


def test_without_pytorch_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r'pip install "tcm_jax\[torch\]"'):
        pytorch.read_reference(tmp_path / "model.pth")
