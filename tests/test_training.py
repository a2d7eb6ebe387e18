"""A training run: it stops, goes on, goes back, and refuses what cannot be trained."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import photograph
from PIL import Image

from configs import default, smoke
from tcm_jax.errors import ConfigError, DataError, Preempted, StreamError, TcmError, TrainingError, WeightsError
from tcm_jax.images.datasets import open_dataset
from tcm_jax.model.initialization import init_params
from tcm_jax.training import checkpoints, loop, start, step
from tcm_jax.training.check import check
from tcm_jax.training.config import model_config
from tcm_jax.training.dry_run import contact_sheet, dry_run
from tcm_jax.training.export import export
from tcm_jax.training.log import RunLog
from tcm_jax.training.validation import check_pictures
from tcm_jax.training.vectors import to_params, to_vectors
from tcm_jax.training.workdir import hold_workdir
from tcm_jax.weights import files

ROOT = Path(__file__).parent.parent
COMPILED = {}
WITHOUT_EFFECT = ("steps", "log_every", "checkpoint_every", "keep_checkpoints", "init_from", "profile", "validation")


@pytest.fixture(autouse=True)
def compile_once(monkeypatch):
    """The step is the same program in all of these tests: it compiles once."""
    compile_step = loop.compile_step

    def compiled(config, *shardings):
        fields = {k: v for k, v in json.loads(config.to_json_best_effort()).items() if k not in WITHOUT_EFFECT}
        fields["data"] = {"crop": config.data.crop, "batch_size": config.data.batch_size}
        key = json.dumps(fields)
        if key not in COMPILED:
            COMPILED[key] = compile_step(config, *shardings)
        return COMPILED[key]

    monkeypatch.setattr(loop, "compile_step", compiled)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(3):
        Image.fromarray(photograph(140, 150, i)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def config(pictures):
    config = default.make_config("test", smoke.MODEL)
    config.data.source = f"folder:{pictures}"
    config.data.crop = 128
    config.data.batch_size = 2
    config.optimizer = "soap"  # whose state is the larger
    config.steps = 6
    config.log_every = 1
    config.checkpoint_every = 2
    return config


@pytest.fixture
def whole(config, tmp_path_factory):
    """Folder of a run of six steps that nothing interrupted."""
    if "whole" not in COMPILED:
        COMPILED["whole"] = tmp_path_factory.mktemp("whole")
        loop.train(config, COMPILED["whole"])
    return COMPILED["whole"]


def lines(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def weights_of(folder):
    return files.load_weights(folder / "weights.safetensors")


@pytest.mark.slow
def test_a_run_that_goes_on_equals_the_uninterrupted_one(config, tmp_path, whole):
    weights, rows = weights_of(whole), lines(whole)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "bpp", "mse", "psnr", "step_seconds", "images_per_second", "data_wait"} <= set(rows[0])
    assert rows[0]["loss"] == pytest.approx(config.lam * 255**2 * rows[0]["mse"] + rows[0]["bpp"], rel=1e-4)
    assert rows[-1]["loss"] != rows[0]["loss"]
    config_of_run = json.loads((whole / "config.json").read_text())
    assert config_of_run["model"]["num_slices"] == smoke.MODEL.num_slices
    assert config_of_run["lam"] == config.lam
    start = init_params(model_config(config), config.seed)
    assert not np.array_equal(weights.params["g_a"]["layers_4"]["kernel"], start["g_a"]["layers_4"]["kernel"])

    config.steps = 3
    loop.train(config, tmp_path / "parts")
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 1}\n{"step": 4, "lo')  # as if killed in the middle of a line
    config.steps = 6
    loop.train(config, tmp_path / "parts")
    assert weights_of(tmp_path / "parts").identity == weights.identity
    losses = [[row["loss"] for row in lines(folder)] for folder in (whole, tmp_path / "parts")]
    assert losses[0] == losses[1]
    assert (tmp_path / "parts" / "curves.png").stat().st_size > 10_000

    ema, steps = checkpoints.load_run(tmp_path / "parts")
    assert steps == 6
    params = to_params(ema, weights.config)
    assert files.make_weights(weights.config, params, {}).identity == weights.identity
    check_export(config, tmp_path / "parts", weights)
    check_fine_tuning(config, tmp_path / "parts" / "weights.safetensors", weights)


def check_export(config, workdir, whole):
    path = export(config, workdir, workdir / "half.safetensors", "newest", "float16")
    weights = files.load_weights(path)
    assert weights.metadata["steps"] == "6"
    assert weights.metadata["lambda"] == "0.0067"
    assert path.stat().st_size < 0.75 * (workdir / "weights.safetensors").stat().st_size
    np.testing.assert_allclose(
        weights.params["g_a"]["layers_4"]["kernel"], whole.params["g_a"]["layers_4"]["kernel"], rtol=1e-3
    )
    fitted = files.load_weights(
        export(config, workdir, workdir / "fitted.safetensors", "newest", "float16", fit_tables=2)
    )
    assert fitted.metadata["tables"] == f"fitted to {2 * config.data.batch_size} training pictures"
    jax.tree.map(np.testing.assert_array_equal, fitted.params, weights.params)
    assert not np.array_equal(fitted.tables.lookup, weights.tables.lookup)
    assert export(config, workdir, workdir / "4.safetensors", "4", "float32").exists()
    with pytest.raises(WeightsError, match="holds no checkpoint 5, only 3, 4, 6"):
        export(config, workdir, workdir / "5.safetensors", "5", "float32")
    with pytest.raises(ConfigError, match="neither newest, best nor a step"):
        export(config, workdir, workdir / "5.safetensors", "last", "float32")


def check_fine_tuning(config, path, whole):
    config.init_from = str(path)
    state = start.first_state(config)
    params = state.params
    np.testing.assert_array_equal(params["g_a"]["layers_4"]["bias"], whole.params["g_a"]["layers_4"]["bias"])
    assert int(state.step) == 0
    config.model.levels, config.level_lams = 3, (config.lam / 4, config.lam, config.lam * 16)
    variable = start.first_state(config).params
    expected = {"gain_y": [0.5, 1, 4], "inverse_gain_y": [2, 1, 0.25], "gain_z": [1] * 3, "inverse_gain_z": [1] * 3}
    for name, gains in expected.items():
        for channel in np.exp(variable[name]["log_gain"]).T:
            np.testing.assert_allclose(channel, gains, rtol=1e-6)
    config.model.atten_width = 16
    with pytest.raises(ConfigError, match="holds a network with atten_width 8 for 16; give"):
        start.first_state(config)
    config.model.levels, config.model.context_widths = 0, (8, 4)
    with pytest.raises(ConfigError, match=r"with atten_width 8 for 16, context_widths \(8, 8\) for \(8, 4\); give"):
        start.first_state(config)


@pytest.mark.slow
def test_sigterm_saves_and_the_run_goes_on(config, tmp_path, monkeypatch, whole):
    config.checkpoint_every = 100
    original, calls = loop.global_batch, []

    def batch_and_signal(*args):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    monkeypatch.setattr(loop, "global_batch", batch_and_signal)
    with pytest.raises(Preempted, match="stopped by SIGTERM at step 3, which is saved"):
        loop.train(config, tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    loop.train(config, tmp_path / "run")
    assert len(calls) == 6
    assert weights_of(tmp_path / "run").identity == weights_of(whole).identity


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_only_its_steps(config, tmp_path, caplog, whole):
    config.steps = 4
    loop.train(config, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints" / "4" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    config.steps = 6
    with caplog.at_level(logging.WARNING, logger="tcm_jax"):
        loop.train(config, tmp_path / "run")
    assert any("going on from checkpoint 2" in record.getMessage() for record in caplog.records)
    assert weights_of(tmp_path / "run").identity == weights_of(whole).identity


def fake_step(monkeypatch, bad):
    """A step that counts up, whose result is not finite for the calls whose numbers are in `bad`."""
    calls = []

    def run(state, batch):
        calls.append(int(batch[0, 0, 0, 0]))
        is_bad, went_back = len(calls) in bad, int(state.step) != run.next
        run.bad = (0 if went_back else run.bad) + 1 if is_bad else 0
        run.next = int(state.step) + 1
        loss = np.nan if is_bad else 1.0
        metrics = {"loss": loss, "bpp": loss, "mse": loss, "psnr": loss, "bad_steps": run.bad, "skipped": int(is_bad)}
        return state.replace(step=state.step + 1), {key: jnp.float32(value) for key, value in metrics.items()}

    run.bad = run.next = 0
    zero = jnp.zeros((), jnp.int32)
    params = init_params(smoke.MODEL, 0)
    state = step.TrainState(zero, params, to_vectors(params), (), zero)
    monkeypatch.setattr(loop, "compile_step", lambda *args: run)
    monkeypatch.setattr(loop, "first_state", lambda config: state)
    monkeypatch.setattr(loop, "abstract_state", lambda config: jax.eval_shape(lambda: state))
    monkeypatch.setattr(files, "export", lambda path, *args: path)
    return calls


def test_a_run_goes_back_after_too_many_bad_steps(config, tmp_path, monkeypatch, caplog):
    config.max_bad_steps = 3
    calls = fake_step(monkeypatch, bad={2, 4, 5, 6})
    with caplog.at_level(logging.WARNING, logger="tcm_jax"):
        loop.train(config, tmp_path / "run")
    # Step 2 was bad and so not saved; steps 4 to 6 made three in a row: back to the start, on to other pictures.
    assert "steps 4 to 6 were not finite; going back to step 0" in caplog.text
    assert len(calls) >= 6 + 6
    rows = lines(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["loss"] == 1 for row in rows)


def test_a_run_that_does_not_get_on_ends(config, tmp_path, monkeypatch):
    config.max_bad_steps = 2
    fake_step(monkeypatch, bad=range(3, 100))
    with pytest.raises(TrainingError, match="does not get past step 2: 2 steps in a row were not finite"):
        loop.train(config, tmp_path / "run")


@pytest.mark.filterwarnings("ignore:.*frames after the first:tcm_jax.errors.TcmWarning")
@pytest.mark.slow
def test_a_folder_of_horrors_trains(config, tmp_path, caplog):
    folder = tmp_path / "pictures"
    folder.mkdir()
    config.data.source = f"folder:{folder}"
    picture = photograph(200, 160, 9)
    Image.fromarray(picture).save(folder / "a.jpg")
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:3000])
    (folder / "text.png").write_text("no picture")
    Image.fromarray(picture[:1, :1]).save(folder / "pixel.png")
    Image.fromarray(picture[..., 0]).save(folder / "grey.png")
    Image.fromarray(picture[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    frames = [Image.fromarray(photograph(130, 130, i)) for i in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.INFO, logger="tcm_jax"):
        loop.train(config, tmp_path / "run")
    assert all(np.isfinite(row["loss"]) for row in lines(tmp_path / "run"))
    named = [r.getMessage() for r in caplog.records if r.getMessage().startswith("skipped")]
    assert {name for name in ("cut.jpg", "text.png") for m in named if name in m}
    assert not any(name in m for name in ("pixel.png", "grey.png", "deep.png", "a.jpg", "moving.gif") for m in named)
    assert f"unreadable pictures met: {len(named)} of 7" in caplog.text


@pytest.mark.slow
def test_validation_makes_files(config, tmp_path):
    folder = tmp_path / "validation"
    folder.mkdir()
    Image.fromarray(photograph(100, 120, 5)).save(folder / "a.png")
    config.validation.source, config.validation.every, config.validation.pictures = str(folder), 3, 1
    loop.train(config, tmp_path / "run")
    rows = lines(tmp_path / "run", "validation.jsonl")
    assert [row["step"] for row in rows] == [3, 6]
    for row in rows:
        assert row["bpp"] == pytest.approx(row["bpp_estimated"], abs=0.3)  # of a file of some 50 bytes
        assert row["loss"] == pytest.approx(config.lam * 255**2 * row["mse"] + row["bpp"], rel=1e-4)
    best = min(rows, key=lambda row: row["loss"])["step"]
    assert checkpoints.load_run(tmp_path / "run", "best")[1] == best
    board = next((tmp_path / "run" / "tensorboard").iterdir()).read_bytes()
    for tag in (b"train/loss", b"train/learning_rate", b"train/grad_norm", b"validation/bpp_estimated",
                b"validation/bpp", b"validation/0"):  # fmt: skip
        assert tag in board


def test_what_is_wrong_with_a_file_of_a_validation_is_said(config, tmp_path, monkeypatch):
    fake_step(monkeypatch, bad=())
    config.validation.source = config.data.source

    def validate(*args):
        raise StreamError("a.png: the decoded picture is not what the encoder reconstructs")

    monkeypatch.setattr(loop, "validate", validate)
    with pytest.raises(StreamError, match=r"^a\.png: the decoded picture is not"):
        loop.train(config, tmp_path / "run")


@pytest.mark.parametrize("distortion", ["ms_ssim", "visual"])
def test_validation_pictures_too_small_to_be_judged_are_refused_at_the_start(config, tmp_path, distortion, monkeypatch):
    folder = tmp_path / "validation"
    folder.mkdir()
    for name, side in (("a", 160), ("b", 100), ("c", 161)):
        Image.fromarray(photograph(170, side)).save(folder / f"{name}.png")
    config.distortion, config.data.crop = distortion, 256
    config.validation.source, config.validation.pictures = str(folder), 2
    monkeypatch.setattr(loop, "compile_step", None)
    with pytest.raises(ConfigError, match=f"none of the 2 .* has the 161 pixels a side that .* {distortion} needs"):
        loop.train(config, tmp_path / "run")
    pictures = open_dataset(str(folder))
    config.validation.pictures = 3
    check_pictures(pictures, config)
    config.distortion, config.validation.pictures = "mse", 2
    check_pictures(pictures, config)


def test_a_full_disk_is_one_sentence(tmp_path):
    """No file may grow over 10 kB; Python ignores the signal that comes with it."""
    command = f"ulimit -f 10; exec {sys.executable} tests/kill_run.py {tmp_path / 'run'}"
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_ENABLE_COMPILATION_CACHE": "0"}
    env["PYTHONDONTWRITEBYTECODE"] = "1"  # or Python would leave cut .pyc files, which no process can read
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"\nTcmError: cannot write to {tmp_path / 'run'}: " in "\n" + run.stderr


def test_logs_hold_seven_digits_of_small_numbers_too(config, tmp_path):
    values = {"loss": 1234.56789, "bpp": 0.5, "mse": 1.23456789e-6, "psnr": math.inf, "learning_rate": 3.45678912e-9}
    written = {"loss": 1234.568, "bpp": 0.5, "mse": 1.234568e-6, "psnr": None, "learning_rate": 3.456789e-9}
    with RunLog(tmp_path, 0, config) as run_log:
        run_log.add(1, values)
        run_log.write_validation(1, values | {"bpp_estimated": 0.5}, [])
    for name in ("metrics.jsonl", "validation.jsonl"):
        (row,) = lines(tmp_path, name)
        assert {key: row[key] for key in written} == written


def test_a_trace_is_written(config, tmp_path, monkeypatch):
    fake_step(monkeypatch, bad=())
    config.steps, config.checkpoint_every, config.profile = 16, 100, str(tmp_path / "trace")
    loop.train(config, tmp_path / "run")
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_dry_run(config, tmp_path):
    path, speed = dry_run(config, tmp_path / "run", batches=2)
    sheet = np.array(Image.open(path))
    assert sheet.shape == (128, 256, 3)
    assert speed > 0
    assert contact_sheet(np.zeros((3, 4, 6, 3), np.uint8)).shape == (8, 12, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.source": ""}, "--config.data.source"),
        ({"data.crop": 100}, "multiple of 128"),
        ({"distortion": "ms_ssim"}, "data.crop is 128; the distortion ms_ssim needs at least 161 pixels a side"),
        ({"distortion": "visual"}, "data.crop is 128; the distortion visual needs at least 161"),
        ({"precision": "float16"}, "precision 'float16' is none of float32, tf32, bfloat16"),
        ({"optimizer": "sgd"}, "optimizer 'sgd' is none of adam, soap"),
        ({"schedule": "linear"}, "schedule 'linear' is none of multistep, cosine, flat"),
        ({"schedule": "flat", "fall_steps": 4, "warmup_steps": 3}, "warmup_steps 3 and fall_steps 4 .* than steps, 6"),
        (
            {
                "entropy_only": True,
                "model.levels": 2,
                "level_lams": (0.1, 0.2),
                "model.detail_channels": 8,
                "model.detail_from": (0.5,),
            },
            "entropy_only trains no detail slices",
        ),
        ({"distortion": "mae"}, "mae"),
        ({"model.num_slices": 5}, "slices"),
        ({"log_every": 0}, "log_every is 0; it must be at least 1"),
        ({"steps": -1}, "steps is -1; it must be at least 1"),
        ({"steps": 0}, "steps is 0"),
        ({"warmup_steps": -1}, "warmup_steps is -1; it must be at least 0"),
        ({"fall_steps": 0}, "fall_steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"accumulate": 3}, "accumulate is 3; data.batch_size 2 must be a multiple"),
        ({"checkpoint_every": -5}, "checkpoint_every is -5"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0"),
        ({"max_bad_steps": 0}, "max_bad_steps is 0"),
        ({"data.batch_size": 0}, "data.batch_size is 0"),
        ({"data.batch_size": -8}, "data.batch_size is -8"),
        ({"data.crop": 0}, "data.crop is 0"),
        ({"data.workers": -1}, "data.workers is -1"),
        ({"validation.every": 0}, "validation.every is 0"),
        ({"validation.pictures": -1}, "validation.pictures is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be a number over 0"),
        ({"learning_rate": np.nan}, "learning_rate is nan"),
        ({"aux_learning_rate": -1e-3}, "aux_learning_rate is -0.001"),
        ({"lam": np.inf}, "lam is inf"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"milestones": (5, 3)}, "milestones are"),
        ({"milestones": (-5, 3)}, "milestones are"),
        ({"model.levels": 2, "level_lams": (0.1, -0.1)}, "level_lams are"),
        ({"level_lams": (0.1, 0.2)}, "level_lams has 2 lambdas for model.levels=0"),
    ],
)
def test_impossible_configurations_are_refused(config, change, message):
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        check(config)


def test_another_runs_folder_is_refused(config, tmp_path):
    workdir = tmp_path / "run"
    (workdir / "checkpoints" / "2").mkdir(parents=True)
    (workdir / "config.json").write_text(default.make_config("test", smoke.MODEL, "mse-1").to_json_best_effort())
    with pytest.raises(ConfigError, match="holds a run with another lam and another optimizer; give another --workdir"):
        loop.train(config, workdir)
    config.optimizer = "adam"
    (workdir / "config.json").write_text(config.to_json_best_effort())
    config.optimizer = "soap"
    with pytest.raises(ConfigError, match="run holds a run with another optimizer; give another --workdir"):
        loop.train(config, workdir)
    (workdir / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is damaged"):
        loop.train(config, workdir)
    (workdir / "checkpoints" / "2").rmdir()
    with hold_workdir(workdir, config):  # of a run that saved nothing, such as one with a wrong init_from
        assert json.loads((workdir / "config.json").read_text())["optimizer"] == "soap"
    config.data.source = "folder:/nowhere"
    with pytest.raises(DataError, match="/nowhere does not exist"):
        loop.train(config, tmp_path / "other")
    with pytest.raises(TcmError, match="cannot write to"):
        loop.train(config, Path("/proc/run"))


def test_an_export_by_another_configuration_is_refused(config, tmp_path):
    (tmp_path / "config.json").write_text(config.to_json_best_effort())
    config.lam, config.model.hyper_width = 0.1, 16
    with pytest.raises(ConfigError, match="holds a run with another model and another lam; give the --config of that"):
        export(config, tmp_path, tmp_path / "a.safetensors", "newest", "float32")


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks")
def test_a_folder_is_one_process(config, tmp_path):
    with (
        hold_workdir(tmp_path / "run", config),
        pytest.raises(TcmError, match=r"another process trains in .*run; wait for its end"),
    ):
        loop.train(config, tmp_path / "run")
