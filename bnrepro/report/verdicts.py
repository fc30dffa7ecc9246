"""The report of a reproduction: verdicts, figures and every number, from run folders alone.

Writes `report.md`, `report.html` (self-contained), `figures/` and `results.json`. All of it is a
function of the run folders, of the claims, and of the commits their files have; made twice it is
the same to the last byte.
"""

import base64
import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnrepro import claims
from bnrepro.evidence.claim import Check, Claim, Group
from bnrepro.evidence.exhibits import Exhibit, Figure, Table
from bnrepro.evidence.judge import Judged, Judgement, Verdict, judge
from bnrepro.evidence.literature import ARXIV
from bnrepro.evidence.registration import Registration, registration
from bnrepro.evidence.runs import CHANCE, TEST, Evidence, listed, seeds, unlike
from bnrepro.plots import png
from bnrepro.report.draw import draw
from bnrepro.report.format import bound, effect, interval, markdown, said, signed, spread
from bnrepro.store import StoredRun, atomic, reproduction
from bnrepro.store.reproduction import RUNS, AskedArm, Reproduction

MARKDOWN, HTML, RESULTS, FIGURES = "report.md", "report.html", "results.json", "figures"


@dataclass(frozen=True)
class ReportedClaim:
    """A claim and everything its report shows."""

    id: str
    claim: Claim
    judgement: Judgement
    evidence: Evidence
    file: str
    registration: Registration
    command: str
    began: str | None
    made: list[str]
    images: dict[str, dict[str, bytes]]  # of every figure by its name: its panels' files


def render(folder: Path, out: Path) -> dict[str, Judgement]:
    """Judge every claim of a reproduction and write the report into `out`.

    Raises:
        StorageError: what was reproduced there, or one of its runs, cannot be read.
        ConfigError: a claim is not there any more.
        OSError: the report cannot be written.
    """
    asked = reproduction.read(folder)
    shown = [_show(folder, asked, name) for name in asked.claims]
    judgements = {one.id: one.judgement for one in shown}
    atomic.make_folder(out / FIGURES)
    images = {
        path: data
        for one in shown
        for panels in one.images.values()
        for path, data in panels.items()
    }
    for left in set((out / FIGURES).glob("*.png")) - {out / path for path in images}:
        left.unlink()  # of a figure that there is no more
    for path, data in images.items():
        _write(out / path, data)
    view = {
        "scale": asked.scale,
        "claims": shown,
        "smoke": any(j.verdict == Verdict.NOT_JUDGED for j in judgements.values()),
    }
    _write(out / RESULTS, _results(asked, shown).encode())
    _write(out / MARKDOWN, _templates(False).get_template(f"{MARKDOWN}.j2").render(view).encode())
    _write(out / HTML, _templates(True).get_template(f"{HTML}.j2").render(view).encode())
    return judgements


def _write(path: Path, content: bytes) -> None:
    atomic.write(path, lambda file: file.write(content), durable=False)


def _images(claim: str, figure: Figure) -> dict[str, bytes]:
    """The figure's panels by the files they are written to."""
    name, many = f"{FIGURES}/{claim}-{figure.name}", len(figure.panels) > 1
    return {
        f"{name}-{number}.png" if many else f"{name}.png": png(draw(panel))
        for number, panel in enumerate(figure.panels, start=1)
    }


def _show(folder: Path, asked: Reproduction, name: str) -> ReportedClaim:
    claim = claims.load(name)
    arms = asked.claims[name]
    evidence = evidence_of(folder, asked.scale, claim, arms)
    judgement = judge(claim, evidence)
    source = claims.source(name)
    path = source.path
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
        registration(path) if path else Registration(""),
        f"bnrepro reproduce {name} --scale {asked.scale}{count}",
        began,
        [
            _amount(evidence, runs),
            *([f"The first began {began}."] if began else []),
            *_made_on(runs, asked.results[name], asked.data),
        ],
        {figure.name: _images(name, figure) for figure in _figures(judgement)},
    )


def _place(source: claims.Source) -> str:
    """A claim's file in bnrepro, or who else brings it."""
    if source.brought_by != "bnrepro" or source.path is None:
        return source.brought_by
    return f"bnrepro/claims/{source.path.name}"


def evidence_of(folder: Path, scale: str, claim: Claim, arms: Mapping[str, AskedArm]) -> Evidence:
    """The runs of a claim; those of an arm that was asked for otherwise than now count as none."""
    plan = claim.scales[scale]
    count = max((len(asked.runs) for asked in arms.values()), default=0)
    runs = {
        arm: tuple(StoredRun.read_once(folder / RUNS / run) for run in arms[arm].runs)
        for arm in plan.arms
        if arm in arms and arms[arm].words == plan.words(arm)
    }
    return Evidence(scale, seeds(count), runs)


