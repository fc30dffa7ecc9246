"""The report in a browser: planted claims of every verdict, at both widths, dark, and printed."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import every_verdict
import pytest
from browsing import MARKS, opened
from browsing import browser as browser
from conftest import set_claims

from bnrepro.evidence.judge import Verdict
from bnrepro.report import verdicts

pytestmark = MARKS

Resize = Callable[..., None]

SHOWN = """
return [...document.querySelectorAll(arguments[0])]
  .filter((each) => each.checkVisibility()).map((each) => each.id || each.textContent.trim());
"""

CUT = """
const wide = document.documentElement.clientWidth;
return [...document.querySelectorAll('body *')].filter((each) => {
  if (!each.checkVisibility() || each.closest('.scroll')) return false;
  return each.getBoundingClientRect().right > wide + 1;
}).map((each) => each.tagName + ' ' + each.className + ' ' + each.textContent.slice(0, 40));
"""
"""What reaches beyond the page's right edge, but for tables that scroll."""

TORN = """
const torn = [];
for (const cell of document.querySelectorAll('.overview th, .overview td')) {
  if (!cell.checkVisibility()) continue;
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), range = new Range();
  for (let text; text = texts.nextNode();) {
    for (const word of text.data.matchAll(/[^\\s-]+/g)) {
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((line) => line.top)).size > 1) torn.push(word[0]);
    }
  }
}
return torn;
"""
"""Words of the table of all claims that stand on two lines."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verdicts")
    every_verdict.plant(folder)
    with pytest.MonkeyPatch.context() as patch:
        set_claims(patch, **every_verdict.CLAIMS)
        judgements = verdicts.render(folder, folder)
    for name, judgement in judgements.items():  # each verdict that a report of this scale can have
        assert judgement.verdict.lower() in every_verdict.CLAIMS[name].statement, name
    assert {*Verdict} - {j.verdict for j in judgements.values()} == {Verdict.NOT_JUDGED}
    return folder / "report.html"


@pytest.fixture
def resize(browser: Any, report: Path) -> Resize:
    """Open the page at a width, as a scheme or medium shows it."""

    def resized(width: int, media: str = "", scheme: str = "light") -> None:
        size = {"width": width, "height": 1500, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        media_ = {"media": media, "features": features}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media_)
        opened(browser, report.as_uri())

    return resized


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off(browser: Any, resize: Resize, width: int, scheme: str) -> None:
    resize(width, scheme=scheme)
    for folded in (True, False):
        if not folded:
            browser.execute_script(
                "document.querySelectorAll('details').forEach((each) => each.open = true)"
            )
        assert browser.execute_script(CUT) == []
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width
    assert len(browser.execute_script(SHOWN, "section h2")) == len(every_verdict.CLAIMS)


def test_dark_figures_have_light_text_on_dark_ground(browser: Any, resize: Resize) -> None:
    for scheme, least, most in (("light", 0, 60), ("dark", 200, 255)):
        resize(1400, scheme=scheme)
        color = browser.execute_script(
            "return getComputedStyle(document.querySelector('.panel svg text')).fill"
        )
        assert all(least <= int(part) <= most for part in re.findall(r"\d+", color)), color


def test_a_verdict_chosen_shows_its_claims_and_no_others(browser: Any, resize: Resize) -> None:
    resize(1400)
    everything = browser.execute_script(SHOWN, "section h2")
    assert everything == list(every_verdict.CLAIMS)
    browser.execute_script("document.querySelector('#only-inconclusive').click()")
    assert browser.execute_script(SHOWN, "section h2") == ["undecided", "neither"]
    assert browser.execute_script(SHOWN, ".overview td.claim a") == ["undecided", "neither"]
    assert browser.execute_script(SHOWN, ".contents .wide li[data-verdict]") == [
        "undecided",
        "neither",
    ]
    assert browser.execute_script(SHOWN, ".overview tr.group") == ["What the paper argues"]
    assert browser.execute_script(SHOWN, ".contents .wide strong") == ["what the paper argues"]
    browser.execute_script("document.querySelector('#only-all').click()")
    assert browser.execute_script(SHOWN, "section h2") == everything


def test_printed_on_paper_every_column_is_there_and_all_is_unfolded(
    browser: Any, resize: Resize
) -> None:
    resize(718, media="print")  # A4 less its margins, in pixels
    all_shown = CUT.replace(" || each.closest('.scroll')", "")  # on paper nothing scrolls
    assert browser.execute_script(all_shown) == []
    assert browser.execute_script(TORN) == []
    columns = browser.execute_script(SHOWN, ".overview th[scope=col]")
    assert [name.split()[0] for name in columns] == ["claim", "the", "here", "against", "both",
                                                     "verdict"]  # fmt: skip
    assert "column 13" in browser.execute_script(SHOWN, "section th")
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
    assert base64.b64decode(pdf["data"]).startswith(b"%PDF")


def test_every_heading_can_be_linked_to_and_every_link_leads_somewhere(
    browser: Any, resize: Resize
) -> None:
    resize(1400)
    missing = browser.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')]"
        ".filter((each) => !document.getElementById(each.getAttribute('href').slice(1))).length"
    )
    assert missing == 0
    assert browser.execute_script(
        "return [...document.querySelectorAll('h2')].every((each) => each.id && "
        "each.querySelector('a.anchor'))"
    )


def test_no_figure_needs_what_another_one_defines(browser: Any, resize: Resize) -> None:
    resize(1400)
    ids = browser.execute_script(
        "return [...document.querySelectorAll('[id]')].map((each) => each.id)"
    )
    assert len(ids) == len({*ids})


def test_numbers_appear_under_the_pointer(browser: Any, resize: Resize) -> None:
    resize(1400)
    seeds = browser.execute_script(SHOWN, "section:nth-of-type(1) .strip circle.seed")
    assert len(seeds) == every_verdict.SEEDS
    assert seeds[0] == "×2.3"
    titles = browser.execute_script(
        "return [...document.querySelectorAll('.panel title')].map((each) => each.textContent)"
    )
    assert "with BN: 0.9 at 100" in titles
    assert "here, wide: 1" in titles
