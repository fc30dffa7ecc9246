"""TensorBoard in a browser: what one sees of real runs of both networks, with and without BN."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsing import MARKS, opened
from browsing import browser as browser
from conftest import ROOT

from bnrepro.cli import main

pytestmark = MARKS

MLP = ("dataset=digits", "train.steps=60", "train.log_every=10", "train.eval_every=20",
       "probe.every=20", "probe.size=100", "init.scale=0.2")  # fmt: skip
INCEPTION = ("experiment=cifar10-inception", "dataset=digits", "dataset.limit=300",
             "train.steps=6", "train.eval_every=2", "train.checkpoint_every=6", "probe.every=2",
             "probe.size=20", "train.compile=false", "studies=[]")  # fmt: skip

DEEP = """
const found = [];
const walk = (root) => {
  for (const element of root.querySelectorAll('*')) {
    if (element.matches(arguments[0])) found.push(element);
    if (element.shadowRoot) walk(element.shadowRoot);
  }
};
walk(document);
const what = arguments[1];
const text = (each) => (each.shadowRoot || each).textContent;
return found.map((each) => what === 'text' ? text(each) : each.getAttribute(what));
"""
"""Every element of a selector, in whatever shadow tree: an attribute of it, or its text."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses that `bnrepro tensorboard` prints: the board's, then those of pages."""
    folder = tmp_path_factory.mktemp("browser")
    for name, words in {"mlp": MLP, "inception": INCEPTION}.items():
        for norm in ("batch", "none"):
            run = [*words, f"norm={norm}", f"run.dir={folder / f'{name}-{norm}'}"]
            assert main(["train", *run]) == 0
    line = [sys.executable, "-m", "bnrepro", "tensorboard", str(folder), "--port", "0"]
    board = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert board.stdout is not None
    printed = "".join(board.stdout.readline() for _ in range(3))
    yield re.findall(r"http://\S+", printed)
    board.terminate()
    board.communicate()


def seen(browser: Any, selector: str, what: str, enough: Callable[[list[str]], bool]) -> list[str]:
    """What there is of a selector, as soon as it is enough; or after a minute, whatever it is."""
    values: list[str] = []
    limit = time.monotonic() + 60
    while time.monotonic() < limit and not enough(values):
        time.sleep(0.5)
        values = [value for value in browser.execute_script(DEEP, selector, what) if value]
    return values


def drawn(paths: list[str]) -> list[str]:
    """Paths that have lines in them, all of numbers."""
    assert not any("NaN" in path for path in paths)
    return [path for path in paths if len(re.findall("[LC]", path)) >= 2]


def test_the_first_page_shows_how_far_distributions_shift(browser: Any, pages: list[str]) -> None:
    opened(browser, pages[1])
    lines = seen(browser, "path.line", "d", lambda paths: len(drawn(paths)) >= 12)
    assert len(drawn(lines)) >= 12  # two arms of two networks, three layers each
    shown = " ".join(seen(browser, "tf-card-heading", "text", lambda texts: len(texts) >= 6))
    for layer in ("sigmoid1", "sigmoid2", "sigmoid3", "1 conv1.relu"):
        assert f"covariate shift/from the start/{layer}" in shown


def test_the_second_page_has_bands_of_each_run(browser: Any, pages: list[str]) -> None:
    opened(browser, pages[2])
    bands = seen(browser, "path.area", "d", lambda paths: len(drawn(paths)) >= 12)
    assert len(drawn(bands)) >= 12  # several bands in each of many charts
    shown = " ".join(seen(browser, "tf-card-heading", "text", lambda texts: len(texts) >= 6))
    for run in ("mlp-batch", "mlp-none", "inception-batch", "inception-none"):
        assert run in shown
    assert "one unit/1 conv1.relu, typical" in shown
    assert "NaN" not in shown


def test_the_histograms_and_the_first_tab_are_not_empty(browser: Any, pages: list[str]) -> None:
    opened(browser, f"{pages[0]}#histograms&tagFilter=typical%24")
    ridges = seen(browser, "vz-histogram-timeseries", "text", lambda texts: len(texts) >= 4)
    assert len(ridges) >= 4
    opened(browser, pages[0])
    cards = seen(browser, "card-view, scalar-card", "text", lambda texts: len(texts) >= 2)
    assert any("accuracy/test" in card for card in cards)
    assert not any("NaN" in card for card in cards)
