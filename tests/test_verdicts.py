"""The report of a reproduction: the same each time, whole in itself, nothing in it unescaped."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from planting import Planted, arms_of, learning, plant_of, write

from bnrepro import claims
from bnrepro.cli import main
from bnrepro.config import RESULTS_NUMBER
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, PaperNumber, Plan
from bnrepro.evidence.exhibits import Bars, Curves, Figure, HeatMap, Line, Table
from bnrepro.evidence.judge import Verdict, judged
from bnrepro.evidence.runs import seeds
from bnrepro.report import draw, marks, verdicts
from bnrepro.report import format as words
from bnrepro.reproduce import registrations
from bnrepro.store import reproduction
from bnrepro.store.reproduction import AskedArm, Reproduction

HOSTILE = "</td><script>alert(1)</script> & \"'| a_b *c* [x](http://evil.example) `d`"


def reproduced(folder: Path, scale: str, plans: Mapping[str, Claim], plant_for=plant_of) -> None:
    """A folder as `bnrepro reproduce` leaves it, but for the report; every claim holds."""
    asked, registered = {}, registrations()
    for name, claim in plans.items():
        arms = {}
        for number, (arm, config) in enumerate(arms_of(claim, scale).items()):
            of_seeds = seeds(claim.scales[scale].seeds, claim.first_seed)
            names = tuple(f"{name}-{number}-{seed}" for seed in of_seeds)
            for seed, run in zip(of_seeds, names, strict=True):
                own = {**config, "seed": seed}
                stored = write(folder / "runs" / run, own, plant_for(name)(arm, own, seed, True))
                manifest = {
                    "results": RESULTS_NUMBER,
                    "code": "c" * 64,
                    "began": f"2026-01-{seed}",
                    "cpu": "one",
                    "versions": {"torch": "9"},
                    "git": {"sha": "f" * 40, "dirty": False},
                    "registered": registered,
                }
                (stored.folder / "manifest.json").write_text(json.dumps(manifest))
            arms[arm] = AskedArm(claim.scales[scale].words(arm), names)
        asked[name] = arms
    reproduction.write(folder, Reproduction(scale, dict.fromkeys(asked, RESULTS_NUMBER), asked))


def digests(folder: Path) -> dict[str, str]:
    written = [path for path in folder.rglob("*") if path.is_file() and "runs" not in path.parts]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in written
    }


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every claim of the project at `short`, all of them holding."""
    folder = tmp_path_factory.mktemp("everything")
    reproduced(folder, "short", {name: claims.load(name) for name in claims.ids()})
    assert main(["report", str(folder)]) == 0
    return folder


