"""Claims put to the test: which runs they need, those that are missing, the verdicts, the report.

Runs are shared: what two claims ask for in the same configuration is one run. A run that is there,
of this configuration, on this data, with this results number, and that lists its claims as they are
registered now, is not made again; nor is one that is in the archive, where a reproduction leaves
what was read of every run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from bnrepro import claims, data
from bnrepro import config as c
from bnrepro.errors import ConfigError, NotArchivedError
from bnrepro.evidence.claim import PAPER, Claim
from bnrepro.evidence.judge import Judgement
from bnrepro.evidence.registration import digest_of
from bnrepro.evidence.runs import PILOT_SEED, is_result, seeds
from bnrepro.report import verdicts
from bnrepro.store import StoredRun, archive, reproduction, sweep
from bnrepro.store.archive import ArchivedRun, Reproduced
from bnrepro.store.reproduction import RUNS, AskedArm, Reproduction
from bnrepro.store.sweep import Member
from bnrepro.sweeps import cost, launchers, stacks
from bnrepro.sweeps.grid import configurations, folder_name
from bnrepro.sweeps.launchers import LauncherChoice
from bnrepro.sweeps.progress import SweepProgress, compose_progress
from bnrepro.terminal import duration
from bnrepro.training import environment
from bnrepro.training.signals import StopSignals

SAID_FIRST = ("norm.name", "optimizer.lr", "init.scale", "seed")
"""Settings that every run's folder is named by."""

SAID_LAST = ("studies", "train.steps", "dataset.name")
"""Settings that tell few runs of a scale apart: they are said where there is room left."""

NOT_SAID = (
    "train.log_every", "train.eval_every", "train.test_every", "train.checkpoint_every",
    "train.compile", "probe.", "predictions", "dataset.validation", "augment.flip", "augment.shift",
    "model.stem_stride", "norm.population_batches", c.FINGERPRINT,
)  # fmt: skip
"""Settings that a run's folder is not named by, though they make it another run."""

UNCOMMITTED = (
    "warning: changes are not committed: nothing will show which code made these runs, and the "
    "report will name them"
)


@cache
def _known() -> dict[str, data.Known]:
    """Every data set whose content is known beforehand, by its name."""
    every = {name: data.known(name) for name in c.options_of("dataset")}
    return {name: known for name, known in every.items() if known is not None}


