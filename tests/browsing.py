"""A headless Chromium for tests that look at pages; where there is none, they are skipped."""

import os
import resource
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
selenium = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install '.[test]'")
waits = pytest.importorskip("selenium.webdriver.support.wait")

MARKS = [
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="no chromium and chromedriver here"),
    pytest.mark.skipif(
        resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY,
        reason="the address space is limited, and a browser reserves a great deal of it",
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser whose window is 1400 × 2600 pixels."""
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,2600"):
        options.add_argument(word)
    service = selenium.ChromeService(DRIVER, log_output=os.devnull)
    driver = selenium.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def opened(driver: Any, page: str) -> None:
    """Open a page, and wait until all of it is read: the driver may come back before."""
    driver.get("about:blank")  # else a page that is open already may only be scrolled
    driver.get(page)
    waits.WebDriverWait(driver, 60).until(
        lambda driver: driver.execute_script("return document.readyState") == "complete"
    )
