"""The configuration: its files, its limits, and that no override, however odd, does harm."""

import dataclasses
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from conftest import ROOT

from bnrepro import config as c
from bnrepro.cli import main
from bnrepro.config import hydra, schema
from bnrepro.config.compose import compose
from bnrepro.errors import ConfigError
from bnrepro.sweeps.grid import grid

DEFAULT = compose([]).config


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimizer.lr=0", "optimizer.lr"), ("optimizer.lr=-1", "above 0"),
        ("optimizer.lr=nan", "finite"), ("optimizer.lr=inf", "finite"),
        ("optimizer.momentum=1", "[0, 1)"), ("optimizer.weight_decay=-1", "weight_decay"),
        ("norm.eps=0", "norm.eps"), ("norm.momentum=1.5", "norm.momentum"),
        ("norm.placement=mid", "pre, post"), ("norm.population_batches=0", "between 1"),
        ("norm.population_batches=1000000000000", "between 1 and 100,000"),
        ("norm.keep_bias=maybe", "norm.keep_bias"), ("norm.affine=maybe", "norm.affine"),
        ("norm.ghost_size=1", "2 or more, or null"), ("norm.ghost_size=7", "a divisor of the"),
        ("train.steps=0", "1 or more"), ("train.steps=1e3", "Integer"),
        ("train.batch_size=1", "2 or more"), ("train.eval_every=0", "1 or more"),
        ("probe.every=-1", "0 (never)"), ("probe.size=1", "2 or more"),
        ("model.hidden=[]", "model.hidden"), ("model.hidden=[3,0]", "model.hidden"),
        ("model.dropout=1", "[0, 1)"), ("model.activation=gelu", "sigmoid, relu, tanh"),
        ("init.scale=-0.1", "init.scale"), ("init.scale=nan", "init.scale"),
        ("seed=-1", "seed"), ("seed=1.5", "Integer"), ("seed=on", "Integer"),
        ("threads=0", "threads"), ("device=gpu", "auto, cpu, cuda"),
        ("dataset.validation=0", "1 or more"), ("dataset.mirror=ftp://x", "http"),
        ("dataset.inputs=grey", "default, standardized, raw, shifted, uneven, whitened"),
        ("dataset.limit=0", "1 or more, or null"), ("dataset.limit=1.5", "Integer"),
        ("dataset.root=", "dataset.root"), ("dataset.binary=maybe", "dataset.binary"),
        ("~seed", "seed="), ("~norm", "batch, none, torch"), ("train=1", "Train"),
        ("+foo.bar=1", "foo"), ("+train.foo=1", "train.foo"), ("optimizer=adamm", "'adam'"),
        ("optimzer=sgd", "'optimizer'"), ("norm=[batch,none]", "not one option (norm)"),
        ("optimizer.lr=0.1,0.2", "one run takes one value"), ("optimizer.lr=[1", "KEY=VALUE"),
        ("run.dir=${foo}", "foo"), ("+norm._target_=os.system", "_target_"),
        ("+tags.0._target_=os.system", ""), ("hydra.foo=1", "hydra.foo"),
        ("hydra.run.dir=x", "use run.dir=DIR"), ("hydra.run={dir:x}", "use run.dir=DIR"),
        ("hydra.sweep.dir=x", "use sweep.dir=DIR"), ("hydra.mode=MULTIRUN", "bnrepro sweep"),
        ("hydra.job.chdir=true", "absolute paths"), ("hydra.searchpath=[/x]", "--config-dir"),
        ("lr=1", "did you mean 'optimizer.lr'?"), ("bn=true", "did you mean 'norm=batch'?"),
        ("optimizer.learning_rate=1", "'optimizer.lr'"), ("epochs=3", "'train.steps'"),
        ("optimizer.betas=[1]", "optimizer has lr, momentum, weight_decay"),
        ("schedule.speed=6", "choose schedule=linear or schedule=exponential"),
        ("norm=null", "write norm=none"), ("optimizer=null", "choose one of sgd, adam, adagrad"),
        ("experiment=null", "leave it out"), ("+experiment=fig1", "write experiment=fig1"),
        ("~optimizer.momentum", "give one (optimizer.momentum=…)"), ("seed", "seed=1"),
        ("device=cuda:1", "CUDA_VISIBLE_DEVICES"), ("optimizer.name=adam", "write optimizer=adam"),
        ("train.steps=1000000000000000000000000", "below 2**63"),
        ("tags=[" + "${seed}," * 21 + "x]", "at most 20"),
        ("tags=[" + "a," * 9999 + "b]", "too long"),
        ("run.dir=\udcff", "not UTF-8"),
        ("hydra/launcher=joblb", "did you mean 'joblib'?"),
    ],
)  # fmt: skip
def test_an_impossible_configuration_is_refused(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose([override])
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("norm.eps=0", "norm.eps"), ("norm.momentum=-1", "norm.momentum"),
        ("norm.scaling=maybe", "norm.scaling"), ("train.batch_size=1", "2 or more"),
        ("norm.placement=pre", "no setting 'norm.placement'"),
        ("norm.population_batches=1", "no setting 'norm.population_batches'"),
    ],
)  # fmt: skip
def test_the_detached_norm_is_refused_with_settings_it_cannot_have(
    override: str, told: str
) -> None:
    with pytest.raises(ConfigError) as error:
        compose(["norm=detached", override])
    assert told in str(error.value)