SOME = ("faster-training", "init-robustness", "scale-invariance")  # figures of every kind


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of them."""
    folder = tmp_path_factory.mktemp("some")
    reproduced(folder, "short", {name: claims.load(name) for name in SOME})
    assert main(["report", str(folder)]) == 0
    return folder


def test_a_report_made_twice_is_the_same_to_the_byte(some: Path, tmp_path: Path) -> None:
    assert main(["report", str(some), "--out", str(tmp_path)]) == 0
    there = digests(some)
    there.pop("reproduce.json")
    assert digests(tmp_path) == there
    assert {"report.md", "report.html", "results.json"} < set(there)


@pytest.mark.slow
@pytest.mark.reliability
def test_every_claim_has_its_verdict_in_all_three(everything: Path) -> None:
    results = json.loads((everything / "results.json").read_text())
    assert results["scale"] == "short"
    assert set(results["claims"]) == set(claims.ids())
    texts = [(everything / name).read_text() for name in ("report.md", "report.html")]
    for name, found in results["claims"].items():
        claim = claims.load(name)
        assert found["verdict"] == found["primary"]["verdict"] == "REPRODUCED", name
        assert found["statement"] == claim.statement
        seeds = claim.scales["short"].seeds
        assert found["primary"]["seeds"] == len(found["primary"]["per_seed"]) == seeds
        assert found["runs"] == found["asked"] == len(claim.scales["short"].arms) * seeds
        assert [found["primary"]["name"], *found["secondary"]] == list(claim.criteria)
        for text in texts:
            assert f"bnrepro reproduce {name} --scale short" in text
    rows = re.findall(r"^\| \[([\w-]+)\]\(#\1\): .* \| \*\*(.*?)\*\* \|$", texts[0], re.M)
    assert sorted(rows) == [(name, "REPRODUCED") for name in claims.ids()]


def test_a_table_for_a_readme_is_made_from_the_results(
    some: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["report", str(some), "--table"]) == 0
    printed = capsys.readouterr().out
    found = json.loads((some / "results.json").read_text())["claims"]
    rows = re.findall(r"^\| \[(.*?)\]\((.*?)#([\w-]+)\) \| .* \| (.*?) \|$", printed, re.M)
    said = found["faster-training"]["statement"]
    assert rows == [(said, f"{some}/report.md", "faster-training", "REPRODUCED")]
    low, high = found["faster-training"]["primary"]["interval"]
    assert f"(×{2**low:.3g}" in printed or low == high
    assert "\nWhat the paper argues: 1 REPRODUCED.\n" in printed  # init-robustness
    assert "\nIdentities: 1 REPRODUCED.\n" in printed  # scale-invariance
    assert main(["report", str(tmp_path), "--table"]) == 3
    assert "results.json" in capsys.readouterr().err


class Page(HTMLParser):
    """Everything that a browser would load, and whether tags are balanced."""

    VOID = ("meta", "img", "br", "hr", "input", "wbr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        found = dict(attributes)
        self.loads += [found[name] or "" for name in ("src", "srcset", "data") if name in found]
        self.loads += [found["href"] or ""] if tag == "link" else []
        self.ids += [found["id"] or ""] if "id" in found else []
        self.targets += [found["href"] or ""] if tag == "a" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    assert page.open == []
    return page


def test_the_page_loads_nothing_from_elsewhere(some: Path) -> None:
    page = parsed(some / "report.html")
    assert page.loads == []
    assert page.tags.count("svg") > 10
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    text = (some / "report.html").read_text()
    assert not re.search(r"url\((?!#)|@import|xlink:href=\"(?!#|data:image/png)", text)
    assert all(target.startswith(("#", "https://arxiv.org/abs/")) for target in page.targets)
    assert {target[1:] for target in page.targets if target[0] == "#"} >= {*SOME, "results"}
    assert set(SOME) <= set(page.ids)


def test_the_page_has_the_figures_that_lie_beside_it(some: Path) -> None:
    page, markdown = (some / "report.html").read_text(), (some / "report.md").read_text()
    files = sorted((some / "figures").iterdir())
    assert files
    assert set(re.findall(r"!\[.*?\]\((.*?)\)", markdown)) == {f"figures/{p.name}" for p in files}
    for path in files:
        figure = path.read_text()
        start = figure.index("<defs>")
        assert figure[start:] in page
        ElementTree.fromstring(figure)  # well-formed


# One claim of our own, to see what is shown of it

PANELS = (
    Curves("curves", "step", "y", (
        Line("a", [1, 2, 3], [1.0, np.inf, np.nan], [0.0, 0.0, 0.0], [2.0, 2.0, 2.0]),
        Line("b, paper", [1, 2], [0.5, 0.6], points=True, like="a"),
    ), log_x=True, log_y=True, limits=(0.1, 10.0), levels=(1.0,)),
    HeatMap("map", "x", "y", [0.1, "two"], [1, 2, 3], [[0.1, np.nan], [0.5, 0.6], [1.0, np.inf]]),
    Bars("bars", "y", ["one", "two"], {"a": [1.0, np.nan], "b": [2.0, 3.0]},
         {"a": [(0.5, 1.5), (np.nan, np.nan)], "b": [(1.0, 2.5), (3.0, 3.0)]}),
)  # fmt: skip


def test_logarithmic_axes_have_their_numbers_as_text() -> None:
    lines = [Line("a", list(range(1, 20)), np.geomspace(2e-7, 0.5, 19))]
    [figure] = draw.draw(Curves("", "x", "y", lines, log_x=True, log_y=True))
    figure.draw_without_rendering()
    [axes] = figure.axes
    labels = {
        axis: [
            label.get_text()
            for minor in (False, True)
            for label in axis.get_ticklabels(minor=minor)
            if label.get_text()
        ]
        for axis in (axes.xaxis, axes.yaxis)
    }
    assert {"1", "10"} <= set(labels[axes.xaxis])
    assert {"10⁻⁶", "0.01"} & set(labels[axes.yaxis])
    assert not any("$" in text for texts in labels.values() for text in texts)
    values = (2e-5, 1e-4, 0.002, 0.5, 20, 30_000, 1e5, 4e7)
    assert [draw.log_label(value) for value in values] == [
        "2·10⁻⁵", "0.0001", "0.002", "0.5", "20", "30,000", "10⁵", "4·10⁷",
    ]  # fmt: skip


def odd(effect: float = 2.0) -> Claim:
    """A claim that shows one of everything, under a text that no page should take for its own."""
    check = Check(
        HOSTILE,
        {f"other {HOSTILE}": {"a": [0.1, 0.2, 0.3]}},
        exhibits=(Table("t", ("x",), [(1,)]),),
    )
    finding = Finding(
        {"a": [effect, effect + 1, math.inf]},
        comparisons=(
            PaperNumber(f"steps {HOSTILE}", "steps", 15_000.0, [20_000.0, math.inf, 10_000.0]),
            PaperNumber("curve", "accuracy", distance=0.0123),
        ),
        exhibits=(
            Figure("all", HOSTILE, PANELS),
            Table(HOSTILE, (HOSTILE, "n"), [(HOSTILE, 1.23456), (None, math.inf)]),
        ),
        tuned=check,
        unspecified=check,
    )
    return Claim(
        statement=f"It holds. {HOSTILE}", section=HOSTILE, paper_says=HOSTILE, unspecified=HOSTILE,
        criteria={"a": Criterion(HOSTILE, Margin(1.0, "doublings"), HOSTILE, paper=2.5)},
        scales={"short": Plan(3, {HOSTILE: ("dataset=digits",)})},
        measure=lambda evidence: finding,
        later={HOSTILE: HOSTILE},
    )  # fmt: skip


def plain(name: str):
    def plant(arm: str, config: dict, seed: int, holds: bool) -> Planted:
        return learning(config, 0.9, 10)

    return plant


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The report of the odd claim, under the name of a claim there is."""
    monkeypatch.setattr(claims, "load", lambda name: odd())
    reproduced(tmp_path, "short", {"faster-training": odd()}, plain)
    verdicts.render(tmp_path, tmp_path)
    return tmp_path


