"""Which signals ask a run to stop, and how often they have to be sent."""

import os
import signal
from collections.abc import Iterator

import pytest

from bnrepro.errors import Interrupted
from bnrepro.training.signals import STOPPING, StopSignals


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Tests in a script's background may be deaf to some."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_raises_an_interruption(number: signal.Signals) -> None:
    with StopSignals() as stop:
        with stop.deferred():
            os.kill(os.getpid(), number)
        assert stop.received == number
    with StopSignals(), pytest.raises(Interrupted) as caught:
        os.kill(os.getpid(), number)
    assert caught.value.exit_code == 128 + number


def test_a_second_hangup_does_not_end_a_run_at_once() -> None:
    with StopSignals() as stop, stop.deferred():
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert stop.received == signal.SIGTERM


def test_an_ignored_hangup_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.received is None