@pytest.mark.parametrize("other", ["model.hidden=[9]", "norm.placement=post"])
def test_jacobians_between_layers_need_layers_with_the_norm_between(other: str) -> None:
    compose([other])
    assert compose(["probe.jacobian=true"]).config.probe.jacobian
    with pytest.raises(ConfigError, match=r"\(probe\.jacobian\): it must be false without two"):
        compose(["probe.jacobian=true", other])


def test_a_setting_of_another_option_gets_a_message_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"chosen norm has no setting 'norm\.eps'"):
        compose(["norm=none", "norm.eps=1"])


def test_fig_1_with_another_option_has_that_options_values() -> None:
    """He's weights are not scaled by what suits a Gaussian, and Adam's steps are not SGD's."""
    fig1 = compose(["experiment=fig1"]).config
    assert (fig1.init.scale, fig1.optimizer.lr) == (0.07, 0.07)
    other = compose(["experiment=fig1", "init=he", "optimizer=adam"]).config
    assert (other.init.scale, other.optimizer.lr) == (1.0, 0.001)


def test_the_options_in_conf_are_those_the_code_knows() -> None:
    for group in c.OPTIONS:
        options = c.options_of(group)
        files = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        with hydra.context("options"):
            assert files == set(options) == set(hydra.group_options(group))
        for option in options:
            config = compose([f"{group}={option}"]).config
            assert getattr(config, group).name == option
            assert type(getattr(config, group)) is options[option].settings


def test_the_defaults_are_figure_1() -> None:
    assert DEFAULT.model.hidden == [100, 100, 100]  # type: ignore[attr-defined]
    assert DEFAULT.model.activation is c.Activation.sigmoid
    assert (DEFAULT.train.steps, DEFAULT.train.batch_size) == (50_000, 60)
    assert (DEFAULT.dataset.name, DEFAULT.norm.name) == ("mnist", "batch")
    assert DEFAULT.dataset.binary is True  # type: ignore[attr-defined]
    assert (DEFAULT.optimizer.momentum, DEFAULT.optimizer.weight_decay) == (0, 0)  # type: ignore[attr-defined]


def test_a_configuration_written_as_yaml_reads_back_the_same() -> None:
    overrides = ["model.hidden=[5,6]", "tags=[a,'b: c']", "run.dir='x$y'", "norm.momentum=null"]
    config = compose(overrides).config
    again = yaml.safe_load(c.to_yaml(config))
    assert again == c.to_dict(config)
    assert c.differences(again, c.to_dict(config)) == []


def test_text_stays_as_it_was_typed() -> None:
    for text in (
        "2026_11_26",
        "1e3",
        "1.50",
        "true",
        "0x10",
        "nan",
        "null_",
        "-1",
        "a.b",
        "批",
        "ä/1e3",
    ):
        config = compose([f"run.dir={text}", f"dataset.root={text}", f"tags=[{text},x]"])
        assert (config.config.run.dir, config.config.dataset.root) == (text, text)
        assert config.config.tags == [text, "x"]
        assert grid([f"sweep.dir={text}", "seed=0,1"]).sweep_dir == text
    assert compose(["run.dir=null"]).config.run.dir is None
    found = grid(["dataset.root=1_0,1.50", "tags=[1],[2,3e1]"])
    assert found.axes == {"dataset.root": ["'1_0'", "'1.50'"], "tags": ["['1']", "['2','3e1']"]}