@dataclass(frozen=True)
class Outcome:
    """What became of it: the claims judged, and what ended each run that failed."""

    folder: Path
    judgements: dict[str, Judgement]
    runs: int
    failures: dict[str, str]


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Args:
        scale: one of `claim.SCALES`.
        out: the folder, which keeps what was reproduced there before at the same scale.
        before: what that was.
        arms: of every claim, with the names of their runs.
        members: all those runs, each once.
        taken: whether the claims take what a run's folder holds.
        pilot: whether the runs have the pilots' seed.
    """

    scale: str
    out: Path
    before: Reproduction
    arms: Mapping[str, Mapping[str, AskedArm]]
    members: Sequence[Member]
    taken: Callable[[StoredRun], bool]
    pilot: bool


def request(
    ids: Sequence[str],
    scale: str,
    out: Path,
    console: Console,
    *,
    count: int | None = None,
    any_results: bool = False,
    pilot: bool = False,
) -> Request:
    """What claims ask for. Nothing is written.

    Args:
        ids: of the claims; none means every one.
        scale: one of `claim.SCALES`.
        out: the folder.
        console: to tell how far it is.
        count: how many seeds, where not as many as each claim says.
        any_results: take runs of another results number or registration, or on other data, for what
            they are.
        pilot: one run of every arm, with the pilots' seed.

    Raises:
        ConfigError: a claim is unknown, the folder holds something else, or a pilot is to have
            several seeds.
    """
    if pilot and count is not None:
        raise ConfigError(f"a pilot has one seed (--pilot, --seeds {count}): give one of them")
    asked = {name: claims.load(name) for name in ids or claims.ids()}
    out, registered = out.absolute(), registrations()
    before = _before(out, scale, pilot)

    def seeds_of(claim: Claim) -> tuple[int, ...]:
        if pilot:
            return (PILOT_SEED,)
        return seeds(count or claim.scales[scale].seeds, claim.first_seed)

    arms, members = _members(asked, scale, seeds_of, registered, console)
    # Between two pilots a claim changes: their runs are taken however it was registered.
    taken = _taken(arms, registered, any_results or pilot)
    return Request(scale, out, before, arms, members, taken, pilot)


def run(
    request: Request,
    console: Console,
    *,
    jobs: int | None = None,
    launcher: Sequence[str] = (),
    stack: int = 1,
) -> Outcome:
    """Run what the claims lack, judge them, and write the report.

    Args:
        request: what is asked for.
        console: to tell how far it is.
        jobs: how many runs at a time; if None, as many as there are cores.
        launcher: overrides that choose one of Hydra's launchers instead, and set it.
        stack: how many runs that differ in numbers only train together as one computation.

    Raises:
        ConfigError: there is no such way to run them; nothing has run.
        StorageError: the folder cannot be written.
        Interrupted: a signal asked to stop; every run's state is kept.
    """
    launchers.refuse_both(jobs, launcher)
    choice = launchers.choose(launcher) if launcher else None
    out, before, arms, members = request.out, request.before, request.arms, request.members
    with sweep.written(out, "--out"):
        kept = [name for name in before.claims if name not in arms and name in claims.ids()]
        everything = {name: before.claims[name] for name in kept} | {**arms}
        results = {name: before.results[name] for name in kept}
        results |= dict.fromkeys(arms, c.RESULTS_NUMBER)
        known = {name: known.fingerprint for name, known in _known().items()}
        every = dict(sorted(everything.items()))
        wanted = Reproduction(request.scale, results, every, known, request.pilot)
        reproduction.write(out, wanted)
        archived = _archived(request)
        while True:
            if archived:
                console.print(f"{len(archived)} runs are in the archive", highlight=False)
            if missing := [member for member in members if member.name not in archived]:
                _run(request, missing, choice, jobs, stack, console)
            reproduced = Reproduced(out, {m.name: m.name in archived for m in members})
            try:
                judgements = verdicts.render(reproduced, out)
                break
            except NotArchivedError as error:  # the claim did not read it before: it needs the runs
                others = archived - _runs_beside(wanted, error.run)
                if others == archived:
                    raise
                again = f"{len(archived - others)} of them are made again"
                console.print(f"{again}: the archive lacks {error.what}", highlight=False)
                archived = others
        archive.write(out, reproduced, _made())
    failures = {
        member.name: sweep.what_ended(out / RUNS, member.name)
        for member in members
        if not is_result(reproduced.run(member.name))
    }
    return Outcome(out, judgements, len(members), failures)


@dataclass(frozen=True)
class Estimate:
    """What a reproduction would take: runs, those left, their steps, seconds and bytes."""

    runs: int
    left: int
    steps: int
    seconds: float
    bytes: int
    at_once: str

    def __str__(self) -> str:
        if not self.left:
            return f"{self.runs:,} runs, all of them done"
        return (
            f"{self.runs:,} runs, {self.left:,} of them to be made: {self.steps:,} steps, about "
            f"{duration(self.seconds)} on this machine ({self.at_once}) and "
            f"{self.bytes / 2**20:,.0f} MB"
        )


def estimate(request: Request, console: Console, jobs: int | None = None) -> Estimate:
    """What `run` would make, and what that takes here: a few steps of each kind are timed.

    Nothing is written.
    """
    members, archived = request.members, _archived(request)
    missing = [member for member in members if member.name not in archived]
    planned, pending = _planned(request, missing)
    left = [planned[index] for index in pending]
    jobs = _choose(jobs, len(left)).jobs
    seconds, size = cost.total(left, cost.measure(left, console) if left else {})
    steps = sum(int(member.config["train"]["steps"]) for member in left)
    return Estimate(len(members), len(left), steps, seconds / jobs, size, at_once(jobs))


def at_once(jobs: int) -> str:
    """How many runs train at a time, in words."""
    return f"{jobs} runs at a time" if jobs > 1 else "one run at a time"


def _before(out: Path, scale: str, pilot: bool) -> Reproduction:
    """What was asked for in this folder before."""
    if not (reproduction.is_reproduction(out) or archive.is_in(out)):
        if out.is_dir() and any(out.iterdir()):
            raise ConfigError(f"not empty and no reproduction ({out}): choose another --out")
        return Reproduction(scale, {}, {}, pilot=pilot)
    earlier = Reproduced(out).asked
    if earlier.scale != scale:
        raise ConfigError(
            f"reproduced at scale '{earlier.scale}' ({out}): choose another --out for '{scale}'"
        )
    if earlier.pilot != pilot:
        here, wanted = ("a pilot", "claims") if earlier.pilot else ("no pilot", "a pilot")
        raise ConfigError(f"{here} was run ({out}): choose another --out for {wanted}")
    return earlier


def _members(
    asked: Mapping[str, Claim],
    scale: str,
    seeds_of: Callable[[Claim], tuple[int, ...]],
    registered: Mapping[str, str],
    console: Console,
) -> tuple[dict[str, dict[str, AskedArm]], list[Member]]:
    """The arms of every claim with their runs' folders, and all those runs, each once."""
    plans = {name: claim.scales[scale] for name, claim in asked.items()}
    words = list(dict.fromkeys(plan.words(arm) for plan in plans.values() for arm in plan.arms))
    with compose_progress(len(words), console) as on_progress:
        default, *configs = configurations([(), *words], on_progress)
    plain, composed = c.identifying_settings(default), dict(zip(words, configs, strict=True))
    members: dict[str, Member] = {}
    arms: dict[str, dict[str, AskedArm]] = {}
    for name, plan in plans.items():
        arms[name] = {}
        for arm in plan.arms:
            names = []
            for seed in seeds_of(asked[name]):
                words_of = (*plan.words(arm), *plan.own_words(arm, seed))
                config = plan.config(arm, composed[plan.words(arm)], seed)
                member = _member(words_of, config, plain)
                members.setdefault(member.name, replace(member, registered=dict(registered)))
                names.append(member.name)
            arms[name][arm] = AskedArm(plan.words(arm), tuple(names))
    return arms, list(members.values())


