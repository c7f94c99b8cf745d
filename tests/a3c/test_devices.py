"""What may be asked for as a device, and what is said of what is not there; without a GPU."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from a3c import devices
from a3c.devices import ToDevice, pick_device, pick_devices, pick_precision, room_for
from a3c.errors import InputError
from a3c.presets import preset

CPUINFO = Path("/proc/cpuinfo")


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)


def test_only_the_tests_of_gpus_see_one() -> None:
    assert not torch.cuda.is_available()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""  # of the programs that tests start


@pytest.mark.parametrize(("gpus", "found"), [(0, "cpu"), (2, "cuda")])
def test_auto(gpus: int, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, gpus)
    assert pick_device("auto").type == found
    assert pick_device("cpu") == torch.device("cpu")


def test_all_gpus_or_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 3)
    assert [str(device) for device in pick_devices("cuda")] == ["cuda:0", "cuda:1", "cuda:2"]
    assert pick_devices("auto") == pick_devices("cuda")
    assert [str(device) for device in pick_devices("cuda:2,cuda:0")] == ["cuda:2", "cuda:0"]
    with pytest.raises(InputError, match="expected each device once"):
        pick_devices("cuda:1,cuda:1")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3", "cuda:0,cuda:1"])
def test_cuda_asked_for_and_absent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 0)
    with pytest.raises(InputError, match="torch finds no CUDA device; try --device cpu"):
        pick_device(name)


def test_an_index_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 11)
    assert pick_device("cuda:10") == torch.device("cuda", 10)


@pytest.mark.parametrize("index", [2, 10, 10**30])
def test_an_index_that_is_not_there(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 2)
    with pytest.raises(InputError, match=f"--device is 'cuda:{index}'; expected cuda:0 to cuda:1"):
        pick_device(f"cuda:{index}")


@pytest.mark.parametrize(
    "name",
    ["gpu", "CUDA", "cpu:0", "cpu:", "cuda:", "cuda:-1", "cuda:²", "cuda:٣", "cuda:0 ",
     "cuda:0\n", "cuda0", "cuda::0", "cuda:0,", "cuda:0,1", "cuda,cpu", "mps", ""],
)  # fmt: skip
def test_what_is_no_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 4)
    with pytest.raises(InputError, match="expected auto, cpu, cuda, cuda:0 or cuda:0,cuda:1"):
        pick_device(name)


@pytest.mark.parametrize("avx512", [False, True])
@pytest.mark.parametrize("amx", [False, True])
def test_a_processor_multiplies_bfloat16_with_either(
    avx512: bool, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    assert devices.cpu_multiplies_bfloat16() == (avx512 or amx)


@pytest.mark.skipif(not CPUINFO.exists(), reason="Linux says what its processor can do")
def test_this_processor_multiplies_bfloat16_if_linux_says_so() -> None:
    flags = CPUINFO.read_text().split()
    can = "avx512_bf16" in flags or "amx_bf16" in flags
    assert devices.cpu_multiplies_bfloat16() == can
    found = torch.bfloat16 if can else torch.float32
    assert pick_precision(preset("fast"), torch.device("cpu")) == found


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("fast", "found"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_where_the_hardware_multiplies_it(
    device: str, fast: bool, found: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_multiplies_bfloat16", lambda: fast == (device == "cpu"))
    ampere = fast == (device == "cuda")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (8, 0) if ampere else (7, 5))
    here = torch.device(device)
    assert pick_precision(preset("fast"), here) == found
    for asked in ("float32", "bfloat16"):
        assert pick_precision(preset("fast", precision=asked), here) == getattr(torch, asked)


@pytest.mark.parametrize(
    "fault",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),  # as a CUDA graph is made
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_full_gpu_is_named(fault: RuntimeError) -> None:
    config = preset("fast", num_threads=2, num_envs=8192)
    expected = "2 x 8,192 agents of breakout do not fit into the memory of cuda:1; expected fewer"
    with pytest.raises(InputError, match=expected), room_for(config, torch.device("cuda:1")):
        raise fault


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_other_faults_stay_what_they_are(device: str) -> None:
    fault = RuntimeError("CUDA error: an illegal memory access was encountered")
    if device == "cpu":
        fault = RuntimeError("DefaultCPUAllocator: can't allocate memory: out of memory")
    with pytest.raises(RuntimeError) as raised, room_for(preset("fast"), torch.device(device)):
        raise fault
    assert raised.value is fault


class Late(TorchFunctionMode):
    """A device whose copies are made as late as may be: when an event after them is waited for.

    Then all of them up to it are, the last one first: a copy engine may take them in any order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, waits: bool = True):
        super().__init__()
        self.pending: list[tuple[Tensor, Tensor]] = []  # where to, what from
        self.made = 0
        self.waits = waits
        monkeypatch.setattr("torch.cuda.Event", lambda: LateEvent(self))
        monkeypatch.setattr("torch.cuda.current_stream", lambda _: None)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = {k: v for k, v in (kwargs or {}).items() if k not in ("device", "pin_memory")}
        if kwargs.pop("non_blocking", False):
            self.pending.append((args[0], args[1]))
            return args[0]
        return function(*args, **kwargs)

    @property
    def asked_for(self) -> int:
        """Copies, from the beginning."""
        return self.made + len(self.pending)

    def catch_up(self, asked_for: int) -> None:
        """Make all that were, when so many had been asked for."""
        due = max(asked_for - self.made, 0)
        now, self.pending = self.pending[:due], self.pending[due:]
        self.made += due
        for to, source in reversed(now):
            to[...] = source


class LateEvent:
    """Of a Late device."""

    def __init__(self, device: Late):
        self.device, self.asked_for = device, 0

    def record(self, stream: None) -> None:
        self.asked_for = self.device.asked_for

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        if self.device.waits:
            self.device.catch_up(self.asked_for)


def arrived(monkeypatch: pytest.MonkeyPatch, waits: bool) -> list[list[float]]:
    """What a late device has of five arrays that were sent one after another."""
    with Late(monkeypatch, waits) as device:
        way = ToDevice(torch.device("meta"))
        sent = [way.send(np.full(2, i, np.float32)) for i in range(5)]
        device.catch_up(5)
    return [each.tolist() for each in sent]


def test_nothing_is_overwritten_before_it_was_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arrived(monkeypatch, waits=True) == [[i, i] for i in range(5)]


def test_without_waiting_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arrived(monkeypatch, waits=False) != [[i, i] for i in range(5)]


def test_into_memory_that_is_there_or_into_new(monkeypatch: pytest.MonkeyPatch) -> None:
    with Late(monkeypatch) as device:
        way, into = ToDevice(torch.device("meta")), torch.zeros(2)
        assert way.send(np.ones(2, np.float32), into) is into
        assert way.send(np.ones(2, np.float32)) is not into
        assert into.tolist() == [0, 0]
        device.catch_up(2)
    assert into.tolist() == [1, 1]