def test_every_text_setting_is_known_as_such() -> None:
    text = (str, str | None, list[str])
    groups = [(group, o.settings) for group in c.OPTIONS for o in c.options_of(group).values()]
    groups += [("", c.Config), ("run", schema.RunFolder), ("sweep", schema.SweepFolder)]
    found = {
        f"{group}.{field.name}".lstrip(".")
        for group, options in groups
        for field in dataclasses.fields(options)
        if get_type_hints(options)[field.name] in text and field.name != "name"
    }
    assert found == set(schema.TEXT)


def test_a_number_in_a_file_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "mine.yaml"
    for lines, name in (("run: {dir: 2026_11_26}", "run.dir"), ("tags: [a, 1e3]", "tags")):
        path.write_text(f"# @package _global_\n{lines}\n")
        with pytest.raises(ConfigError, match=rf"\({name}\): it must be text, in quotes"):
            compose(["experiment=mine"], tmp_path)


def test_a_leading_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("BNREPRO_DATA", "~/data")
    for typed in ("run.dir=~/x", "run.dir='~/x'"):
        config = compose([typed]).config
        assert (config.run.dir, config.dataset.root) == ("/home/me/x", "/home/me/data")


@pytest.mark.parametrize("file", ["optimizer/sgd", "config", "hydra/job_logging/default"])
def test_a_file_that_a_packaged_one_would_hide_is_refused(tmp_path: Path, file: str) -> None:
    own = tmp_path / f"{file}.yaml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("lr: 5\n")
    with pytest.raises(ConfigError) as error:
        compose([], tmp_path)
    assert str(own) in str(error.value)
    assert f"the packaged {c.conf_dir()}" in str(error.value) or "hydra/conf" in str(error.value)
    own.rename(own.with_name("mine.yaml"))
    compose([], tmp_path)
    compose([], c.conf_dir())  # the same files again hide nothing


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train sweep.dir=x", "run.dir=DIR"), ("train +sweep.dir=x", "run.dir=DIR"),
        ("train hydra/launcher=joblib", "bnrepro sweep"),
        ("train hydra.launcher.n_jobs=2 hydra/launcher=joblib", "bnrepro sweep"),
        ("sweep run.dir=x seed=0,1", "sweep.dir=DIR"),
    ],
)  # fmt: skip
def test_a_setting_that_only_another_command_reads_is_refused(
    line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_differences_list_only_settings_that_make_another_run() -> None:
    one = c.to_dict(compose([]).config)
    moved = c.to_dict(compose(["run.dir=x", "dataset.root=y", "tags=[t]"]).config)
    other = c.to_dict(compose(["norm=none", "seed=1"]).config)
    assert c.differences(moved, one) == []
    found = c.differences(other, one)
    assert 'norm.name: "batch" -> "none"' in found
    assert "seed: 0 -> 1" in found
    assert "norm.eps: 1e-05 -> not set" in found


def test_a_setting_added_later_leaves_older_runs_the_same() -> None:
    options = ["schedule=exponential", "dataset=folder"]  # which have a speed, a fingerprint
    now = c.to_dict(compose(options).config)
    added = ["augment.shift", "dataset.limit", c.FINGERPRINT, "norm.affine",
             "norm.ghost_size", "norm.keep_bias", "predictions",
             "schedule.horizon", "schedule.speed", "studies", "train.compile",
             "train.shuffling", "train.test_every"]  # fmt: skip
    before = {group: dict(v) if isinstance(v, dict) else v for group, v in now.items()}
    for name in added:
        group, _, key = name.rpartition(".")
        del (before[group] if group else before)[key]
    assert c.identifying_settings(now) == c.identifying_settings(before)
    assert c.differences(now, before) == c.differences(before, now) == []
    raw = c.to_dict(compose([*options, "dataset.inputs=raw"]).config)
    assert c.differences(raw, before) == ['dataset.inputs: not set -> "raw"']


def test_cfg_prints_the_configuration_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNREPRO_DATA", "somewhere")
    assert main(["train", "norm=none", "seed=7", "--cfg", "job"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["norm"], shown["seed"]) == ({"name": "none"}, 7)
    assert shown["dataset"]["root"] == "somewhere"
    assert main(["train", "--cfg", "all"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert {"hydra", "norm", "train"} <= set(shown)
    assert list(tmp_path.iterdir()) == []


def test_config_dir_adds_configurations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "my cönfigs"
    (own / "experiment").mkdir(parents=True)
    (own / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /norm: none\nmodel:\n  hidden: [7]\n"
    )
    (own / "optimizer").mkdir()
    (own / "optimizer" / "slow.yaml").write_text("defaults:\n  - sgd\nlr: 0.001\n")
    config = compose(["experiment=mine", "optimizer=slow"], own).config
    assert (config.norm.name, config.optimizer.lr) == ("none", 0.001)
    assert config.model.hidden == [7]  # type: ignore[attr-defined]
    (own / "experiment" / "broken.yaml").write_text("model:\n  hidden: [1, 2\nseed: 3\n")
    folder = ["--config-dir", str(own), "--cfg", "job"]
    assert main(["train", "experiment=broken", *folder]) == 2
    error = capsys.readouterr().err
    assert "broken.yaml" in error
    assert "line 3, column 5" in error
    assert len(error.splitlines()) == 1
    (own / "experiment" / "evil.yaml").write_text(
        "# @package _global_\nmodel:\n  _target_: os.system\n"
    )
    assert main(["train", "experiment=evil", *folder]) == 2
    assert "_target_" in capsys.readouterr().err
    assert main(["train", "--config-dir", str(own / "nowhere")]) == 2


@pytest.mark.parametrize(
    "text",
    [
        "hydra:\n  callbacks:\n    mine:\n      _target_: os.system\n",
        "hydra:\n  job_logging:\n    handlers:\n      file:\n        (): os.system\n",
        "hydra:\n  job:\n    env_set:\n      PATH: /tmp\n",
        "hydra:\n  searchpath:\n    - file:///tmp\n",
        "defaults:\n  - override /hydra/launcher: mine\n",
    ],
)
def test_hydras_own_settings_come_from_the_command_line_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    for group in ("experiment", "hydra/launcher"):
        (tmp_path / group).mkdir(parents=True)
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    (tmp_path / "hydra" / "launcher" / "mine.yaml").write_text("_target_: os.system\n")
    line = ["train", "--config-dir", str(tmp_path), "--cfg", "job"]
    assert main([*line, "experiment=mine"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "command line" in said or "searchpath" in said
    assert main([*line, "hydra.verbose=true"]) == 0


DOUBLING = "tags: [x, " + ", ".join(f"'${{tags.{i}}}${{tags.{i}}}'" for i in range(29)) + "]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("optimizer:\n  lr: 3\n", "first line has to be '# @package _global_'"),
        ("# @package _global_\noptimizer: {name: adam}\n", "'override /optimizer: adam'"),
        ("# @package _global_\nb: &b [1, 1]\ntags: [*b, *b]\n", "an alias"),
        (f"# @package _global_\n{DOUBLING}\n", "too many references (59 of ${…})"),
        ("# @package _global_\ntags: ['${oc.env:SECRET}']\n", "environment variable in 'tags'"),
        ("# @package _global_\ntags: ['${oc.${norm}:SECRET}']\n", "environment variable in 'tags'"),
        ('# @package _global_\nrun: {dir: "a\\0b"}\n', "cannot hold NUL"),
        ('# @package _global_\nrun: {dir: "\\ud800"}\n', "mine.yaml"),
    ],
)
def test_settings_that_a_file_may_not_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        compose(["experiment=mine"], tmp_path)
    assert told in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_file_may_name_folders_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nrun:\n  dir: ${oc.env:SCRATCH}/runs\n"
    )
    assert compose(["experiment=mine"], tmp_path).config.run.dir == "/scratch/me/runs"


def test_a_file_may_name_the_axes_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: range(0,3)\n"
    )
    job = compose(["experiment=mine"], tmp_path)
    assert job.composed.hydra.sweeper.params == {"seed": "range(0,3)"}


@pytest.mark.parametrize(
    "word", ["optimzer.lr=1", "optimizer.lrr=1", "+tags.0._target_=os.system", "+x=1", "seed=[1"]
)
def test_a_debugger_changes_no_message(word: str) -> None:
    told = []
    before = sys.gettrace()
    for trace in (None, lambda *_: None):
        sys.settrace(trace)
        try:
            with pytest.raises(ConfigError) as caught:
                compose([word])
        finally:
            sys.settrace(before)
        told.append(str(caught.value))
    assert told[0] == told[1]
