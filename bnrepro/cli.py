"""The command line. Each command is a few lines; torch and Hydra are imported inside them only."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

import bnrepro
from bnrepro.errors import BnreproError, Interrupted, MembersFailedError
from bnrepro.terminal import as_text, open_streams, printable, views

if TYPE_CHECKING:
    from bnrepro.config import Config
    from bnrepro.evidence.judge import Judgement
    from bnrepro.store import RunWriter
    from bnrepro.store.sweep import Results
    from bnrepro.training.signals import StopSignals

OUTPUTS = Path("outputs")
HOUR = 3600.0  # seconds of work before which is asked, on a terminal
LINE = 100  # characters of a line of prose, at most
SHOWN = 20  # rows of a sweep's table on the terminal
BUG, INTERRUPTED = 70, 130
WORKING = ("train", "sweep", "reproduce")  # what they print only shows what they do
BENCHMARKS = ("layer", "step", "loop", "stack", "probes", "checkpoints", "startup")
COMPLETING = "_BNREPRO_COMPLETE"  # set by a shell that asks what a word may become

# What torch's allocators say; their errors have no type of their own on a CPU.
_NO_MEMORY = re.compile("can't allocate memory|out of memory", re.IGNORECASE)

# Typer's own base of usage errors has no public name.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="bnrepro",
    help="Put the claims of the Batch Normalization paper (arXiv 1502.03167) to the test.",
    invoke_without_command=True,
    rich_markup_mode=None,  # its tables cut words that cannot be guessed
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    help="Data sets: list, download, import a copy, verify.", rich_markup_mode=None
)
app.add_typer(data_app, name="data")


def _home(folder: Path | None) -> Path | None:
    """The folder, with the home folder for a leading ~, which a shell leaves in --out=~/x."""
    return None if folder is None else Path(os.path.expanduser(folder))


def _add_claims(folder: Path | None) -> Path | None:
    if (folder := _home(folder)) is not None:
        from bnrepro import claims

        claims.add_folder(folder)
    return folder


class Shown(StrEnum):
    """What `--cfg` prints."""

    job = "job"
    hydra = "hydra"
    all = "all"


def _complete_override(ctx: typer.Context, incomplete: str) -> list[str]:
    return _completed(ctx.params.get("overrides"), incomplete)


def _completed(
    typed: list[str] | None, incomplete: str, names: Iterable[str] = (), keys: str = ""
) -> list[str]:
    """What a word may become: an override whose key begins with `keys`, or one of the `names`."""
    from bnrepro.config.complete import complete

    # Bash takes "=" for a word of its own: norm=ba arrives as "norm", "=", "ba", and norm= as
    # "norm", "". Only what follows the last "=" is to be answered.
    words = [str(word) for word in typed or ()]
    at_equals = incomplete in ("", "=") and bool(words) and words[-1] not in ("=", *names)
    at_equals = at_equals and "=" not in words[-1] and words[-2:-1] != ["="]
    split = at_equals or words[-1:] == ["="]
    line = [*words, "=" if at_equals else incomplete]
    *words, word = " ".join(line).replace(" = ", "=").replace(" =", "=").split(" ")
    answers = complete(words, word) if word.startswith(keys) else []
    if keys and "=" not in word and keys.startswith(word):
        answers = [keys]
    answers = [*(name for name in names if name.startswith(word)), *answers]
    if len(answers) == 1 and answers[0].endswith("="):
        # A shell sets a space behind an only answer: where there are options, show them instead.
        options = complete(words, answers[0])
        answers = options if len(options) > 1 else answers
    return [answer.rpartition("=")[2] for answer in answers] if split else answers


def _complete_dataset(incomplete: str) -> list[str]:
    from bnrepro.config import options_of

    return [name for name in options_of("dataset") if name.startswith(incomplete)]


def _complete_published(incomplete: str) -> list[str]:
    from bnrepro import data

    return [name for name in data.published() if name.startswith(incomplete)]


def _complete_claim(ctx: typer.Context, incomplete: str) -> list[str]:
    from bnrepro import claims

    return _completed(ctx.params.get("names"), incomplete, claims.ids(), "hydra/launcher=")


def _complete_benchmark(ctx: typer.Context, incomplete: str) -> list[str]:
    return _completed(ctx.params.get("what"), incomplete, BENCHMARKS)


EXAMPLES = {
    "train": {
        "bnrepro train experiment=digits": "a first try, in seconds",
        "bnrepro train experiment=fig1 norm=none seed=1": "Fig. 1 without batch normalization",
        "bnrepro train optimizer.lr=0.5 run.dir=runs/fast": "into a folder you name",
        "bnrepro train --cfg job": "all settings and their values",
    },
    "sweep": {
        "bnrepro sweep experiment=digits norm=batch,none seed=0,1,2": "six networks",
        "bnrepro sweep optimizer.lr=0.1,1 'seed=range(0,5)' --jobs 4": "four at a time",
    },
    "reproduce": {
        "bnrepro reproduce": "every claim in minutes, to see how it works",
        "bnrepro reproduce faster-training --scale paper": "one claim, as long as in the paper",
        "bnrepro reproduce hydra/launcher=submitit_slurm hydra.launcher.partition=gpu": "on Slurm",
    },
    "claims": {
        "bnrepro claims": "all of them",
        "bnrepro claims --json": "with their criteria, for scripts",
    },
    "runs": {
        "bnrepro runs --sort -test_accuracy": "the best first",
        "bnrepro runs outputs/sweep --only norm=batch": "those with batch normalization",
        "bnrepro runs --watch": "how far each is, until Ctrl-C",
        "bnrepro runs outputs/my-run": "one run in a paragraph, and the command that repeats it",
    },
    "compare": {"bnrepro compare runs/with-bn runs/without-bn": "two runs side by side"},
    "tensorboard": {
        "bnrepro tensorboard": "everything below outputs/",
        "bnrepro tensorboard outputs/sweep --open": "a sweep, in the browser at once",
    },
    "report": {
        "bnrepro report outputs/reproduce-smoke": "claims: report.html, report.md, results.json",
        "bnrepro report outputs/sweep --out drawn": "a sweep: a picture and a table",
        "bnrepro report outputs": "runs of Fig. 1, over the paper's points",
    },
    "bench": {
        "bnrepro bench layer": "one benchmark",
        "bnrepro bench loop experiment=digits": "of another network",
    },
    "data list": {"bnrepro data list": "what lies in data/"},
    "data fetch": {"bnrepro data fetch mnist": "into data/, checked"},
    "data import": {"bnrepro data import cifar10 ~/cifar-10-python.tar.gz": "without a network"},
    "data verify": {"bnrepro data verify mnist": "counts, shape and fingerprint"},
}
"""What to type, and what it does, at the end of a command's help."""


