"""The report of a reproduction: verdicts, figures and every number, from what is stored of runs.

Writes `report.md`, `report.html` (self-contained), `figures/` and `results.json`. All of it is a
function of the runs, of the claims, and of the commits their files have; made twice it is
the same to the last byte.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bnrepro import claims
from bnrepro.evidence.claim import Check, Claim, Group
from bnrepro.evidence.exhibits import Exhibit, Figure, Table
from bnrepro.evidence.judge import Judged, Judgement, Verdict, judge
from bnrepro.evidence.literature import ARXIV
from bnrepro.evidence.registration import registration
from bnrepro.evidence.runs import CHANCE, PILOT_SEED, TEST, Evidence, listed, seeds, unlike
from bnrepro.plots import svg
from bnrepro.report import marks, results
from bnrepro.report.draw import draw, numbers
from bnrepro.report.format import (
    asked_for,
    bound,
    coverage,
    effect,
    expected,
    interval,
    markdown,
    meaning,
    numbered,
    of_column,
    papers,
    plain,
    plain_effect,
    plain_interval,
    power,
    said,
    signed,
    spread,
)
from bnrepro.report.registered import Registered, made_at, registered
from bnrepro.store import StoredRun, atomic, git
from bnrepro.store.archive import Reproduced

STANDALONE = b"""<style>svg { color: #1b1b1b; background: white }
@media (prefers-color-scheme: dark) { svg { color: #e6e6e6; background: #16181a } }</style>
<defs>"""
"""What a figure has as a file, and takes from the page as part of one."""

MARKDOWN, HTML, FIGURES = "report.md", "report.html", "figures"


@dataclass(frozen=True)
class ReportedClaim:
    """A claim and everything its report shows."""

    id: str
    claim: Claim
    judgement: Judgement
    evidence: Evidence
    file: str
    registered: Registered
    command: str
    began: str | None
    made: list[str]
    images: dict[str, dict[str, bytes]]  # of every figure by its name: its panels' files
    notes: list[str]

    @property
    def primary(self) -> Judged | None:
        """The primary criterion judged, where there are runs."""
        return self.judgement.criteria.get(self.claim.primary)

    @property
    def tuned(self) -> Judged | None:
        """The same with both arms at their own best settings."""
        return next(iter(self.judgement.tuned.values()), {}).get(self.claim.primary)

    @property
    def power(self) -> str:
        """What the seeds can show of the primary criterion."""
        return power(self.claim, self.claim.scales[self.evidence.scale].seeds)

    @property
    def unmet(self) -> bool:
        """Whether the claim was judged, and did not hold."""
        return self.judgement.verdict not in (
            Verdict.REPRODUCED, Verdict.INCOMPLETE, Verdict.NOT_JUDGED,
        )  # fmt: skip

    @property
    def because(self) -> str:
        """Why it did not hold: the controls that failed, then the likeliest reason."""
        if not self.unmet:
            return ""
        failed = [of for of in self.judgement.controls.values() if not of.holds]
        controls = "; ".join(f"{of.text} ({of.seen})" if of.seen else of.text for of in failed)
        said = f"It is not so that {controls}. " if controls else ""
        return f"{said}{self.claim.why}".strip()

    @property
    def robust(self) -> str:
        """In how many of the choices gone over the primary criterion holds."""
        every = [*self.judgement.tuned.values(), *self.judgement.unspecified.values()]
        judged = [of[self.claim.primary].verdict for of in every if self.claim.primary in of]
        if not judged or self.judgement.verdict in (Verdict.INCOMPLETE, Verdict.NOT_JUDGED):
            return ""
        held = judged.count(Verdict.REPRODUCED)
        return f"Other choices gone over: by the same margin it holds in {held} of {len(judged)}."


def render(folder: Path | Reproduced, out: Path) -> dict[str, Judgement]:
    """Judge every claim of a reproduction and write the report into `out`.

    Args:
        folder: with run folders, or with an archive, or an archive itself.
        out: created if it is missing.

    Raises:
        StorageError: what was reproduced there, or one of its runs, cannot be read.
        ConfigError: a claim is not there any more.
        OSError: the report cannot be written.
    """
    reproduced = Reproduced(folder) if isinstance(folder, Path) else folder
    asked = reproduced.asked
    manifests = (reproduced.run(name).manifest() for name in asked.runs())
    commits = {str(at.get("sha")) for manifest in manifests for at in made_at(manifest)}
    ancestors = cache(lambda root: git.ancestors(root, commits))  # asked once of a checkout
    shown = [_show(reproduced, name, ancestors) for name in asked.claims]
    judgements = {one.id: one.judgement for one in shown}
    atomic.make_folder(out / FIGURES)
    images = {
        path: data
        for one in shown
        for panels in one.images.values()
        for path, data in panels.items()
    }
    for left in set((out / FIGURES).glob("*.*")) - {out / path for path in images}:
        left.unlink()  # of a figure that there is no more
    for path, data in images.items():
        _write(out / path, data.replace(b"<defs>", STANDALONE, 1))
    tally = Counter(judgement.verdict for judgement in judgements.values())
    facts = _facts(shown)
    view = {
        "scale": asked.scale,
        "claims": shown,
        "groups": [
            (group.value, members)
            for group in Group
            if (members := [one for one in shown if one.claim.group is group])
        ],
        "verdicts": list(Verdict),
        "tally": {verdict: tally[verdict] for verdict in Verdict if tally[verdict]},
        "facts": facts,
        "smoke": Verdict.NOT_JUDGED in tally,
    }
    _write(out / results.FILE, results.as_json(asked.scale, facts, shown).encode())
    _write(out / MARKDOWN, _templates(False).get_template(f"{MARKDOWN}.j2").render(view).encode())
    _write(out / HTML, _templates(True).get_template(f"{HTML}.j2").render(view).encode())
    return judgements


def _write(path: Path, content: bytes) -> None:
    atomic.write(path, lambda file: file.write(content), durable=False)


def _images(claim: str, figure: Figure) -> dict[str, bytes]:
    """The figure's panels by the files they are written to."""
    name, many = f"{FIGURES}/{claim}-{figure.name}", len(figure.panels) > 1
    names = [f"{name}-{n}.svg" if many else f"{name}.svg" for n in range(1, len(figure.panels) + 1)]
    drawings = draw(*figure.panels)
    return {file: svg(drawing, file) for file, drawing in zip(names, drawings, strict=True)}


def _show(
    reproduced: Reproduced, name: str, ancestors: Callable[[Path], Mapping[str, Set[str]]]
) -> ReportedClaim:
    claim, asked = claims.load(name), reproduced.asked
    evidence = evidence_of(reproduced, name, claim)
    judgement = judge(claim, evidence)
    source = claims.source(name)
    since = registration(source.path)
    before = ancestors(since.root) if since.root else {}
    wanted = claim.scales[asked.scale].seeds
    count = f" --seeds {len(evidence.seeds)}" if len(evidence.seeds) != wanted else ""
    runs = list(dict.fromkeys(run for arm in evidence.runs.values() for run in arm))
    began = min((str(m["began"]) for run in runs if "began" in (m := run.manifest())), default=None)
    return ReportedClaim(
        name,
        claim,
        judgement,
        evidence,
        _place(source),
        registered(since, runs, before),
        f"bnrepro reproduce {name} --scale {asked.scale}{count}",
        began,
        [
            _amount(evidence, runs),
            *([f"The first began {began}."] if began else []),
            *_made_on(runs, asked.results[name], asked.data),
        ],
        {figure.name: _images(name, figure) for figure in _figures(judgement)},
        claims.notes(name),
    )


def _place(source: claims.Source) -> str:
    """A claim's file in bnrepro, or who else brings it."""
    if source.brought_by != "bnrepro" or source.path is None:
        return source.brought_by
    return f"bnrepro/claims/{source.path.name}"


def evidence_of(reproduced: Reproduced, name: str, claim: Claim) -> Evidence:
    """The runs of a claim; those of an arm that was asked for otherwise than now count as none."""
    scale, arms = reproduced.asked.scale, reproduced.asked.claims[name]
    plan = claim.scales[scale]
    count = max((len(asked.runs) for asked in arms.values()), default=0)
    runs = {
        arm: tuple(map(reproduced.run, arms[arm].runs))
        for arm in plan.arms
        if arm in arms and arms[arm].words == plan.words(arm)
    }
    first = PILOT_SEED if reproduced.asked.pilot else claim.first_seed
    return Evidence(scale, seeds(count, first), runs)


def _amount(evidence: Evidence, runs: Sequence[StoredRun]) -> str:
    """How many runs there are, and what they took."""
    summaries = [summary for run in runs if (summary := run.summary())]
    diverged = sum(summary["status"] == "diverged" for summary in summaries)
    steps = sum(int(summary.get("steps") or 0) for summary in summaries)
    hours = sum(float(summary.get("wall_seconds") or 0) for summary in summaries) / 3600
    numbers = f" ({numbered(evidence.seeds)}; pilots: seed {PILOT_SEED})" if evidence.seeds else ""
    return (
        f"{len(evidence.runs)} arms × {len(evidence.seeds)} seeds{numbers}: "
        f"{len(summaries)} runs, {diverged} diverged; {steps:,} steps, {hours:.1f} hours of "
        "computing."
    )


def _made_on(runs: Sequence[StoredRun], number: int, data: Mapping[str, str]) -> list[str]:
    """On what the runs were made, a sentence each; those that were made otherwise are named."""
    sentences = []
    manifest_of = {run: manifest for run in runs if (manifest := run.manifest())}
    manifests = list(manifest_of.values())
    for what, values in (
        ("torch", [m.get("versions", {}).get("torch") for m in manifests]),
        ("Processor", [m.get("gpu") or m.get("cpu") for m in manifests]),
        ("Commit", [_revision(m.get("git")) for m in manifests]),
    ):
        names = sorted({str(value) for value in values if value})
        sentences += [f"{what}: {', '.join(names)}."] if names else []
    sentences += [f"{line[0].upper()}{line[1:]}." for line in unlike(manifest_of)]

    def read_other(manifest: Mapping[str, Any]) -> bool:
        images = manifest.get("dataset") or {}
        expected = data.get(str(images.get("name")))
        return expected is not None and images.get("fingerprint") != expected

    for what, which in (
        (
            f"have another results number than {number} (--any-results took them)",
            [
                run
                for run, manifest in manifest_of.items()
                if _each(manifest, "results") != {number}
            ],
        ),
        (
            "read other images than their data set has (--any-results took them)",
            [run for run, manifest in manifest_of.items() if read_other(manifest)],
        ),
        (
            "were resumed although something differed, and count as missing",
            [run for run in manifest_of if run.drift()],
        ),
    ):
        if which:
            them = listed([run.folder.name for run in which])
            sentences.append(f"{len(which)} of these runs {what}: {them}.")
    return sentences


def _facts(shown: Sequence[ReportedClaim]) -> dict[str, str]:
    """What all runs were made on and with, for the head of the report."""
    runs = {run for one in shown for arm in one.evidence.runs.values() for run in arm}
    manifests = [manifest for run in runs if (manifest := run.manifest())]
    images = [manifest.get("dataset") or {} for manifest in manifests]
    versions = [
        {"bnrepro": m.get("bnrepro"), "python": m.get("python"), **(m.get("versions") or {})}
        for m in manifests
    ]
    days = sorted(str(m["began"])[:10] for m in manifests if "began" in m)
    facts = {
        "data": {
            f"{of['name']} ({str(of.get('fingerprint'))[:12]})" for of in images if of.get("name")
        },
        "runs": {f"{len(runs):,}"},
        "made": {" to ".join(dict.fromkeys([days[0], days[-1]]))} if days else set(),
        "machine": {str(of) for m in manifests if (of := m.get("gpu") or m.get("cpu"))},
        "versions": {
            f"{name} {of[name]}"
            for of in versions for name in ("bnrepro", "torch", "python") if of.get(name)
        },
        "commits": {str(of) for m in manifests if (of := _revision(m.get("git")))},
    }  # fmt: skip
    return {name: ", ".join(sorted(values)) for name, values in facts.items() if values}


def _each(manifest: Mapping[str, Any], fact: str) -> set[Any]:
    """What a fact was when a run began, and whenever it was resumed."""
    return {manifest.get(fact), *(again.get(fact) for again in manifest.get("resumes", ()))}


def _revision(git: Mapping[str, Any] | None) -> str | None:
    return f"{git['sha'][:12]}{' with changes' if git['dirty'] else ''}" if git else None


def _figures(judgement: Judgement) -> list[Figure]:
    finding = judgement.finding
    if finding is None:
        return []
    checks = [check.exhibits for check in (finding.tuned, finding.unspecified) if check]
    exhibits = [exhibit for group in (finding.exhibits, *checks) for exhibit in group]
    return [exhibit for exhibit in exhibits if isinstance(exhibit, Figure)]


def rows(judgements: Mapping[str, Judgement]) -> list[list[str]]:
    """Claim, verdict, effect, interval, margin and runs of each, for a terminal."""
    lines = []
    for name, judgement in judgements.items():
        numbers = ["", "", ""]
        if judgement.criteria:
            first = next(iter(judgement.criteria.values()))
            margin = bound(first.criterion)
            numbers = [effect(first), interval(first), margin]
        present = f"{judgement.present} of {judgement.asked}"
        lines.append([name, judgement.verdict.value, *numbers, present])
    return lines


def table(exhibit: Exhibit) -> Table | None:
    """An exhibit that is a table."""
    return exhibit if isinstance(exhibit, Table) else None


def checks(judgement: Judgement) -> list[tuple[str, Check, Mapping[str, Mapping[str, Judged]]]]:
    """What else was asked: a heading, the check, and its variations judged."""
    finding = judgement.finding
    if finding is None:
        return []
    all_ = (
        ("Both tuned: each arm at its own best setting", finding.tuned, judgement.tuned),
        ("What the paper leaves open, varied", finding.unspecified, judgement.unspecified),
    )
    return [(heading, check, judged) for heading, check, judged in all_ if check is not None]


def arms(one: ReportedClaim) -> Table:
    """Every arm: how it is typed, and what became of it."""
    rows = []
    plan = one.claim.scales[one.evidence.scale]
    for arm, runs in one.evidence.runs.items():
        summaries = [summary for run in runs if (summary := run.summary())]
        finals = [CHANCE if s["status"] == "diverged" else s[TEST] for s in summaries]
        states = [s["status"] for s in summaries]
        rows.append(
            (arm, " ".join(plan.words(arm)), f"{len(summaries)} of {len(runs)}",
             states.count("diverged"), spread(finals, "accuracy"))
        )  # fmt: skip
    return Table("", ("arm", "overrides", "runs", "diverged", "test accuracy"), rows)


def slug(words: str) -> str:
    """Words as the name of a class of HTML."""
    return re.sub(r"\W+", "-", words.lower())


def _templates(html: bool) -> Any:
    """Both kinds of template escape every value."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=PackageLoader("bnrepro.report"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=None if html else markdown,
    )
    functions = (
        said, of_column, signed, bound, asked_for, effect, papers, interval, coverage, spread,
        meaning, plain, plain_effect, plain_interval, expected, table, arms, checks, slug, numbers,
        marks.strip,
    )  # fmt: skip
    environment.globals.update({function.__name__: function for function in functions})
    environment.globals["forest_row"] = marks.row
    environment.globals["arxiv"] = ARXIV
    if html:
        # A list of numbers, which has no spaces, may be broken at its commas.
        environment.globals["breaking"] = lambda text: (
            escape(text).replace(",", Markup(",<wbr>")) if "[" in text else text
        )
        environment.globals["inline"] = lambda image: Markup(image.decode())
    else:
        environment.filters["path"] = Markup
        environment.globals["code"] = lambda text: Markup(f"`{re.sub(r'[`|]', ' ', text)}`")
    return environment
