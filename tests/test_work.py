"""FLOPs of training, against which its speed is stated."""

from types import SimpleNamespace

import jax
import pytest

from configs import smoke
from tcm_jax.training import flops


def test_flops_of_training_grow_with_the_pixels():
    config = smoke.get_config()
    small = flops.training_flops(config)
    config.data.crop = 256
    assert flops.training_flops(config) == pytest.approx(4 * small, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA L40S", 181e12),
        ("TPU v5 lite", 197e12),
        ("cpu", None),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v5e", 197e12),
        ("TPU v6e", 918e12),
        ("TPU v6 lite", 918e12),
    ],
)
def test_peaks_by_device(monkeypatch, kind, peak):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(device_kind=kind)])
    assert flops.peak_flops() == peak
