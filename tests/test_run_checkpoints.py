"""Checkpoints of a run: which are kept, and what happens to damaged ones."""

import gc
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from tcm_jax.errors import WeightsError
from tcm_jax.training.checkpoints import RunCheckpoints, checksum, load_run

# Orbax 0.12 leaves coroutines behind when a read fails; they complain when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SHARDING = jax.sharding.SingleDeviceSharding(jax.devices()[0])


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


@struct.dataclass
class State:
    step: jax.Array
    params: dict
    ema: dict


def state(step):
    values = np.random.default_rng(step).normal(size=(64, 64)).astype(np.float32)
    return State(jnp.asarray(step, jnp.int32), {"b": jnp.asarray(values), "a": jnp.ones(3)}, {"w": 2 * values})


def saved(folder, steps, keep=3, losses=None):
    with RunCheckpoints(folder / "checkpoints", keep) as checkpoints:
        for step in steps:
            checkpoints.save(state(step), 10 * step, (losses or {}).get(step))
        checkpoints.wait()
        return checkpoints.steps()


def restored(folder):
    with RunCheckpoints(folder / "checkpoints", keep=3) as checkpoints:
        return checkpoints.restore(jax.eval_shape(lambda: state(0)), SHARDING)


def test_nothing_saved(tmp_path):
    assert restored(tmp_path) is None
    with pytest.raises(WeightsError, match="holds no Orbax checkpoint"):
        load_run(tmp_path)


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    losses = {1: 5.0, 2: 3.0, 4: 9.0, 6: 4.0}
    assert saved(tmp_path, range(1, 8), keep=2, losses=losses) == [2, 6, 7]
    found, position = restored(tmp_path)
    assert position == 70
    jax.tree.map(np.testing.assert_array_equal, found, state(7))
    for wanted, step in ((None, 7), ("best", 2), (6, 6)):
        ema, number = load_run(tmp_path, wanted)
        assert number == step
        np.testing.assert_array_equal(ema["w"], state(step).ema["w"])
    with pytest.raises(WeightsError, match="holds no checkpoint 5, only 2, 6, 7"):
        load_run(tmp_path / "checkpoints", 5)


def test_reading_says_nothing(tmp_path, caplog):
    saved(tmp_path, (1,))
    caplog.clear()
    load_run(tmp_path)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_one_is_enough(tmp_path):
    assert saved(tmp_path, (1, 2, 3), keep=1) == [3]
    with pytest.raises(WeightsError, match="holds no validated checkpoint"):
        load_run(tmp_path, "best")


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_kept_ones_stay_until_the_next_is_complete(tmp_path, keep, monkeypatch):
    saved(tmp_path, (1, 2, 3), keep)
    with RunCheckpoints(tmp_path / "checkpoints", keep) as checkpoints:

        def killed(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(checkpoints._manager, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(state(4), 40)
        assert checkpoints.steps() == [1, 2, 3][-keep:]
    assert restored(tmp_path)[1] == 30
    assert saved(tmp_path, (4, 5), keep) == [2, 3, 4, 5][-keep:][-3:]


def test_a_step_is_saved_anew_after_going_back(tmp_path):
    saved(tmp_path, (1, 2))
    assert saved(tmp_path, (2,)) == [1, 2]


def damage(folder, how):
    """Cuts, alters or removes the largest file of a checkpoint; returns nothing."""
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if how == "cut":
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    elif how == "empty":
        largest.write_bytes(b"")
    elif how == "gone":
        largest.unlink()
    elif how == "altered":
        data = bytearray(largest.read_bytes())
        data[len(data) // 2] ^= 1
        largest.write_bytes(data)
    elif how == "no position":
        (folder / "extra" / "metadata").unlink()


@pytest.mark.parametrize("how", ["cut", "empty", "gone", "altered", "no position"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path, how, caplog):
    saved(tmp_path, (1, 2, 3))
    damage(tmp_path / "checkpoints" / "3", how)
    with pytest.raises(WeightsError, match=r"checkpoint 3 in .* cannot be read"):
        load_run(tmp_path)
    with caplog.at_level(logging.WARNING, logger="tcm_jax"):
        found, position = restored(tmp_path)
    assert position == 20
    jax.tree.map(np.testing.assert_array_equal, found, state(2))
    assert any("checkpoint 3 cannot be read" in r.getMessage() and "from checkpoint 2" in r.getMessage()
               for r in caplog.records)  # fmt: skip
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == ["3-0"]
    assert saved(tmp_path, (3,)) == [1, 2, 3]  # and the run goes on


def test_a_wrong_value_that_reads_well_is_noticed(tmp_path):
    saved(tmp_path, (1, 2))
    extra = tmp_path / "checkpoints" / "2" / "extra" / "metadata"
    content = json.loads(extra.read_text())
    extra.write_text(json.dumps(content | {"checksum": content["checksum"] + 1}))
    assert restored(tmp_path)[1] == 10


def test_nothing_is_moved_when_none_can_be_read(tmp_path):
    saved(tmp_path, (1, 2))
    for step in "12":
        damage(tmp_path / "checkpoints" / step, "cut")
    with pytest.raises(WeightsError, match=r"none of the 2 checkpoints .* can be read .*another --workdir"):
        restored(tmp_path)
    assert not (tmp_path / "damaged").exists()


def test_what_a_killed_process_left_is_ignored(tmp_path):
    saved(tmp_path, (1,))
    half = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp-7"
    half.mkdir()
    (half / "state").write_bytes(b"half")
    assert restored(tmp_path)[1] == 10
    assert saved(tmp_path, (2,)) == [1, 2]


def test_checksums_see_every_array():
    assert checksum(state(1)) == checksum({"other": state(1)})
    assert checksum(state(1)) != checksum(state(1).replace(ema={"w": 2 * np.ones((64, 64), np.float32)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.replace(params=s.params | {"c": jnp.ones(3)}), r"1 arrays differ, such as params/c\)"),
        (lambda s: s.replace(params={"b": s.params["b"]}), r"1 arrays differ, such as params/a\)"),
        (lambda s: s.replace(params=s.params | {"a": jnp.ones(4)}), r"1 arrays differ, such as params/a\)"),
        (lambda s: s.replace(ema={"main": s.ema["w"]}), r"2 arrays differ, such as ema/main\)"),
    ],
    ids=["more", "fewer", "of another shape", "renamed"],
)
def test_another_state_is_not_called_damaged(tmp_path, change, message):
    saved(tmp_path, (1, 2))
    with (
        RunCheckpoints(tmp_path / "checkpoints", keep=3) as checkpoints,
        pytest.raises(WeightsError, match=rf"checkpoint 2 in .* is of a run with another state \({message}") as raised,
    ):
        checkpoints.restore(jax.eval_shape(lambda: change(state(0))), SHARDING)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "damaged").exists()
    assert int(restored(tmp_path)[0].step) == 2
