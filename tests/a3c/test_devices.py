"""What may be asked for as a device, and what is said of what is not there; without a GPU."""

import pytest
import torch

from a3c.config import InputError
from a3c.devices import pick_device, pick_devices


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)


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