def test_every_text_is_escaped(shown: Path) -> None:
    html = (shown / "report.html").read_text()
    assert "script" not in parsed(shown / "report.html").tags
    assert "evil.example" in html
    assert not any("evil" in target for target in parsed(shown / "report.html").targets)
    markdown = (shown / "report.md").read_text()
    assert "<script" not in markdown.replace("\\<script", "")
    assert "](http://evil" not in markdown.replace("\\](http://evil", "")


def test_rows_have_as_many_cells_as_their_heads(shown: Path) -> None:
    lines = (shown / "report.md").read_text().splitlines()
    rules = [number for number, line in enumerate(lines) if re.fullmatch(r"\|[ |-]+\|", line)]
    assert len(rules) >= 6
    for rule in rules:
        table = [lines[rule - 1]]
        for line in lines[rule:]:
            if not line.startswith("|"):
                break
            table.append(line)
        assert len({len(re.findall(r"(?<!\\)\|", line.rstrip())) for line in table}) == 1, table


def test_the_section_of_a_claim(shown: Path) -> None:
    markdown = (shown / "report.md").read_text()
    assert "| steps" in markdown
    assert "| +2.5 doublings (×5.66) | +3 doublings (×8) | +2 to +∞" in markdown
    assert "| 15,000 | 20,000 (10,000 to never) | +5,000 | steps |" in markdown
    assert "| curve |  |  | 0.0123 | accuracy |" in markdown
    assert "+3 doublings (×8) | +2 to +∞" in markdown
    assert "| NO EFFECT |" in markdown  # the variation
    assert "3 runs, 0 diverged" in markdown
    assert "The first began 2026-01-10. torch: 9. Processor: one. Commit: ffffffffffff." in markdown
    assert "1.235" in markdown
    results = json.loads((shown / "results.json").read_text())
    assert results["facts"] == {
        "runs": "3", "made": "2026-01-10 to 2026-01-12", "machine": "one", "versions": "torch 9",
        "commits": "ffffffffffff",
    }  # fmt: skip
    page = re.sub(r"<.*?>", " ", (shown / "report.html").read_text())
    for name, fact in results["facts"].items():
        assert f"\n- {name}: {fact}\n" in markdown
        assert f" {name}  {fact} " in page
    found = results["claims"]["faster-training"]
    primary = found["primary"]
    assert (primary["interval"], primary["coverage"]) == ([2.0, "inf"], 0.75)
    assert primary["per_seed"] == [2.0, 3.0, "inf"]
    assert found["tuned"]["verdict"] == "NO EFFECT"
    [choice] = found["choices"].values()
    assert choice["a"]["verdict"] == "NO EFFECT"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"code": "d" * 64}, "Different code: cccccccccccc (2 runs); dddddddddddd ("),
        ({"results": 0}, f"1 of these runs have another results number than {RESULTS_NUMBER} "),
    ],
)
def test_runs_of_other_code_or_results_are_named(
    shown: Path, change: dict[str, object], told: str
) -> None:
    assert told not in (shown / "report.md").read_text()
    path = next((shown / "runs").iterdir()) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    verdicts.render(shown, shown)
    assert told in (shown / "report.md").read_text()


