"""The arithmetic behind docs/scale.md, and that the page has what the script prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from benchmarks import scale, scale_compile  # noqa: E402

HLO = """
  %all-reduce.3 = (f32[2,128]{1,0:T(2,128)}, bf16[8]{0:T(256)(128)(2,1)}) all-reduce(%a, %b), channel_id=1
  %all-reduce-start = f32[]{:T(128)} all-reduce-start(%c), channel_id=2
  %all-reduce-done = f32[]{:T(128)} all-reduce-done(%all-reduce-start)
  %add = f32[4096]{0:T(1024)} add(%all-reduce-done, %d)
"""


def test_all_reduced_bytes_are_counted_once():
    assert scale_compile.all_reduce_bytes(HLO) == 2 * 128 * 4 + 8 * 2 + 4


def test_a_ring_sends_the_gradient_nearly_twice_over_the_links_that_it_crosses():
    network = scale.Work(parameters=10**8, bfloat16=1e12, float32=1e11)
    card = scale.DEVICES["cuda"]
    seconds = {count: scale.all_reduce_seconds(network, card, count) for count in scale.COUNTS}
    assert seconds[1] == 0
    assert seconds[8] == pytest.approx(2 * 7 / 8 * 4e8 / 450e9)
    assert seconds[256] == pytest.approx(2 * 255 / 256 * 4e8 / 400e9)


def test_a_step_takes_as_long_as_the_slower_of_products_and_traffic():
    network = scale.Work(parameters=1, bfloat16=197e12, float32=0)
    chip = scale.DEVICES["tpu"]
    assert scale.step_seconds(network, chip, 1e9) == pytest.approx(scale.A_DEVICE)
    assert scale.step_seconds(network, chip, 8.19e12) == pytest.approx(10)


@pytest.mark.slow
def test_the_page_has_what_the_script_prints():
    command, environment = [sys.executable, ROOT / "benchmarks" / "scale.py"], os.environ | {"PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert [row for row in rows if row.partition(",")[0] in ("| small", "| large") and row not in page] == []
