"""`a3c export`: what the file computes, what it says of itself, and what cannot be exported."""

from __future__ import annotations

import dataclasses
import errno
import functools
import importlib.util
import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

import a3c
from a3c.envs import spec_of
from a3c.envs.coding import Coding
from a3c.heads import Gaussian
from a3c.methods import make_method
from a3c.network import Network, State, flatten
from a3c.presets import preset
from a3c.results.contract import contract
from a3c.results.export import ExportOptions, encoded, export, input_type, named_outputs
from a3c.results.policy import Policy
from a3c.run import models
from a3c.run.checkpoint import Checkpoint
from atari2600 import AtariVectorEnv
from tests.commands.made_run import make_run, record, save_checkpoint
from tests.commands.test_bad_input import complaint
from tests.commands.test_policy import SPACES

Array = NDArray[Any]
NEEDED = ("onnx", "onnxscript", "onnxruntime")
needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)),
    reason=f"needs {', '.join(NEEDED)}: pip install -e '.[test]'",
)
AGENTS, STEPS = 4, 25  # 100 observations


def random_model(env: str, **changes: Any) -> Checkpoint:
    """A model with random parameters and background, so that all outputs differ."""
    config = preset("control", env=env, **changes)
    spec = spec_of(config)
    network = Network(config, spec, make_method(config))
    parameters, _ = flatten(network)
    generator = torch.Generator().manual_seed(1)
    parameters += 0.05 * torch.randn(parameters.shape, generator=generator)
    if network.background is not None:
        network.background.copy_(255 * torch.rand(network.background.shape, generator=generator))
    progress = {"agent_steps": 7}
    return Checkpoint(config, spec, progress, {"parameters": parameters}, "0123")


def in_float32(saved: Checkpoint) -> Policy:
    """Its policy in the arithmetic of the file."""
    config = dataclasses.replace(saved.config, precision="float32")
    return Policy(saved._replace(config=config), "cpu")


def of_space(space: Any) -> Iterator[Array]:
    """Observations of STEPS agent steps of AGENTS agents, each of the space's own kind."""
    if isinstance(space, spaces.Box) and not space.is_bounded():
        generator = np.random.default_rng(2)
        for _ in range(STEPS):
            yield generator.normal(size=(AGENTS, *space.shape)).astype(space.dtype)
        return
    space.seed(2)
    for _ in range(STEPS):
        yield np.stack([space.sample() for _ in range(AGENTS)])


def of_breakout() -> Iterator[Array]:
    """Of a game that is played at random."""
    envs = AtariVectorEnv("breakout", num_envs=AGENTS)
    observations, _ = envs.reset(seed=1)
    generator = np.random.default_rng(1)
    for _ in range(STEPS):
        yield observations.copy()
        observations, *_ = envs.step(generator.integers(4, size=AGENTS))
    envs.close()


Case = tuple[Callable[[], Checkpoint], Callable[[], Iterator[Array]], list[str]]
DISCRETE, CONTINUOUS = ["logits", "value"], ["mean", "standard_deviation", "value"]
STATE = ["next_hidden", "next_cell"]


def gymnasium_case(name: str, outputs: list[str], **changes: Any) -> Case:
    return lambda: random_model(f"{name}-v0", **changes), lambda: of_space(SPACES[name][0]), outputs


CASES: dict[str, Case] = {
    "Atari": (lambda: models.find("breakout"), of_breakout, DISCRETE),
    "a vector": gymnasium_case("Start", DISCRETE),
    "an image": gymnasium_case("Image", DISCRETE),
    "continuous actions": gymnasium_case("Tight", CONTINUOUS),
    "action values": gymnasium_case("Start", ["action_values"], method="one-step-sarsa"),
    "recurrent": gymnasium_case("Start", [*DISCRETE, *STATE], recurrent=True),
}


Exported = Callable[[str], Path]


def file_of(saved: Checkpoint, folder: Path) -> Path:
    """What `a3c export` writes of a model that lies nowhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "find", lambda _: saved)
        return export(ExportOptions("it", str(folder / "model.onnx")))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The file of each case, made once."""
    return functools.cache(lambda kind: file_of(CASES[kind][0](), tmp_path_factory.mktemp("out")))


@needs_onnx
@pytest.mark.parametrize("kind", CASES)
def test_it_computes_what_the_policy_does(kind: str, exported: Exported) -> None:
    """Outputs, the LSTM's state from step to step, and actions as the metadata says."""
    make, observe, names = CASES[kind]
    saved = make()
    session = opened(exported(kind))
    assert [output.name for output in session.get_outputs()] == names
    assert session.get_inputs()[0].shape[0] == "N"
    facts = session.get_modelmeta().custom_metadata_map
    policy = in_float32(saved)
    scale = policy.network.return_std
    assert facts.get("reward_scale") == (None if scale is None else str(float(scale)))
    state = policy.network.initial_state(AGENTS, policy.device)
    kept = {} if state is None else of_state(state)
    for observations in observe():
        found = dict(zip(names, session.run(None, given(session, observations, kept)), strict=True))
        array = policy.coding.encode(policy.coding.batch(observations)[0])
        outputs, state = policy.network(torch.from_numpy(array), state)
        expected = named_outputs(policy.network.heads.policy, outputs)
        if state is not None:
            kept = {"hidden": found["next_hidden"], "cell": found["next_cell"]}
            for name, part in of_state(state).items():
                np.testing.assert_allclose(kept[name], part, rtol=1e-4, atol=1e-6)
        for name, tensor in expected.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], tensor.numpy(), rtol=1e-4, atol=1e-5)
        actions = policy.act(observations, greedy=True)
        np.testing.assert_allclose(actions_of(found, facts), actions, rtol=1e-4, atol=1e-6)


