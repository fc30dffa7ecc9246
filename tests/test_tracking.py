"""What TensorBoard is given, read back by TensorBoard's own reader."""

import errno
import io
import os
import shutil
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
from bnrepro.store import StoredRun, find_runs
from bnrepro.training.tensorboard import (
    HYPERPARAMETERS,
    OF_LAYERS,
    TAGS,
    UNITS,
    TensorBoardLogger,
    complete,
    in_order,
)

LAYERS = ("sigmoid1", "sigmoid2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    folder = tmp_path_factory.mktemp("tracking") / "run"
    short = ["dataset=digits", "train.steps=60", "train.log_every=10", "train.eval_every=20"]
    probe = ["probe.every=20", "probe.size=100", "model.hidden=[20,30]", "schedule=linear"]
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
    shown = events.Histograms(f"whole layer, pooled/{layer}")
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
    for column, part in enumerate((15, 50, 85)):
        points = events.Scalars(f"typical unit/{layer}/{part}")
        np.testing.assert_array_equal([p.value for p in points], percentiles[:, unit, column])


@pytest.mark.parametrize("layer", LAYERS)
def test_a_unit_of_each_quartile_has_histograms(
    run: StoredRun, events: EventAccumulator, layer: str
) -> None:
    spread = np.sort(run.probe(0)[f"{layer}/std"])
    for number, unit in enumerate(UNITS):
        shown = events.Histograms(f"one unit/{layer}, {unit}")
        assert [point.step for point in shown] == run.probe_steps()
        first = shown[0].histogram_value
        deviation = np.sqrt(first.sum_squares / first.num - (first.sum / first.num) ** 2)
        expected = spread[(number + 1) * len(spread) // 4]
        np.testing.assert_allclose(deviation, expected, rtol=0.05)  # of 40 buckets
        assert first.num == 100


def test_margin_charts_name_value_lower_and_upper(events: EventAccumulator) -> None:
    content = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    layout = layout_pb2.Layout.FromString(content)
    charts = [chart for category in layout.category for chart in category.chart]

    def titled(title: str) -> list[layout_pb2.Chart]:
        return [chart for chart in charts if chart.title == title]

    for layer in LAYERS:
        [series] = [s for chart in titled(layer) for s in chart.margin.series]
        assert (series.value, series.lower, series.upper) == tuple(
            f"typical unit/{layer}/{part}" for part in (50, 15, 85)
        )
        [shift] = [tag for chart in titled(layer) for tag in chart.multiline.tag]
        assert shift == f"covariate shift/from the start/{layer}"
    tags = set(events.Tags()["scalars"])
    assert {tag for chart in charts for tag in chart.multiline.tag} <= tags
    assert {s.value for chart in charts for s in chart.margin.series} <= tags


def test_hyperparameters_are_in_the_same_file_with_the_same_names(events: EventAccumulator) -> None:
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert set(found) == set(HYPERPARAMETERS)
    assert found["norm"].string_value == "batch"
    assert found["lr"].number_value == 0.07


def ended(events: EventAccumulator) -> int:
    content = events.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    return HParamsPluginData.FromString(content).session_end_info.status


def test_the_hparams_tab_has_the_last_accuracies_and_the_state(events: EventAccumulator) -> None:
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = {m.name.tag for m in HParamsPluginData.FromString(content).experiment.metric_infos}
    assert metrics == {"accuracy/test", "accuracy/validation"}
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


@pytest.mark.parametrize("part", ["__init__", "record", "finish"])
def test_a_failing_view_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    def fail(*arguments: object) -> None:
        assert part != "finish" or (tmp_path / "summary.json").exists()  # kept before any picture
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
    [image] = EventAccumulator(str(tmp_path / "run")).Reload().Images("typical unit/Fig. 1b, c")
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_the_figure_is_a_picture(events: EventAccumulator) -> None:
    [image] = events.Images("typical unit/Fig. 1b, c")
    assert image.step == 60
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert image.width > 300


def test_a_layers_mean_and_dead_share_are_shown(run: StoredRun, events: EventAccumulator) -> None:
    for what in ("mean", "std", "saturated", "shift", "shift_total"):
        points = events.Scalars(f"{OF_LAYERS[what]}/sigmoid2")
        expected = [run.probe(step)[f"sigmoid2/{what}"].mean() for step in run.probe_steps()]
        np.testing.assert_allclose([p.value for p in points], expected, rtol=1e-6)
    norms = events.Scalars("norms/gradient/linear1")
    assert [p.step for p in norms] == [20, 40, 60]  # before a first step there is no gradient
    assert all(p.value > 0 for p in norms)
    _, biases = run.probed("output/bias_norm")
    assert [p.value for p in events.Scalars("norms/bias/output")] == biases.tolist()


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
    assert [point.step for point in shown.Histograms("whole layer, pooled/relu3")] == [
        *range(last + 1)
    ]
    [image] = shown.Images("typical unit/Fig. 1b, c")
    assert (image.step, image.encoded_image_string[:4]) == (last, b"\x89PNG")
    assert ended(shown) == api_pb2.STATUS_FAILURE


def test_two_runs_in_a_folder_are_two_runs_in_tensorboard(tmp_path: Path) -> None:
    for name, steps in (("a", 3), ("deep/b", 5)):
        short = ["dataset=digits", f"train.steps={steps}", "probe.every=0", "norm=none"]
        assert main(["train", *short, f"run.dir={tmp_path / name}"]) == 0
    board = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert sorted(board.Runs()) == ["a", "deep/b"]
    for name, steps in (("a", 3), ("deep/b", 5)):
        assert [point.step for point in board.Tensors(name, "accuracy/test")] == [0, steps]


def test_what_is_shown_once_only_or_never_changes_has_no_chart(tmp_path: Path) -> None:
    assert main(["train", *SHOWN, f"run.dir={tmp_path}"]) == 0
    shown = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    tags = shown.Tags()["scalars"]
    assert TAGS["lr"] not in tags  # the schedule is constant
    assert all(len(shown.Scalars(tag)) > 1 for tag in tags)


def test_an_event_file_made_from_what_is_stored_is_the_runs_own(
    run: StoredRun, events: EventAccumulator, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy, ignore=shutil.ignore_patterns("events.*"))
    said: list[str] = []
    complete(find_runs(tmp_path), said.append)
    complete(find_runs(tmp_path), said.append)  # there is nothing left to do
    assert not said
    assert len(list(copy.glob("events.*"))) == 1
    made = EventAccumulator(str(copy), size_guidance={"scalars": 0, "histograms": 0}).Reload()
    for kind in ("scalars", "histograms", "images", "tensors"):
        assert set(made.Tags()[kind]) == set(events.Tags()[kind])
    for tag in events.Tags()["scalars"]:
        ours, theirs = ([(p.step, p.value) for p in of.Scalars(tag)] for of in (made, events))
        assert ours == theirs, tag
    for tag in events.Tags()["histograms"]:
        ours, theirs = (
            [(p.step, p.histogram_value) for p in of.Histograms(tag)] for of in (made, events)
        )
        assert ours == theirs, tag
    [ours], [theirs] = (of.Images("typical unit/Fig. 1b, c") for of in (made, events))
    assert ours.encoded_image_string == theirs.encoded_image_string


def test_an_event_file_that_cannot_be_made_is_said(run: StoredRun, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy, ignore=shutil.ignore_patterns("events.*"))
    (copy / "probes" / "000000040.npz").write_bytes(b"damaged")
    said: list[str] = []
    complete(find_runs(tmp_path), said.append)
    [line] = said
    assert line.startswith(f"warning: no event file ({copy}: ")
    assert not list(copy.glob("events.*"))  # not half of one


def test_layers_are_shown_in_their_order() -> None:
    mlp = [f"sigmoid{number}" for number in range(1, 13)]
    assert in_order(mlp) == {layer: layer for layer in mlp}
    assert in_order(["conv1.relu", "4a.three.1.relu"]) == {
        "conv1.relu": "1 conv1.relu", "4a.three.1.relu": "2 4a.three.1.relu",
    }  # fmt: skip


def test_of_inception_an_early_a_middle_and_a_late_layer_are_shown(tmp_path: Path) -> None:
    tiny = ["dataset=digits", "dataset.limit=300", "train.steps=4", "train.eval_every=2"]
    more = ["train.compile=false", "train.checkpoint_every=4", "probe.every=2", "probe.size=20"]
    inception = ["experiment=cifar10-inception", *tiny, *more, "studies=[]"]
    assert main(["train", *inception, f"run.dir={tmp_path}"]) == 0
    run = StoredRun(tmp_path)
    shown = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    tags = [t for t in shown.Tags()["histograms"] if t.startswith("one unit/")]
    assert len(tags) == 3 * len(UNITS)
    assert [tag.split("/")[1][0] for tag in tags] == ["1"] * 3 + ["2"] * 3 + ["3"] * 3
    arrays = run.probe(4)
    layers = [key.removesuffix("/percentiles") for key in arrays if key.endswith("/percentiles")]
    assert layers[0] == "conv1.relu"
    assert {key.rpartition("/")[0].rpartition(".")[0] for key in arrays} == {
        layer.rpartition(".")[0] for layer in layers
    }
    assert all(f"{layer.rpartition('.')[0]}.conv/gradient_norm" in arrays for layer in layers)
    other = [*inception, "probe.layers=[conv2.relu]", f"run.dir={tmp_path / 'other'}"]
    assert main(["train", *other]) == 0
    assert "conv2.relu/percentiles" in StoredRun(tmp_path / "other").probe(0)
    none = ["probe.layers=[nowhere]", f"run.dir={tmp_path / 'none'}"]
    assert main(["train", *inception, *none]) == 2
