"""What holds for every test."""

import signal
from collections.abc import Iterator

import pytest
import torch

from a3c import machine

# A session that was started in the background ignores these, and so would every program that the
# tests start and interrupt: programs inherit what is ignored.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is 2 threads of 16 agents in every test, whatever the machine has."""
    monkeypatch.setattr(machine, "physical_cores", lambda: 2)
    monkeypatch.setattr(machine, "has_gpu", lambda: False)


@pytest.fixture
def one_thread_per_operation() -> Iterator[None]:
    """As in training, where small operations would wait for threads; afterwards as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