def _member(words: tuple[str, ...], config: dict[str, Any], plain: Mapping[str, Any]) -> Member:
    """A run of an arm, its folder named by what is not as it would be without any override.

    What arms differ in comes first: a name that is too long is cut.
    """
    every, settings = c.flat(config), c.identifying_settings(config)
    other = [name for name, value in settings.items() if plain.get(name) != value]
    other.sort(key=lambda name: (name in SAID_LAST, name != "model.dropout"))
    chosen = {
        name.removesuffix(".name"): _said(every[name])
        for name in dict.fromkeys((*SAID_FIRST, *other))
        if not name.startswith(NOT_SAID)
    }
    return Member(folder_name(chosen, config), words, {}, config)


def _said(value: object) -> str:
    """A setting's value in a name: 0.07, 3x100 for three layers of 100 units."""
    if isinstance(value, list):
        same = len(value) > 1 and len(set(value)) == 1
        return f"{len(value)}x{value[0]}" if same else "-".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def registrations() -> dict[str, str]:
    """The digest of every claim that has a file: runs are shared, with claims yet to be asked."""
    paths = {name: claims.source(name).path for name in claims.ids()}
    return {name: digest_of(path) for name, path in paths.items() if path}


def _taken(
    arms: Mapping[str, Mapping[str, AskedArm]], registered: Mapping[str, str], any_results: bool
) -> Callable[[StoredRun], bool]:
    """Whether the claims take what a run's folder holds: always, with `any_results`.

    It is made as it would be now, and lists its claims as they are registered; or it has yet to
    begin.
    """
    digests_of: dict[str, set[str]] = {}
    for claim in arms.keys() & registered.keys():
        for run in {run for arm in arms[claim].values() for run in arm.runs}:
            digests_of.setdefault(run, set()).add(registered[claim])

    def taken(run: StoredRun) -> bool:
        if any_results:
            return True
        manifest = run.manifest()
        listed = manifest.get("registered", {}).values()
        lists = not manifest or all(of in listed for of in digests_of.get(run.folder.name, ()))
        return lists and made_alike(run)

    return taken


