"""What TensorBoard is given, read back by TensorBoard's own reader."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from bnrepro.cli import main
from bnrepro.store import StoredRun
from bnrepro.training.tensorboard import HYPERPARAMETERS, TAGS, TensorBoardLogger

LAYERS = ("sigmoid1", "sigmoid2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    folder = tmp_path_factory.mktemp("tracking") / "run"
    short = ["dataset=digits", "train.steps=60", "train.log_every=10", "train.eval_every=20"]
    probe = ["probe.every=20", "probe.size=100", "model.hidden=[20,30]"]
    assert main(["train", *short, *probe, f"run.dir={folder}"]) == 0
    return StoredRun(folder)


@pytest.fixture(scope="module")
def events(run: StoredRun) -> EventAccumulator:
    assert len(list(run.folder.rglob("events.out.tfevents.*"))) == 1
    accumulator = EventAccumulator(
        str(run.folder), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0}
    )
    accumulator.Reload()
    return accumulator


@pytest.mark.parametrize("name", TAGS)
def test_scalars_are_the_metrics(run: StoredRun, events: EventAccumulator, name: str) -> None:
    steps, values = run.curve(name)
    points = events.Scalars(TAGS[name])
    assert [point.step for point in points] == steps.tolist()
    np.testing.assert_array_equal([p.value for p in points], values.astype(np.float32))


@pytest.mark.parametrize("layer", LAYERS)
def test_histograms_are_the_probes(run: StoredRun, events: EventAccumulator, layer: str) -> None:
    shown = events.Histograms(f"input/{layer}")
    assert [point.step for point in shown] == run.probe_steps() == [0, 20, 40, 60]
    for point in shown:
        arrays = run.probe(point.step)
        histogram = point.histogram_value
        # TensorBoard drops empty buckets at the ends; what is left must be ours.
        counts = dict(zip(histogram.bucket_limit, histogram.bucket, strict=True))
        assert sum(histogram.bucket) == histogram.num == 100 * len(arrays[f"{layer}/mean"])
        edges, expected = arrays[f"{layer}/edges"][1:], arrays[f"{layer}/counts"]
        for edge, count in zip(edges, expected, strict=True):
            near = [n for limit, n in counts.items() if np.isclose(limit, edge, rtol=1e-6)]
            assert sum(near) == count
        width = edges[1] - edges[0]
        mean = histogram.sum / histogram.num
        assert abs(mean - arrays[f"{layer}/mean"].mean()) < width / 2
        deviation = np.sqrt(histogram.sum_squares / histogram.num - mean**2)
        within, between = arrays[f"{layer}/std"], arrays[f"{layer}/mean"]
        assert abs(deviation - np.sqrt((within**2).mean() + between.var())) < width / 2
        limits = arrays[f"{layer}/edges"][[0, -1]]
        np.testing.assert_allclose([histogram.min, histogram.max], limits, rtol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_bands_follow_one_unit(run: StoredRun, events: EventAccumulator, layer: str) -> None:
    spread = run.probe(0)[f"{layer}/std"]
    unit = int(np.argsort(spread, kind="stable")[len(spread) // 2])
    _, percentiles = run.probed(f"{layer}/percentiles")
    for column, part in enumerate(("p15", "p50", "p85")):
        points = events.Scalars(f"unit/{layer}/{part}")
        np.testing.assert_array_equal([p.value for p in points], percentiles[:, unit, column])


def test_margin_charts_name_value_lower_and_upper(events: EventAccumulator) -> None:
    content = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    layout = layout_pb2.Layout.FromString(content)
    charts = {chart.title: chart for category in layout.category for chart in category.chart}
    for layer in LAYERS:
        [series] = charts[f"input of {layer}"].margin.series
        assert (series.value, series.lower, series.upper) == tuple(
            f"unit/{layer}/{part}" for part in ("p50", "p15", "p85")
        )
    tags = set(events.Tags()["scalars"])
    assert set(charts["accuracy"].multiline.tag) <= tags
    assert {s.value for c in charts.values() for s in c.margin.series} <= tags


def test_hyperparameters_are_in_the_same_file_with_the_same_names(events: EventAccumulator) -> None:
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert set(found) == set(HYPERPARAMETERS)
    assert found["norm.name"].string_value == "batch"
    assert found["optimizer.lr"].number_value == 0.07


def ended(events: EventAccumulator) -> int:
    content = events.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    return HParamsPluginData.FromString(content).session_end_info.status


def test_the_hparams_tab_has_the_last_accuracies_and_the_state(events: EventAccumulator) -> None:
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = {m.name.tag for m in HParamsPluginData.FromString(content).experiment.metric_infos}
    assert metrics == {"summary/test_accuracy", "summary/validation_accuracy"}
    assert metrics <= set(events.Tags()["scalars"])
    assert ended(events) == api_pb2.STATUS_SUCCESS


SHOWN = (*TINY, "train.checkpoint_every=10", "probe.every=10", "probe.size=50", "tensorboard=true")


def test_a_file_that_cannot_be_written_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Full(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path: str, *mode: object, **options: object) -> io.FileIO:
        return Full(path, "ab")

    monkeypatch.setattr("bnrepro.training.tensorboard.open", opened, raising=False)
    assert main(["train", *SHOWN, f"run.dir={tmp_path}"]) == 0
    out, errors = capfd.readouterr()
    assert out.count("TensorBoard gets nothing more, training continues") == 1
    assert "Exception in thread" not in errors
    assert StoredRun(tmp_path).status()["state"] == "done"


@pytest.mark.parametrize("part", ["__init__", "record", "bands"])
def test_a_failing_view_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    def fail(*arguments: object) -> None:
        assert part != "bands" or (tmp_path / "summary.json").exists()  # kept before any picture
        raise RuntimeError("no such thing")

    monkeypatch.setattr(TensorBoardLogger, part, fail)
    assert main(["train", *SHOWN, f"run.dir={tmp_path}"]) == 0
    assert "training continues: no such thing" in " ".join(capsys.readouterr().out.split())
    assert StoredRun(tmp_path).summary() is not None


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_a_notebooks_backend_and_a_users_settings_change_no_picture(
    tmp_path: Path, command: Command, backend: str
) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\nbackend: gtk3agg\n")
    done = command("train", *SHOWN, "run.dir=run", env={**os.environ, "MPLBACKEND": backend})
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout + done.stderr
    [image] = EventAccumulator(str(tmp_path / "run")).Reload().Images("Fig. 1bc")
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_the_figure_is_a_picture(events: EventAccumulator) -> None:
    [image] = events.Images("Fig. 1bc")
    assert image.step == 60
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert image.width > 300


def test_a_layers_mean_and_dead_share_are_shown(run: StoredRun, events: EventAccumulator) -> None:
    for what in ("mean", "std", "saturated", "shift", "shift_total"):
        points = events.Scalars(f"{what}/sigmoid2")
        expected = [run.probe(step)[f"sigmoid2/{what}"].mean() for step in run.probe_steps()]
        np.testing.assert_allclose([p.value for p in points], expected, rtol=1e-6)
    norms = events.Scalars("gradient_norm/linear1")
    assert [p.step for p in norms] == [20, 40, 60]  # before a first step there is no gradient
    assert all(p.value > 0 for p in norms)
    _, biases = run.probed("output/bias_norm")
    assert [p.value for p in events.Scalars("bias_norm/output")] == biases.tolist()


@pytest.mark.parametrize("rate", ["30", "1e6", "1e37"])
def test_a_run_that_diverges_is_shown_to_its_end(tmp_path: Path, rate: str) -> None:
    wild = ["norm=none", "model.activation=relu", "init=he", f"optimizer.lr={rate}"]
    often = ["dataset=digits", "train.log_every=1", "probe.every=1", "probe.size=100"]
    assert main(["train", *wild, *often, f"run.dir={tmp_path}"]) == 0
    run = StoredRun(tmp_path)
    assert run.status()["state"] == "diverged"
    last = run.status()["step"] - 1  # the last before the loss was not finite
    assert run.probe_steps() == [*range(last + 1)]
    shown = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    assert [point.step for point in shown.Histograms("input/relu3")] == [*range(last + 1)]
    [image] = shown.Images("Fig. 1bc")
    assert (image.step, image.encoded_image_string[:4]) == (last, b"\x89PNG")
    assert [point.value for point in shown.Scalars("summary/diverged_at")] == [last + 1]
    assert ended(shown) == api_pb2.STATUS_FAILURE
    assert "summary/test_accuracy" not in shown.Tags()["scalars"]  # the HParams tab's metric


def test_two_runs_in_a_folder_are_two_runs_in_tensorboard(tmp_path: Path) -> None:
    for name, steps in (("a", 3), ("deep/b", 5)):
        short = ["dataset=digits", f"train.steps={steps}", "probe.every=0", "norm=none"]
        assert main(["train", *short, f"run.dir={tmp_path / name}"]) == 0
    board = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert sorted(board.Runs()) == ["a", "deep/b"]
    for name, steps in (("a", 3), ("deep/b", 5)):
        assert [point.step for point in board.Tensors(name, "test/accuracy")] == [0, steps]
