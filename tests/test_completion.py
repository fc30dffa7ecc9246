"""Completion in a real shell, and as other shells ask for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pexpect
import pytest

from bnrepro import cli
from bnrepro.config.complete import complete

BIN = Path(sys.executable).parent
NORMS = ["batch", "detached", "dyt", "group", "l1", "layer", "linf", "noisy", "none", "torch",
         "whiten"]  # fmt: skip


def ask(shell: str, words: list[str]) -> list[str]:
    """What the completion of a shell that does not split at "=" is answered."""
    line = " ".join(["bnrepro", *words])
    settings = {
        **os.environ,
        "_BNREPRO_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = forked.run(env=settings)
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["tr"], ["train"]),
        (["train", "norm="], [f"norm={name}" for name in NORMS]),
        (["train", "norm=to"], ["norm=torch"]),
        (["train", "norm=none", "experiment=f"], ["experiment=fig1"]),
        (["train", "optimizer.l"], ["optimizer.lr="]),
        (["train", "optimizer=adam", "optimizer.lr="], ["optimizer.lr=0.001"]),
        (["data", "verify", "mn"], ["mnist"]),
        (["reproduce", "faster"], ["faster-training"]),
        (["reproduce", "--scale", "sm"], ["smoke"]),
        (["reproduce", "hydra/launcher=jo"], ["hydra/launcher=joblib"]),
        (["bench", "layer", "norm=to"], ["norm=torch"]),
    ],
)
def test_fish_gets_completions(words: list[str], answers: list[str]) -> None:
    assert ask("fish", words) == answers


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        ("norm=batch,n", ["norm=batch,noisy", "norm=batch,none"]),
        ("norm=batch,none model.activation=", ["model.activation=sigmoid", "model.activation=relu",
                                               "model.activation=tanh"]),
        ("optimizer=sgd tensorboard=", ["tensorboard=false", "tensorboard=true"]),
        ("device=c", ["device=cpu", "device=cuda"]),
        ("studies=[sc", ["studies=[scale-invariance]"]),
        ("hydra/launcher=su", ["hydra/launcher=submitit_local", "hydra/launcher=submitit_slurm"]),
        ("foo=1 model.activation=", []),
        ("layer norm=to", ["norm=torch"]),
    ],
)  # fmt: skip
def test_settings_with_few_values_offer_them(words: str, answers: list[str]) -> None:
    *before, last = words.split(" ")
    assert complete(before, last) == answers


@pytest.mark.parametrize(
    ("typed", "last", "answers"),
    [
        (["norm"], "", NORMS),  # as bash gives norm=
        (["norm", "="], "ba", ["batch"]),
        (["norm=none"], "norm=ba", ["norm=batch"]),  # as other shells give it
        (["norm", "=", "none", "hydra/launcher"], "", ["basic", "joblib", "ray", "submitit_local",
                                                       "submitit_slurm"]),
    ],
)  # fmt: skip
def test_every_way_a_shell_splits_is_understood(
    typed: list[str], last: str, answers: list[str]
) -> None:
    assert cli._completed(typed, last) == answers
    assert cli._completed(["norm", "=", "none"], "optimizer.weight") == ["optimizer.weight_decay="]


def test_an_error_while_completing_is_not_printed_into_the_prompt(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setenv("_BNREPRO_COMPLETE", "complete_fish")
    assert cli.main([]) == 70
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_completes_where_it_splits_at_the_equals_sign(tmp_path: Path) -> None:
    settings = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb"}
    script = subprocess.run(
        ["bash", "-c", "bnrepro --show-completion bash"],
        env={**settings, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True, text=True, timeout=300, check=True,
    ).stdout  # fmt: skip
    start = tmp_path / "bashrc"
    plain = "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'"
    start.write_text(f"PS1='READY> '\n{plain}\n{script}")
    shell = pexpect.spawn(
        "bash", ["--noprofile", "--rcfile", str(start), "-i"],
        encoding="utf-8", timeout=300, env=settings,
    )  # fmt: skip
    shell.expect_exact("READY> ")
    for typed, completed in (
        ("bnrepro train norm=ba", "norm=batch "),
        ("bnrepro train norm=\t", "whiten"),
        ("bnrepro train norm=none experiment=fi", "experiment=fig1 "),
        ("bnrepro train expe", "experiment="),
        ("bnrepro train dataset=digits optimizer.weight", "optimizer.weight_decay="),
    ):
        shell.send(f"{typed}\t")
        shell.expect_exact(completed)
        shell.send("\x03")
        shell.expect_exact("READY> ")
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    shell.close()