def _archived(request: Request) -> set[str]:
    """Which runs are in the archive alone, and would be made no otherwise now."""
    names = [member.name for member in request.members]
    reproduced = Reproduced(request.out, dict.fromkeys(names, True))
    return {
        member.name
        for member in request.members
        if isinstance(run := reproduced.run(member.name), ArchivedRun)
        and is_result(run)
        and not sweep.another(run, member)
        and request.taken(run)
    }


def _runs_beside(asked: Reproduction, run: str) -> set[str]:
    """All runs of the claims that have this one."""
    of_claims = (
        {run for arm in arms.values() for run in arm.runs} for arms in asked.claims.values()
    )
    return set().union(*(runs for runs in of_claims if run in runs))


def _made() -> dict[str, Any]:
    """When a reproduction is made, and on what, for the archive."""
    facts = environment.facts(environment.resolve_device(c.Device.cpu))
    names = ("bnrepro", "git", "python", "versions", "platform", "cpu", "cores")
    return {"date": facts["began"], **{name: facts[name] for name in names}}


def _run(
    request: Request,
    members: Sequence[Member],
    choice: LauncherChoice | None,
    jobs: int | None,
    stack: int,
    console: Console,
) -> None:
    """Run those that are missing, and those that are not what would be made now."""
    folder, (planned, pending) = request.out / RUNS, _planned(request, members)
    registered = request.scale == PAPER and not request.pilot
    if pending and registered and (environment.revision() or {}).get("dirty"):
        console.print(UNCOMMITTED, highlight=False, soft_wrap=True)
    digest = sweep.write_members(folder, planned)
    groups = stacks.group(planned, pending, stack)
    if stack > 1:
        console.print(stacks.describe(groups), highlight=False)
    if choice is None:
        choice = _choose(jobs, len(groups))
        if len(groups) > 1:
            console.print(at_once(choice.jobs), highlight=False)
    with StopSignals() as stop, SweepProgress("reproduce", folder, planned, pending, console):
        launchers.run(choice, folder, digest, groups, stop)


def _planned(request: Request, members: Sequence[Member]) -> tuple[list[Member], list[int]]:
    """The members as they are to be run, and the numbers of those that are, the longest first."""
    folder, taken = request.out / RUNS, request.taken
    planned = [
        _overwriting(member) if _to_be_made(StoredRun(folder / member.name), taken) else member
        for member in members
    ]
    pending = [
        index for index, member in enumerate(planned)
        if member.config["run"]["overwrite"]
        or not sweep.finished(folder, member, any_results=True)
    ]  # fmt: skip
    # At the end no core waits for a long one that began last.
    pending.sort(key=lambda index: -int(planned[index].config["train"]["steps"]))
    return planned, pending


def _to_be_made(run: StoredRun, taken: Callable[[StoredRun], bool]) -> bool:
    """Whether what a folder holds is no run that a claim can take."""
    return bool(run.damaged() or run.drift()) or not taken(run)


def made_alike(run: StoredRun) -> bool:
    """Whether a folder's run has today's results number and read the data sets as we know them.

    A folder that holds nothing yet has nothing to the contrary.
    """
    manifest = run.manifest()
    if not manifest:
        return run.summary() is None
    dataset = manifest.get("dataset") or {}
    known = _known().get(str(dataset.get("name")))
    same_data = known is None or dataset.get("fingerprint") == known.fingerprint
    return same_data and not c.other_results(manifest)


def _overwriting(member: Member) -> Member:
    config = {**member.config, "run": {**member.config["run"], "overwrite": True}}
    return replace(member, config=config)


def _choose(jobs: int | None, pending: int) -> LauncherChoice:
    """Some runs at a time here; if nobody says how many, one a core."""
    return LauncherChoice(jobs=min(jobs or launchers.cores(), max(1, pending)))
