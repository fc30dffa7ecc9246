"""Random command lines, as people, scripts and those who mean harm may type them."""

from __future__ import annotations

import random
from pathlib import Path

from overrides import KNOWN, plausible

ODD = (
    "", "-", "--", "---", "-1", "0", "1e400", "nan", "~", "~/x", "..", "a b", "ünï", "批",
    "\x1b[2J", "\u202ex", "\udcff", "x" * 300, "x" * 5000, "*", "$HOME", "`id`", "'", '"',
    "\\", "a=b", "=", "%s", "{0}", "[[1]]", "null", "true", "\n", "\t", "--debug",
    "--help", "-h", "--json", "--version",
)  # fmt: skip
VALUES = (
    *ODD, "1", "0.1", "[1,2]", "[]", "{}", "{a:1}", "[[1],{b:[2]}]", "${", "${seed}", "${run}",
    "${oc.env:HOME}", "${oc.env:NO_SUCH}", "a,b", "0,1", "1,1", "range(1,3)", "range(0,10**9)",
    "range(0,1000000000)", "range(0,inf)", "range(0,1,1e-9)", "choice(1,2)", "glob(*)",
    "glob(zzz*)", "interval(0,1)", "shuffle(1,2)", "int(2.5)", "sort(3,1)", "???", "010", "1:30",
    "2026_11_26", "9" * 40, "[" * 500, "[" + "a," * 3000 + "a]", "/dev/null", "/dev/full",
    "/proc/self/mem",
)  # fmt: skip
OWN_KEYS = (
    *KNOWN, "hydra.run.dir", "hydra.sweep.dir", "hydra.job.chdir", "hydra/launcher",
    "hydra.searchpath", "hydra.launcher.n_jobs", "hydra.sweeper.params", "hydra.verbose", "lr",
    "bn", "optimizer.learning_rate", "schedule.speed", "_target_", "sweep.dir", "run.overwrite",
    "run.allow_drift", "dataset.mirror",
)  # fmt: skip
CLAIMS = ("faster-training", "fig1", "all", "faster", "../x", "scale-invariance")


class Typist:
    """Draws command lines that end soon: what would train for minutes is left out or kept short.

    Args:
        chance: the source of chance.
        place: where the paths it names lie; it makes a few odd ones there.
    """

    def __init__(self, chance: random.Random, place: Path) -> None:
        self._chance = chance
        (place / "empty").mkdir(parents=True)
        (place / "file").write_text("no run\n")
        (place / "runs" / "odd").mkdir(parents=True)
        (place / "runs" / "odd" / "status.json").write_text("[]")
        (place / "mine" / "norm").mkdir(parents=True)
        (place / "mine" / "norm" / "batch.yaml").write_text("name: batch\neps: [1\n")
        (place / "mine" / "experiment").mkdir()
        (place / "mine" / "experiment" / "e.yaml").write_text("seed: 1\n")
        (place / "mine" / "experiment" / "g.yaml").write_text("# @package _global_\nseed: 1\n")
        self._paths = [
            str(place / name) for name in ("empty", "file", "runs", "mine", "none", "file/below")
        ]

    def line(self) -> list[str]:
        """The words after `bnrepro`."""
        pick = self._chance.choice
        command = pick(
            ["train"] * 6 + ["sweep"] * 3 + ["reproduce", "claims", "bench", "tensorboard"]
            + ["runs", "report", "data", "data", "", "odd"]
        )  # fmt: skip
        if command == "odd":
            return self._some(ODD, 3)
        words = getattr(self, f"_{command or 'nothing'}")()
        if self._chance.random() < 0.2:
            words.insert(self._chance.randint(0, len(words)), pick(ODD))
        return [command, *words] if command else words

    def _some(self, of: tuple[str, ...] | list[str], most: int) -> list[str]:
        return self._chance.choices(of, k=self._chance.randint(0, most))

    def _path(self) -> str:
        return self._chance.choice([*self._paths] * 3 + list(ODD) + ["/dev/null"])

    def _options(self, *options: tuple[str, tuple[str, ...]]) -> list[str]:
        words: list[str] = []
        for name, values in options:
            if self._chance.random() < 0.25:
                value = self._chance.choice([*values, *values, *ODD, self._path()])
                words += self._chance.choice([[name, value], [f"{name}={value}"], [name]])
        return words

    def _overrides(self) -> list[str]:
        pick = self._chance.choice
        signs, equals = ("", "", "", "+", "++", "~"), ("=", "=", "=", "")
        odd = [
            pick(signs) + pick(OWN_KEYS) + pick(equals) + pick(VALUES)
            for _ in range(self._chance.randint(0, 3))
        ]
        sound = plausible(self._chance) if self._chance.random() < 0.5 else []
        return [*sound, *odd]

    def _nothing(self) -> list[str]:
        return self._some(["--help", "-h", "--version", "-V", *ODD], 2)

    def _train(self) -> list[str]:
        shown = self._options(("--cfg", ("job", "hydra", "all")), ("--config-dir", (self._path(),)))
        words = [*shown, *self._overrides()]
        return [*words, "dataset=digits", "train.steps=2"]

    def _sweep(self) -> list[str]:
        # One in ten may train: a sweep starts a process that has torch, which takes seconds.
        last = ["train.steps=2"] if self._chance.random() < 0.1 else ["train.steps=0"]
        listed = [
            f"{self._chance.choice(OWN_KEYS)}={self._chance.choice(VALUES)}" for _ in range(2)
        ]
        options = self._options(("--stack", ("1", "2")), ("--config-dir", (self._path(),)))
        return [*options, *self._overrides(), *listed, "dataset=digits", *last]

    def _reproduce(self) -> list[str]:
        words = self._options(
            ("--scale", ("short", "large")), ("--out", (self._path(),)), ("--seeds", ("0", "-1")),
            ("--jobs", ("0", "2")), ("--stack", ("0",)),
        )  # fmt: skip
        return [
            *words,
            *self._some(CLAIMS, 2),
            self._chance.choice(["no-such-claim", "--help", "x=1"]),
        ]

    def _claims(self) -> list[str]:
        return self._some(["--json", *CLAIMS, *ODD], 2)

    def _bench(self) -> list[str]:
        return ["none", *self._some(["--rounds", "0", "--json", *ODD], 3)]

    def _tensorboard(self) -> list[str]:  # a port or a folder that cannot be, or it would serve on
        port = self._chance.choice(["-1", "99999", "a", "", "1e3", "--host", "6006.5"])
        return [
            *self._some([self._path()], 1),
            "--port",
            port,
            *self._options(("--host", ("x.invalid",))),
        ]

    def _runs(self) -> list[str]:
        return [*self._some([self._path()], 2), *self._some(["--json", "--debug"], 1)]

    def _report(self) -> list[str]:
        return [*self._some([self._path()], 2), *self._options(("--out", (self._path(),)))]

    def _data(self) -> list[str]:
        pick = self._chance.choice
        name = pick(["digits", "mnist", "cifar10", "folder", "x", *ODD])
        mirror = pick(["http://127.0.0.1:9/", "http://[::1", "", "ftp://x/", "http://u:p@127.0.0.1:9/",
                       "file:///etc/passwd", "127.0.0.1", *ODD])  # fmt: skip
        words = {
            "list": [],
            "fetch": [name, "--mirror", mirror],
            "import": [name, self._path()],
            "verify": [name],
            "odd": self._some(ODD, 2),
        }
        kind = pick(list(words))
        root = ["--root", self._path()] if self._chance.random() < 0.7 else []
        return [*([] if kind == "odd" else [kind]), *words[kind], *root]