class Helped(TyperCommand):
    """A command whose help ends with examples and, where it trains, with what can be chosen."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write examples, then the groups of the configuration with their options."""
        with formatter.section("Examples"):
            command = ctx.command_path.partition(" ")[2]
            formatter.write_dl(list(EXAMPLES[command].items()), col_max=34)
        if self.name in ("train", "sweep"):
            from bnrepro.config import choices

            with formatter.section("Groups and their options"):
                for name, options in choices().items():
                    lines = wrap(", ".join(options), formatter.width - 16, break_on_hyphens=False)
                    formatter.write(
                        "".join(
                            f"  {n:<12}{t}\n" for n, t in zip_longest([name], lines, fillvalue="")
                        )
                    )


class ScaleName(StrEnum):
    """How long the runs of a claim are, and how many."""

    smoke = "smoke"
    short = "short"
    paper = "paper"


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Hydra overrides: a setting (optimizer.lr=0.5), an option of a group (norm=none), "
        "an experiment (experiment=fig1).",
        autocompletion=_complete_override,
        show_default=False,
    ),
]
ConfigDir = Annotated[
    Path | None,
    typer.Option(
        "--config-dir",
        help="A folder with configurations of your own.",
        metavar="DIR",
        callback=_home,
    ),
]
ShowConfig = Annotated[
    Shown | None, typer.Option("--cfg", help="Print the composed configuration and run nothing.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Claims = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CLAIM|KEY=VALUE",
        help="Claims, as 'bnrepro claims' lists them; by default every one. Then where to run "
        "them, as for a sweep (hydra/launcher=NAME).",
        autocompletion=_complete_claim,
        show_default=False,
    ),
]
StackSize = Annotated[
    int,
    typer.Option(
        "--stack",
        min=1,
        help="Train up to N networks that differ only in numbers (learning rates, initial scales, "
        "…) as one computation, the rest one by one.",
        metavar="N",
    ),
]
ClaimsDir = Annotated[
    Path | None,
    typer.Option(
        "--claims-dir",
        help="A folder with claims of your own, a Python file each. Its files are run.",
        metavar="DIR",
        callback=_add_claims,
    ),
]
Runs = Annotated[Path, typer.Argument(metavar="DIR", callback=_home, help="A folder of runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Name = Annotated[
    str, typer.Argument(help="mnist, cifar10, digits or folder.", autocompletion=_complete_dataset)
]
Published = Annotated[
    str, typer.Argument(help="mnist or cifar10.", autocompletion=_complete_published)
]
Root = Annotated[
    Path,
    typer.Option(
        "--root", help="Where data sets lie.", envvar="BNREPRO_DATA", metavar="DIR", callback=_home
    ),
]
Mirror = Annotated[
    str | None, typer.Option("--mirror", help="Another address to download from.", metavar="URL")
]
DATA = Path("data")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bnrepro {bnrepro.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Print the version.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    _help(ctx)


@data_app.callback(invoke_without_command=True)
def _help(ctx: typer.Context) -> None:
    """Data sets: list, download, import a copy, verify."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), nl=False)


@app.command(cls=Helped)
def train(
    overrides: Overrides = None,
    cfg: ShowConfig = None,
    config_dir: ConfigDir = None,
    multirun: Annotated[
        bool, typer.Option("-m", "--multirun", help="Take several values, as 'bnrepro sweep' does.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train one network and keep all of it in a run's folder.

    Without overrides: Fig. 1 of the paper with batch normalization.
    """
    from bnrepro.config.compose import compose, show
    from bnrepro.config.overrides import refuse_elsewhere
    from bnrepro.training import launch

    if multirun and cfg is None:
        sweep(overrides, config_dir, 1)
        return
    composed = compose(overrides or [], config_dir)
    if cfg is not None:
        _say(show(composed, cfg.value), nl=False)
        return
    refuse_elsewhere("train", overrides or [])
    folder, summary = launch.run(composed, _train, OUTPUTS)
    if summary is None:
        _say(f"finished already: {folder} (run.overwrite=true reruns it)")
    else:
        _say(_outcome(summary))
        if summary.get("studies"):
            _say(f"studies: {', '.join(summary['studies'])} in {folder / 'summary.json'}")
        _say(f"run: {folder}\nlook inside: bnrepro tensorboard {folder}")


def _train(config: Config, writer: RunWriter, stop: StopSignals) -> dict[str, Any]:
    from bnrepro.training import run

    return run.run(config, writer, stop)


def _outcome(summary: dict[str, Any]) -> str:
    if summary["diverged_at"] is not None:
        return f"diverged: the loss is not finite at step {summary['diverged_at']}"
    population = summary["population_test_accuracy"]
    inference = f" ({population:.4f} by Algorithm 2)" if population is not None else ""
    return f"test accuracy {summary['test_accuracy']:.4f}{inference} after {summary['steps']} steps"


@app.command(cls=Helped)
def sweep(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Members at a time; by default one.", metavar="N")
    ] = None,
    stack: StackSize = 1,
    debug: Debug = False,
) -> None:
    """Train a grid of networks.

    A setting takes several values as KEY=V1,V2, and as range(…), choice(…) or glob(…).

    Rerun, it runs only what is missing. hydra/launcher=submitit_slurm and =ray use a cluster.
    """
    from rich.console import Console

    from bnrepro.config.overrides import refuse_elsewhere
    from bnrepro.sweeps import launchers
    from bnrepro.sweeps import sweep as sweeps

    words = overrides or []
    refuse_elsewhere("sweep", words)
    launchers.refuse_both(jobs, words)
    outcome = sweeps.run(words, config_dir, OUTPUTS, Console(), jobs=jobs, stack=stack)
    table = outcome.results
    _members(table)
    _say(f"sweep: {table.folder}\ndraw it: bnrepro report {table.folder}")
    _say(f"look inside: bnrepro tensorboard {table.folder}")
    _fail(outcome.failures, len(table.rows), "members", table.folder, ".sweep/output")


def _members(table: Results) -> None:
    """Print the best members of a sweep."""
    from bnrepro.report.sweep import unlike_members
    from bnrepro.sweeps import sweep as sweeps

    _table(*sweeps.cells(table, SHOWN), spare=sweeps.spare(table))
    if len(table.rows) > SHOWN:
        _say(f"… and {len(table.rows) - SHOWN} more in {table.folder / 'results.csv'}")
    for line in unlike_members(table):
        _say(f"compared despite {line}")


def _fail(failures: dict[str, str], total: int, what: str, folder: Path, printed: str) -> None:
    """Print why each run failed, and end with exit code 1 if one did."""
    for name, reason in failures.items():
        _say(f"failed: {name}: {reason}", err=True)
    if failures:
        raise MembersFailedError(
            f"{len(failures)} of {total} {what} failed ({folder}): "
            f"see their output in {printed}; rerun the same command to retry them"
        )


@app.command("claims", cls=Helped)
def list_claims(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="CLAIM",
            help="One of them: everything about it.",
            autocompletion=_complete_claim,
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    claims_dir: ClaimsDir = None,
    debug: Debug = False,
) -> None:
    """List the paper's claims, or show one whole."""
    from bnrepro import claims
    from bnrepro.report import claims as told

    names = claims.ids() if name is None else [name]
    if name is None and not as_json:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in told.lines(names, width):
            _say(line)
        return
    from bnrepro.sweeps import grid

    steps = grid.steps(told.words(names))
    if as_json:
        rows = [told.row(each, steps) for each in names]
        _say(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else told.WIDTH
        _say(told.whole(names[0], steps, min(width, told.WIDTH)))


@app.command(cls=Helped)
def reproduce(
    names: Claims = None,
    scale: Annotated[
        ScaleName,
        typer.Option(help="smoke (minutes, not judged), short, or paper (the paper's own)."),
    ] = ScaleName.smoke,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; by default outputs/reproduce-SCALE, or pilot-SCALE.",
            metavar="DIR",
            callback=_home,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Seeds of every arm, instead of each claim's own.", metavar="N"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time; by default one per core.", metavar="N"),
    ] = None,
    pilot: Annotated[
        bool,
        typer.Option(
            "--pilot", help="One run of every arm, with a seed that no claim has: judges nothing."
        ),
    ] = False,
    stack: StackSize = 1,
    any_results: Annotated[
        bool,
        typer.Option(
            "--any-results", help="Take runs of other results or registrations as they are."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell how many runs are left, and how long they take.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before more than an hour's work.")
    ] = False,
    claims_dir: ClaimsDir = None,
    debug: Debug = False,
) -> None:
    """Put claims to the test and write the report.

    Makes missing runs first. Rerun, it resumes where it stopped.
    """
    from rich.console import Console

    from bnrepro import reproduce as reproducing

    ids = [word for word in names or [] if "=" not in word]
    launcher = [word for word in names or [] if "=" in word]
    folder = out or OUTPUTS / f"{'pilot' if pilot else 'reproduce'}-{scale.value}"
    console = Console()
    request = reproducing.request(
        ids, scale.value, folder, console, count=seeds, any_results=any_results, pilot=pilot
    )
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if dry_run or (terminal and not yes and not launcher and scale is not ScaleName.smoke):
        estimate = reproducing.estimate(request, console, jobs)
        _say(str(estimate))
        if dry_run or (estimate.seconds > HOUR and not typer.confirm("Begin?")):
            return
    outcome = reproducing.run(request, console, jobs=jobs, launcher=launcher, stack=stack)
    _verdicts(outcome.judgements)
    _say(f"report: {outcome.folder / 'report.html'}")
    _fail(outcome.failures, outcome.runs, "runs", outcome.folder, "runs/.sweep/output")


def _verdicts(judgements: dict[str, Judgement]) -> None:
    from bnrepro.report import verdicts

    columns = ("claim", "verdict", "effect", "interval", "margin", "runs")
    _table(columns, verdicts.rows(judgements), spare=("margin", "interval", "runs"))


@app.command(cls=Helped)
def runs(
    folder: Runs = OUTPUTS,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="List only runs of this setting or column (norm=batch, state=running).",
            metavar="KEY=VALUE",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Sort by a column of --json; -COLUMN: the greatest first.", metavar="COLUMN"
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every 2 seconds, until Ctrl-C.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List runs, their state, and how far they are.

    Of one run's own folder it tells what was trained, how it ended, and how to repeat it.
    """
    from bnrepro.report import card
    from bnrepro.report import runs as table
    from bnrepro.store import StoredRun

    run = StoredRun(folder)
    if run.exists() and not (only or sort or watch or as_csv or as_json):
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else LINE
        _say(card.card(run, min(room, LINE)))
        return
    rows = table.rows(folder, only or [], sort)
    if as_json or as_csv:
        _say(json.dumps(rows, indent=2) if as_json else table.as_csv(rows).rstrip())
    elif not rows:
        how = f"none is {' and '.join(only)}" if only else "'bnrepro train' makes one"
        _say(f"no runs ({folder}): {how}")
    elif watch and sys.stdout.isatty():
        _watch(lambda: table.rows(folder, only or [], sort))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        _table(*table.fitting(rows, width))


def _watch(rows: Callable[[], list[dict[str, Any]]]) -> None:
    """Show runs again and again until Ctrl-C; the last ones where not all have room."""
    from rich.live import Live

    from bnrepro.report import runs as table
    from bnrepro.report import terminal

    with Live(screen=True, auto_refresh=False) as live:
        try:
            while True:
                room = max(1, live.console.height - 2)
                columns, shown = table.fitting(rows()[-room:], live.console.width)
                drawn = terminal.draw(columns, shown, live.console.width)
                live.update(drawn, refresh=True)
                time.sleep(2)
        except KeyboardInterrupt:  # the told way to end it
            return


@app.command(cls=Helped)
def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Two runs' folders, or more.")
    ],
    debug: Debug = False,
) -> None:
    """Show what runs differ in, and what came out of each."""
    from bnrepro.errors import ConfigError, StorageError
    from bnrepro.report import runs as table
    from bnrepro.store import StoredRun

    runs = [StoredRun(folder.expanduser()) for folder in folders]
    if len(runs) < 2:
        raise ConfigError("a single run: give two, or more")
    for run in runs:
        if not run.exists():
            raise StorageError(f"no run ({run.folder}): 'bnrepro runs' lists those there are")
    names = [chr(ord("A") + number) for number in range(len(runs))]
    _table(("", *names), [list(row) for row in table.compare(runs)])
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
    for name, run in zip(names, runs, strict=True):
        title = f"test accuracy of {name}, 0 to 1: "
        if line := table.curve(run, max(10, min(60, terminal - len(title)))):
            _say(title + line)


def _say(text: str, nl: bool = True, err: bool = False) -> None:
    """Print a line, whatever a name in it holds."""
    typer.echo(printable(text), nl=nl, err=err)


def _table(columns: Sequence[str], rows: list[list[str]], spare: Sequence[str] = ()) -> None:
    from rich.console import Console

    from bnrepro.report import terminal

    # Into a pipe or a file a row is one line, whatever its length.
    console = Console(width=None if sys.stdout.isatty() else 1000)
    console.print(terminal.draw(columns, rows, console.width, spare))


@app.command(cls=Helped)
def tensorboard(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", callback=_home, help="A run's folder, or a folder of runs."),
    ] = OUTPUTS,
    port: Annotated[int, typer.Option(help="The port; 0 takes any free one.")] = 6006,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--open", help="Open a browser on it.")] = False,
    debug: Debug = False,
) -> None:
    """Open TensorBoard over a run or a folder of runs."""
    from bnrepro.report import tensorboard as board
    from bnrepro.store import find_runs, reproduction
    from bnrepro.training import tensorboard as events

    board.check_address(host, port)
    if reproduction.is_reproduction(folder):
        folder /= reproduction.RUNS  # else every name begins with it
    found = find_runs(folder)
    events.complete(found, _say)
    board.serve(folder, found, host, port, _say, browser=browser)


@app.command(cls=Helped)
def report(
    folder: Runs = OUTPUTS,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; by default DIR.", metavar="DIR", callback=_home),
    ] = None,
    as_table: Annotated[
        bool,
        typer.Option(
            "--table", help="Print the paper's experiments in DIR/results.json as Markdown."
        ),
    ] = False,
    claims_dir: ClaimsDir = None,
    debug: Debug = False,
) -> None:
    """Report on claims, a sweep or runs of the first figure.

    What DIR holds decides: claims put to the test, as runs or an archive of them, a sweep, or runs
    of Fig. 1, which are drawn next to the paper's.
    """
    if as_table:
        from bnrepro.report import results

        _say(results.table(results.read(folder), f"{folder}/report.md"), nl=False)
        return
    from bnrepro.report import fig1, verdicts
    from bnrepro.report import sweep as report_sweep
    from bnrepro.store import archive, reproduction
    from bnrepro.store import sweep as sweepfolder

    target = out or folder
    if reproduction.is_reproduction(folder) or archive.find(folder):
        _verdicts(verdicts.render(folder, target))
        written = [target / verdicts.HTML, target / verdicts.MARKDOWN]
    elif sweepfolder.is_sweep(folder):
        table = sweepfolder.read(folder)
        written = report_sweep.render(table, target)
        if table.complete:
            _say(table.complete)
        _members(table)
    else:
        found = fig1.read(folder)
        written = fig1.render(found, target)
        _table(fig1.COLUMNS, fig1.cells(found, "*"))
        _say("* drawn" + "".join(f"\n{note}" for note in found.notes))
    _say("written: " + " ".join(map(str, written)))


@app.command(cls=Helped)
def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|KEY=VALUE",
            help=f"Benchmarks ({', '.join(BENCHMARKS)}; by default all), then Hydra overrides.",
            autocompletion=_complete_benchmark,
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds: how often each side is timed.", metavar="N")
    ] = 5,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure what our own parts cost.

    The layer, a step, a run and starting are each timed in turns with what one would use instead.
    """
    from bnrepro.config.compose import compose

    names = [word for word in what or [] if "=" not in word]
    overrides = [word for word in what or [] if "=" in word]
    config = compose(["train.steps=5000", *overrides]).config
    from rich.console import Console

    from bnrepro import bench as benchmarks

    results: list[dict[str, Any]] = []
    with Console(stderr=True).status("measuring: run nothing else meanwhile") as status:
        for comparison in benchmarks.measure(names, config, rounds):
            results.append(comparison.to_dict())
            status.update(f"{comparison.name}: {results[-1]['ratio']:.3f}")
    if as_json:
        _say(json.dumps(results, indent=2))
        return
    columns = ("benchmark", "ours", "theirs", "ratio", "spread", "our ms", "their ms")
    _table(columns, [_measured(result) for result in results])


def _measured(result: dict[str, Any]) -> list[str]:
    return [
        *(str(result[key]) for key in ("name", "ours", "theirs")),
        f"{result['ratio']:.3f}",
        f"{result['ratio_min']:.3f} to {result['ratio_max']:.3f}",
        *(f"{result[key]:.3f}" for key in ("ours_milliseconds", "theirs_milliseconds")),
    ]


@data_app.command("list", cls=Helped)
def data_list(root: Root = DATA, as_json: Json = False, debug: Debug = False) -> None:
    """Show which data sets are here."""
    from bnrepro import data
    from bnrepro.errors import DataError

    if root != DATA and not root.is_dir():  # without data/ there is just nothing here yet
        raise DataError(f"no such folder ({root}): give one with --root or BNREPRO_DATA")
    entries = [dataclasses.asdict(entry) for entry in data.inventory(root)]
    if as_json:
        _say(json.dumps(entries, indent=2, default=str))
        return
    columns = ("name", "state", "train", "test", "where", "fingerprint")
    for entry in entries:
        entry["fingerprint"] = (entry["fingerprint"] or "")[:12]  # --json and verify have all 64
    _table(columns, [[as_text(entry[column]) for column in columns] for entry in entries])


@data_app.command("fetch", cls=Helped)
def data_fetch(
    name: Published, root: Root = DATA, mirror: Mirror = None, debug: Debug = False
) -> None:
    """Download a data set and check it."""
    from bnrepro import data
    from bnrepro.training.progress import transfer_progress

    with transfer_progress() as progress:
        data.fetch(name, root, mirror=mirror, progress=progress)
    data_verify(name, root, None)


@data_app.command("import", cls=Helped)
def data_import(
    name: Published,
    path: Annotated[
        Path,
        typer.Argument(
            callback=_home,
            help="The published files or archive, mnist.npz, class folders, or zips of them.",
        ),
    ],
    root: Root = DATA,
    debug: Debug = False,
) -> None:
    """Take over a copy of a data set, so that nothing has to be downloaded."""
    from bnrepro import data
    from bnrepro.training.progress import transfer_progress

    with transfer_progress() as progress:
        target = data.import_copy(name, path, root, progress=progress)
    _say(f"imported: {target}")


@data_app.command("verify", cls=Helped)
def data_verify(
    name: Name,
    root: Root = DATA,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Bring the images of folder to this size, as dataset.size does."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Read a data set whole and check it."""
    from bnrepro import data

    for entry in data.verify(name, root, size=size):
        _say(
            f"{entry.name}: sound, {entry.train} + {entry.test} images ({entry.state}, "
            f"{entry.where or 'bundled'}), fingerprint {entry.fingerprint}"
        )
        shape = " x ".join(map(str, entry.shape or ()))
        classes = ", ".join(f"{label} {of}" for label, of in enumerate(entry.classes))
        _say(f"  (channels, height, width) {shape}; classes: {classes}")
        for note in entry.notes:
            _say(f"  {note}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; every error becomes one line and an exit code (`errors.py`)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    asks = any(word in ("-h", "--help") or word.startswith("--cfg") for word in arguments)
    open_streams()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's or a desktop's, inherited, may not be here
    with views(working=not asks and arguments[:1] in [[name] for name in WORKING]):
        return _main(arguments)


def _main(arguments: list[str]) -> int:
    trace: Exception | None = None
    try:
        code = app(arguments, prog_name="bnrepro", standalone_mode=False) or 0
        if code != INTERRUPTED:  # typer turns Ctrl-C into this code
            return int(code)
        message = "interrupted"
    except Interrupted as error:
        key = {"sweep": "sweep.dir=", "reproduce": "--out "}.get(arguments[0], "run.dir=")
        folder = error.folder
        message = f"{error} ({folder}): rerun the same command with {key}{folder} to resume"
        code = error.exit_code
    except BnreproError as error:
        message, code, trace = str(error), error.exit_code, error
    except USAGE_ERROR as error:
        message, code, trace = _usage(error), 2, error
    except OSError as error:  # where nothing below knew better what to do
        where = error.filename or "no file was named"
        message, code, trace = f"{error.strerror or error} ({where}): make room there", 3, error
    except Exception as error:
        text = next(iter(str(error).strip().splitlines()), "")
        message, code = f"a bug in bnrepro: {type(error).__name__}: {text}", BUG
        message += ": try --debug and report it"
        memory = _NO_MEMORY.search(text)
        if memory or isinstance(error, MemoryError):
            needed = f" ({text[memory.start() :][:100]})" if memory else ""
            message = f"not enough memory{needed}: choose a smaller network or batch"
            code = 3
        trace = error
    if COMPLETING in os.environ:  # an error would be printed into the prompt
        return code
    if trace is not None and "--debug" in arguments:
        traceback.print_exception(trace)
    print(f"bnrepro: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


OTHERS_OPTIONS = {
    "-m": "'bnrepro sweep' takes several values",
    "--multirun": "'bnrepro sweep' takes several values",
    "-c": "--cfg job prints the configuration",
    "--cfg": "'bnrepro train --cfg job' prints the configuration of one run",
    "--resolve": "--cfg job prints the configuration, resolved",
    "--info": "--cfg all prints the configuration, with Hydra's own",
    "--hydra-help": "--cfg hydra prints Hydra's own settings",
    "--config-name": "choose an experiment by experiment=NAME",
    "--config-path": "give a folder by --config-dir DIR",
}
"""Options of Hydra's own command line, and what there is instead."""


def _usage(error: Any) -> str:
    where = f" ({error.ctx.command_path})" if error.ctx else ""
    option = getattr(error, "option_name", None)
    takes_settings = error.ctx and error.ctx.info_name in ("train", "sweep", "bench")
    advice = "see --help"
    if option in OTHERS_OPTIONS:
        advice = OTHERS_OPTIONS[option]
    elif takes_settings and str(option).startswith("--") and not getattr(error, "possibilities", 0):
        advice = f"write a setting without dashes, {str(option)[2:]}=VALUE"
    text = error.format_message().rstrip(".").replace("Value error, ", "")
    return f"{text}{where}: {advice}"
