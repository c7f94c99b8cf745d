"""What holds for every test."""

import signal

import pytest

from a3c import machine

# A session that was started in the background ignores these, and so would every program that the
# tests start and interrupt: programs inherit what is ignored.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--num-threads auto` is 2 in every test, however many cores there are."""
    monkeypatch.setattr(machine, "physical_cores", lambda: 2)