def _amount(evidence: Evidence, runs: Sequence[StoredRun]) -> str:
    """How many runs there are, and what they took."""
    summaries = [summary for run in runs if (summary := run.summary())]
    diverged = sum(summary["status"] == "diverged" for summary in summaries)
    steps = sum(int(summary.get("steps") or 0) for summary in summaries)
    hours = sum(float(summary.get("wall_seconds") or 0) for summary in summaries) / 3600
    return (
        f"{len(evidence.runs)} arms × {len(evidence.seeds)} seeds: {len(summaries)} runs, "
        f"{diverged} diverged; {steps:,} steps, {hours:.1f} hours of computing."
    )


def _made_on(runs: Sequence[StoredRun], results: int, data: Mapping[str, str]) -> list[str]:
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
            f"have another results number than {results} (--any-results took them)",
            [
                run
                for run, manifest in manifest_of.items()
                if _each(manifest, "results") != {results}
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
            margin = bound(first.criterion.margin)
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
        ("Both tuned", finding.tuned, judgement.tuned),
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


def _templates(html: bool) -> Any:
    """Both kinds of template escape every value."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("bnrepro.report"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=None if html else markdown,
    )
    filters = (said, signed, bound, effect, interval, spread, table, arms, checks)
    environment.globals.update({function.__name__: function for function in filters})
    environment.globals["arxiv"] = ARXIV
    if html:
        environment.globals["data_uri"] = lambda image: (
            f"data:image/png;base64,{base64.b64encode(image).decode()}"
        )
    else:
        environment.filters["path"] = Markup
        environment.globals["code"] = lambda text: Markup(f"`{re.sub(r'[`|]', ' ', text)}`")
    return environment


# Numbers for scripts


def _results(asked: Reproduction, shown: Sequence[ReportedClaim]) -> str:
    results = {"scale": asked.scale, "claims": {one.id: _numbers(one) for one in shown}}
    return json.dumps(_plain(results), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _numbers(one: ReportedClaim) -> dict[str, Any]:
    claim, judgement, finding = one.claim, one.judgement, one.judgement.finding
    tuned = next(iter(judgement.tuned.values()), {}).get(claim.primary)
    numbers: dict[str, Any] = {
        "verdict": judgement.verdict.value,
        "statement": claim.statement,
        "section": claim.section,
        "group": claim.group.value,
        "reason": {"why": claim.why, "to_settle": claim.to_settle},
        "runs": judgement.present,
        "asked": judgement.asked,
        "began": one.began,
        "registered": {
            "digest": one.registration.digest,
            "commit": one.registration.sha,
            "date": one.registration.date,
        },
    }
    if finding is None:
        return numbers
    every = {name: _judged(of, claim) for name, of in judgement.criteria.items()}
    return numbers | {
        "primary": {
            "name": claim.primary,
            "expected": dataclasses.asdict(claim.expected),
            **every.pop(claim.primary),
        },
        "secondary": every,
        "tuned": _judged(tuned, claim) if tuned else None,
        "controls": {name: dataclasses.asdict(of) for name, of in finding.controls.items()},
        "paper": [
            {"what": c.what, "unit": c.unit, "paper": c.paper, "ours": c.ours, "distance": c.off}
            for c in finding.comparisons
        ],
        "choices": {
            choice: {name: _judged(of, claim) for name, of in criteria.items()}
            for choice, criteria in {**judgement.tuned, **judgement.unspecified}.items()
        },
        "tables": _tables(
            [e for check in (finding, finding.tuned, finding.unspecified) if check
             for e in check.exhibits]
        ),
    }  # fmt: skip


def _tables(exhibits: Sequence[Exhibit]) -> list[dict[str, Any]]:
    tables = [exhibit for exhibit in exhibits if isinstance(exhibit, Table)]
    return [{"caption": t.caption, "columns": t.columns, "rows": t.rows} for t in tables]


def _judged(judged: Judged, claim: Claim) -> dict[str, Any]:
    criterion, summary = judged.criterion, judged.summary
    shown = {summary.cut_off: summary.shown} if summary.cut_off else summary.shown
    return {
        "verdict": judged.verdict.value,
        "compared": criterion.compared,
        "unit": criterion.margin.unit,
        "margin": criterion.margin.value,
        "indifference": criterion.width,
        "equivalence": criterion.equivalence,
        "identity": claim.group is Group.IDENTITY,
        "effect": shown,
        "interval": summary.interval,
        "coverage": summary.coverage,
        "nominal": summary.images is not None,
        "effect_size": summary.size,
        "seeds": len(summary.effects),
        "per_seed": [_bounded(*bounds) for bounds in summary.bounds],
    }


def _bounded(least: float, greatest: float) -> Any:
    """One number, or what a run's end leaves of it."""
    if least == greatest:
        return least
    bounds = {"at_least": least, "at_most": greatest}
    return {name: bound for name, bound in bounds.items() if math.isfinite(bound)} or None


def _plain(value: Any) -> Any:
    """Containers and numbers as JSON has them; what is not finite by its name, such as "inf"."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