def opened(path: Path) -> Any:
    """The file in ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def of_state(state: State) -> dict[str, Array]:
    return {"hidden": state[0].numpy(), "cell": state[1].numpy()}


def given(session: Any, observations: Array, state: dict[str, Array]) -> dict[str, Array]:
    """The inputs: floats in the one type that the file takes of them."""
    floats = session.get_inputs()[0].type == "tensor(float)"
    return {"observations": observations.astype(np.float32) if floats else observations, **state}


def actions_of(found: dict[str, Array], facts: dict[str, str]) -> Array:
    """The likeliest actions, by what the file says of them."""
    if facts["actions"].startswith("discrete"):
        scores = found.get("logits", found.get("action_values"))
        assert scores is not None
        return scores.argmax(-1) + int(facts["first_action"])
    low, high = (np.array(json.loads(facts[f"action_{end}"]), float) for end in ("low", "high"))
    clipped = np.clip(found["mean"], low, high)
    return clipped.reshape(len(clipped), *json.loads(facts["action_shape"]))


@pytest.mark.parametrize("name", SPACES)
def test_observations_go_in_as_the_environment_gives_them(name: str) -> None:
    """The graph's way to what the network reads, and training's, for spaces of all kinds."""
    space = SPACES[name][0]
    coding = Coding(spec_of(preset("control", env=f"{name}-v0")))
    for observations in itertools.islice(of_space(space), 3):
        typed = torch.from_numpy(observations.astype(input_type(coding)))
        read = encoded(coding, typed)
        assert read.dtype == (torch.uint8 if coding.spec.pixels else torch.float32)
        np.testing.assert_allclose(read.numpy(), coding.encode(observations), rtol=1e-6)


@needs_onnx
def test_the_same_model_is_the_same_file_whoever_exports_it(
    exported: Exported, tmp_path: Path
) -> None:
    one, other = exported("a vector"), file_of(CASES["a vector"][0](), tmp_path)
    for path in (one, other):
        assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]
    assert one.read_bytes() == other.read_bytes()
    for place in (str(Path(a3c.__file__).parent), torch.__version__, "site-packages"):
        assert place.encode() not in one.read_bytes()


def test_the_contract_of_atari() -> None:
    """How a game was played and seen, in plain keys; the words are ale-py's and Config's."""
    saved = models.find("breakout")
    facts = contract(saved, saved.spec, Coding(saved.spec))
    assert facts["env"] == "breakout"
    assert json.loads(facts["action_meanings"]) == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert facts["first_action"] == "0"
    for name, expected in {
        "frame_height": 84,
        "frame_width": 84,
        "stacked_frames": 4,
        "frame_skip": 4,
        "frame_skip_max": 0,
        "sticky_actions": 0.0,
        "noop_max": 30,
        "full_action_set": False,
        "fire_at_start": True,
    }.items():
        assert json.loads(facts[name]) == expected
    assert facts["stack_order"].startswith("oldest first, newest last")
    assert facts["background_subtraction"] == "inside"
    assert facts["checkpoint_sha256"] == saved.sha256
    assert all(isinstance(fact, str) for fact in facts.values())


def test_what_values_are_of_is_in_the_contract() -> None:
    """They would be compared with returns."""
    atari, vector = models.find("breakout"), random_model("OneSided-v0")
    found = [
        contract(saved._replace(config=config), saved.spec, Coding(saved.spec))["values"]
        for saved, config in (
            (atari, atari.config),
            (vector, dataclasses.replace(vector.config, clip_rewards=False, normalize=True)),
        )
    ]
    assert found == [
        "of sums of rewards, each clipped to -1, 0 or 1, discounted by gamma",
        "of sums of rewards, divided by reward_scale, discounted by gamma",
    ]


def test_another_protocol_is_in_the_contract() -> None:
    saved = models.find("pong")
    config = dataclasses.replace(
        saved.config, sticky_actions=0.25, full_action_set=True, subtract_background=False
    )
    facts = contract(saved._replace(config=config), saved.spec, Coding(saved.spec))
    assert len(json.loads(facts["action_meanings"])) == 18
    assert (facts["sticky_actions"], facts["background_subtraction"]) == ("0.25", "none")


def test_the_contract_of_continuous_actions() -> None:
    saved = random_model("OneSided-v0")
    facts = contract(saved, saved.spec, Coding(saved.spec))
    assert json.loads(facts["action_low"]) == [0, None]
    assert json.loads(facts["action_high"]) == [None, 0]
    assert json.loads(facts["action_shape"]) == [2]
    assert "frame_skip" not in facts
    assert "state" not in facts


def test_heads_without_a_value_give_action_values() -> None:
    """Whatever chooses by its first output has a name for it."""
    assert list(named_outputs(nn.Identity(), (torch.zeros(2, 3),))) == ["action_values"]


# ---- what cannot be exported ----


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, which must stay as it is."""
    folder = tmp_path / "nowhere-else"
    (folder / "folder.onnx").mkdir(parents=True)
    (folder / "file").write_text("in the way")
    monkeypatch.chdir(folder)
    return folder