def test_a_removed_run_makes_the_claim_incomplete_and_removes_its_figures(shown: Path) -> None:
    assert list((shown / "figures").iterdir())
    next((shown / "runs").iterdir()).rename(shown / "elsewhere")
    judgements = verdicts.render(shown, shown)
    assert judgements["faster-training"].verdict == Verdict.INCOMPLETE
    for name in ("report.md", "report.html"):
        assert "2 of 3 runs" in (shown / name).read_text()
        overview = re.split("## faster-training\n|<section ", (shown / name).read_text())[0]
        assert "×5.66" in overview  # the paper's number needs no runs
    assert not list((shown / "figures").iterdir())
    results = json.loads((shown / "results.json").read_text())["claims"]["faster-training"]
    assert (results["verdict"], results["runs"]) == ("INCOMPLETE", 2)
    assert (results["primary"]["effect"], results["primary"]["margin"]) == (None, 1.0)


def test_an_arm_with_other_overrides_counts_as_missing(
    shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(odd(), scales={"short": Plan(3, {HOSTILE: ("dataset=digits", "norm=none")})})
    monkeypatch.setattr(claims, "load", lambda name: other)
    found = verdicts.render(shown, shown)["faster-training"]
    assert (found.verdict, found.present, found.asked) == (Verdict.INCOMPLETE, 0, 3)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234.0, "steps", "1,234"), (math.inf, "steps", "never"), (-math.inf, "steps", "−∞"),
        (math.inf, "times", "∞"), (0.97, "accuracy", "0.9700"), (-0.5, "", "−0.5"),
        (1e-5, "", "10⁻⁵"), (12, "", "12"), (None, "steps", ""), ("as it is", "", "as it is"),
    ],
)  # fmt: skip
def test_numbers_in_words(value: float | str | None, unit: str, text: str) -> None:
    assert words.said(value, unit) == text


@pytest.mark.parametrize(
    ("decades", "text"),
    [(0.3, "×2"), (3.026, "×1,060"), (6, "×10⁶"), (7.771, "×5.9·10⁷"), (-12, "×10⁻¹²")],
)
def test_a_ratio_of_any_size_is_shown_without_e(decades: float, text: str) -> None:
    assert words.plain(decades, "decades") == text


def test_markdown_keeps_the_spaces_around_a_text() -> None:
    assert words.markdown(" (a_b)\n c, ") == r" (a\_b) c, "


def test_the_legend_says_which_line_is_outside_the_axis() -> None:
    drawn = [Line("low", [1, 2], [0.1, 0.2]), Line("seen", [1, 2], [0.1, 0.95])]
    [figure] = draw.draw(Curves("", "x", "y", drawn, limits=(0.9, 1.0)))
    [axes] = figure.axes
    assert axes.get_legend_handles_labels()[1] == ["low (below)", "seen"]


def test_the_papers_number_stands_in_the_table_and_in_the_row() -> None:
    with_it = Criterion("a ÷ b", Margin(1.0, "doublings"), "why", paper=1.5)
    without = replace(with_it, paper=None)
    assert (words.papers(with_it), words.papers(without)) == ("+1.5 doublings (×2.83)", "")
    marked, unmarked = (marks.row(judged(of, [1.5, 1.5, 1.5])) for of in (with_it, without))
    assert marked is not None
    assert marked.paper == marked.at
    assert marked.at not in marked.margins
    assert unmarked is not None
    assert unmarked.paper is None
    both = marks.row(judged(replace(without, equivalence=True), [1.5, 1.5, 1.5]))
    assert both is not None
    assert both.margins == [*unmarked.margins, 100 - unmarked.margins[0]]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.0, "doublings", "×2"), (-math.inf, "decades", "×0"), (-3.0, "digits", "−3 digits"),
        (0.0093, "accuracy", "+0.93 points"), (-4e-5, "accuracy", "0 points"),
        (0.086, "of the errors", "+8.6 % of the errors"),
    ],
)  # fmt: skip
def test_an_effect_as_a_reader_thinks_of_it(value: float, unit: str, text: str) -> None:
    assert words.plain(value, unit) == text


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (1.0, 2.0, "doublings", "×2 to ×4"), (-math.inf, 2.0, "doublings", "up to ×4"),
        (1.0, math.inf, "doublings", "×2 to ×∞"), (1.0, 1.0, "doublings", "×2"),
        (-0.01, 0.02, "accuracy", "−1.00 to +2.00 points"),
        (-3.0, -2.0, "digits", "−3 to −2 digits"),
        (0.09307, 0.1779, "of the errors", "+9.3 % to +17.8 % of the errors"),
        (-4e-5, 0.178, "of the errors", "0 % to +17.8 % of the errors"),
    ],
)  # fmt: skip
def test_an_interval_as_a_reader_thinks_of_it(
    low: float, high: float, unit: str, text: str
) -> None:
    assert words.plain_between(low, high, unit) == text