def refused(words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that is said; nothing is written, changed or left."""
    said = complaint(["export", *words.split()], capsys)
    assert sorted(path.name for path in folder.rglob("*")) == ["file", "folder.onnx"]
    return said


@needs_onnx
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "--help lists the options"),
        ("brekout", "no model 'brekout'"),
        ("brekout", "did you mean 'breakout'?"),
        ("nowhere.safetensors", "no model file 'nowhere.safetensors'"),
        ("no/where", "no run folder 'no/where'"),
        ("file", "file is not a model file or is damaged"),
        ("breakout --out model.pt", "--out is 'model.pt'; expected a name that ends with .onnx"),
        ("breakout --out=", "--out is ''; expected a name that ends with .onnx"),
        ("breakout --out no/model.onnx", "cannot write no/model.onnx: there is no folder no"),
        ("breakout --out file/model.onnx", "cannot write file/model.onnx: there is no folder"),
        ("breakout --out folder.onnx", "cannot write folder.onnx: it is a folder"),
        (f"breakout --out {'x' * 300}.onnx", "File name too long: 'xxxxxxxxxx"),
        (f"breakout --out {'x' * 249}.onnx", f"{'x' * 249}.onnx: File name too long"),
        ("breakout --output x.onnx", "unknown option '--output'; did you mean '--out'?"),
    ],
)
def test_bad_input(
    words: str, expected: str, nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(words, nowhere, capsys)


@needs_onnx
def test_a_run_without_a_checkpoint(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", [record(1, 1, [1])])
    said = refused(str(run), nowhere, capsys)
    assert f"{run} has no checkpoint that can be read: it has none" in said


@needs_onnx
def test_a_damaged_model(nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (models.shipped()["breakout"] / models.MODEL).read_bytes()
    path = tmp_path / "model.safetensors"
    for data in (whole[:-1000], whole[:-4] + bytes(4), b""):
        path.write_bytes(data)
        assert "damaged" in refused(str(path), nowhere, capsys)


@needs_onnx
@pytest.mark.parametrize("command", ["export", "play"])
def test_parameters_of_another_network(
    command: str, nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checksum is right, and yet it is none of this version's."""
    run = make_run(tmp_path / "run", [record(1, 1, [1])])
    for path, expected in (
        (save_checkpoint(run, 1), "the model has 3 parameters; expected 9,164"),
        (save_checkpoint(run, 2, network="paper"), "--network paper reads images"),
    ):
        assert expected in complaint([command, str(path)], capsys)
    assert sorted(path.name for path in nowhere.iterdir()) == ["file", "folder.onnx"]


@needs_onnx
def test_a_folder_that_cannot_be_written(
    nowhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before the work."""

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr("a3c.results.export.onnx_model", None)
    said = refused("breakout --out model.onnx", nowhere, capsys)
    assert "cannot write model.onnx: Permission denied" in said


@needs_onnx
def test_a_disk_that_is_full(
    nowhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older file stays as it was."""

    def write_a_part(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    (nowhere / "model.onnx").write_text("older")
    monkeypatch.setattr(Path, "write_bytes", write_a_part)
    monkeypatch.setattr("a3c.results.export.onnx_model", lambda _: Written())
    said = complaint(["export", "breakout"], capsys)
    assert "cannot write model.onnx: No space left on device" in said
    assert (nowhere / "model.onnx").read_text() == "older"
    assert len(list(nowhere.iterdir())) == 3


class Written:
    """In place of the graph."""

    def SerializeToString(self, deterministic: bool) -> bytes:
        return bytes(100)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_extra_names_the_pip_command(
    package: str,
    nowhere: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == package else find(name)
    )
    said = refused("breakout", nowhere, capsys)
    assert "a3c export needs onnx" in said
    assert "pip install -e '.[export]'" in said


def test_a_continuous_policy_gives_means_and_deviations() -> None:
    head = Gaussian(8, 2, "independent")
    outputs = torch.tensor([[1.0, 2.0, 0.0, math.log(3)]]), torch.tensor([5.0])
    named = named_outputs(head, outputs)
    assert list(named) == ["mean", "standard_deviation", "value"]
    torch.testing.assert_close(named["mean"], torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(named["standard_deviation"], torch.tensor([[1.0, 3.0]]))