@pytest.mark.parametrize(
    ("margin", "effects", "shown"),
    [
        (Margin(0.003, "accuracy"), [-0.0125, 0.0061, 0.0061],
         ("+0.61 points", "−1.25 to +0.61", "+0.30")),
        (Margin(0.003, "accuracy"), [-4e-5] * 3, ("0 points", "0 to 0", "+0.30")),
        (Margin(1.0, "doublings"), [1.5, 1.5, 2.0],
         ("+1.5 doublings (×2.83)", "+1.5 to +2", "+1")),
    ],
)  # fmt: skip
def test_an_effect_has_its_unit_and_interval_and_margin_are_in_it(
    margin: Margin, effects: list[float], shown: tuple[str, str, str]
) -> None:
    of = judged(Criterion("a − b", margin, "why"), effects)
    assert (words.effect(of), words.interval(of), words.bound(of.criterion)) == shown
    both = replace(of.criterion, equivalence=True)
    assert words.bound(both) == shown[2].replace("+", "±")


def test_bars_are_not_behind_their_legend() -> None:
    heights = {f"a name that is long: {n}": [1.0, 1.0] for n in range(4)}
    [figure] = draw.draw(Bars("", "steps", ["wide", "deep"], heights))
    figure.draw_without_rendering()
    [legend], [axes] = figure.legends, figure.axes
    box, frame = legend.get_window_extent(), axes.get_tightbbox()
    assert frame is not None
    assert box.y1 <= frame.y0
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert axes.bbox.height > figure.bbox.height / 3


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        ([*range(10, 101, 10)], ["10", "20", "30", "40", "50", "60", "", "80", "", "100"]),
        ([0.02, 0.1, 0.5], ["0.02", "0.1", "0.5"]),
        ([0.1], ["0.1"]),
        ([640, 2560, 10_240], ["640", "2,560", "10,240"]),
    ],
)
def test_labels_of_a_logarithmic_axis_do_not_overlap(x: list[float], shown: list[str]) -> None:
    [figure] = draw.draw(Curves("", "step", "norm", [Line("a", x, x)], log_x=True))
    figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == shown
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_the_ticks_of_shares_are_short() -> None:
    line = marks.strip(judged(Criterion("a", Margin(0.1, "of the errors"), "why"), [0.2, 0.4]))
    assert line is not None
    assert [tick.text for tick in line.ticks][:2] == ["0 %", "+20 %"]


@pytest.mark.parametrize(("axis", "whole"), [("hidden layer", True), ("step", False)])
def test_nothing_stands_between_two_layers(axis: str, whole: bool) -> None:
    panel = Curves("", axis, "norm", [Line("a", [1, 2, 3], [1.0, 2.0, 3.0])])
    [figure] = draw.draw(panel)
    ticks = figure.axes[0].get_xticks()
    assert all(float(tick).is_integer() for tick in ticks) == whole


def test_arms_look_the_same_everywhere_and_lines_differ_in_grey() -> None:
    one, two = draw.looks(["without BN", "with BN"]), draw.looks(["with BN", "x", "without BN"])
    assert {name: two[name] for name in one} == one
    many = draw.looks([str(number) for number in range(12)])
    assert len(set(many.values())) == 12
    mixed = draw.looks(["with BN", "a", "b", "without BN"]).values()
    for parts in zip(*mixed, strict=True):
        assert len(set(parts)) == 4


def test_what_two_panels_show_looks_the_same_in_both() -> None:
    """Where there are colors for all; else, and where nothing is in both, each has its own."""

    def colors(*panels: Iterable[str]) -> list[list[str]]:
        lines = [[Line(label, [1, 2], [0, 1]) for label in labels] for labels in panels]
        drawn = draw.draw(*(Curves("", "x", "y", of) for of in lines))
        legends = [figure.axes[0].get_legend_handles_labels()[0] for figure in drawn]
        return [[str(line.get_color()) for line in legend] for legend in legends]

    [one, two] = colors(["a", "b", "c"], ["c", "b"])
    assert two == [one[2], one[1]]
    first, second = colors("abcdefg", "ghijklm")
    assert len(set(first)) == len(set(second)) == 7
    assert colors("ab")[0] == colors("cd", "ab")[1]
