"""Checkpoints of other versions, with odd headers, with figures that are not finite."""

import errno
import json
import math
import os
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors import safe_open

from a3c.config import BEFORE, Config
from a3c.envs.protocol import Spec
from a3c.errors import InputError
from a3c.presets import preset
from a3c.results.run_config import read_run_config
from a3c.run import best, checkpoint, models
from a3c.run.checkpoint import Checkpoint
from a3c.run.folder import standing
from a3c.train import train
from tests.a3c.test_train import small

SPEC = Spec((4,), pixels=False, stacked=False, discrete=True, num_actions=2)


def example(**progress: Any) -> Checkpoint:
    metrics = {"episodes": 2, "recent_returns": [1.0, 2.0], "seconds": 3.0}
    known: dict[str, Any] = {"agent_steps": 10, "updates": 1, "evaluations": []}
    known |= {"mean_return_100": 1.5, "best_mean_return_100": None}
    tensors = {"parameters": torch.arange(5.0), "square_avg": torch.zeros(5)}
    config = preset("control", env="CartPole-v1")
    return Checkpoint(config, SPEC, {**known, "metrics": metrics, **progress}, tensors)


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the header of a checkpoint, checksum and all, as another version would have it."""
    saved = checkpoint.load(path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    outer = json.loads(data[8 : 8 + length])
    header = json.loads(outer["__metadata__"]["a3c"])
    changed = change(header)
    text = json.dumps(header if changed is None else changed)
    outer["__metadata__"] = {"a3c": text, "sha256": checkpoint.digest(text, saved.tensors)}
    front = json.dumps(outer).encode()
    path.write_bytes(struct.pack("<Q", len(front)) + front + data[8 + length :])


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    """Remove the last key, which lies below the others."""

    def change(header: dict[str, Any]) -> None:
        for key in keys[:-1]:
            header = header[key]
        del header[keys[-1]]

    return change


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, example())
    return path


def test_what_is_saved_is_loaded(path: Path) -> None:
    saved, loaded = example(), checkpoint.load(path)
    of_older_ones: dict[str, Any] = {"failed_evaluations": [], "failed_scores": []}  # by default
    assert loaded[:3] == (*saved[:2], {**saved.progress, **of_older_ones})
    assert all(torch.equal(loaded.tensors[name], saved.tensors[name]) for name in saved.tensors)


UNREADABLE: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (
        lambda header: header["config"].update(learning_rte=1),
        "the option 'learning_rte', which",
    ),
    (lambda header: header["config"].update(num_env=1), "did you mean 'num_envs'"),
    (lambda header: header["config"].update(gamma=7), "--gamma is 7"),
    (lambda header: header["config"].update(env=None), "the environment is None"),
    (without("config", "env"), "KeyError('env')"),
    (lambda header: header["spec"].update(colour=1), "has the fact 'colour', which"),
    (without("spec", "pixels"), "pixels"),
    (lambda header: header["spec"].update(num_actions="2"), "num_actions is '2'"),
    (lambda header: header["spec"].update(observation_shape="4"), "observation_shape is '4'"),
    (lambda header: header["spec"].update(observation_shape=["4"]), "observation_shape is ('4',)"),
    (lambda header: header.update(config=[]), "header"),
    (lambda header: header.update(spec=None), "header"),
    (lambda header: header.update(version=99), "has format version 99; expected 2 or 3"),
    (without("version"), "KeyError('version')"),
    (without("progress"), "KeyError('progress')"),
    (without("progress", "agent_steps"), "KeyError('agent_steps')"),
    (lambda header: header["progress"].update(updates="many"), "many"),
    (lambda header: header["progress"].update(metrics=None), "header"),
    (lambda header: header["progress"]["metrics"].update(recent_returns=["x"]), "x"),
    (lambda header: [1, 2], "header"),
    (lambda header: 5, "header"),
]


@pytest.mark.parametrize(("change", "expected"), UNREADABLE, ids=[words for _, words in UNREADABLE])
def test_a_header_that_cannot_be_read_is_named(
    path: Path, change: Callable[[dict[str, Any]], Any], expected: str
) -> None:
    rewrite(path, change)
    with pytest.raises(InputError) as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_an_older_version_lacked_has_its_default(path: Path) -> None:
    rewrite(path, without("config", "run_name"))
    assert checkpoint.load(path).config == example().config


def test_a_run_of_before_an_option_goes_on_as_it_was(path: Path) -> None:
    config = preset("fast", num_envs=64, num_threads=8, ent_final_fraction=0.5)
    assert {name: getattr(config, name) for name in BEFORE} == {
        "minibatches": 4, "correction": "vtrace", "ent_final_fraction": 0.5,
        "advantage_floor": 0.1, "grow": True, "lr_by_fan_in": True,
    }  # fmt: skip
    checkpoint.save(path, example()._replace(config=config))
    for name in BEFORE:
        rewrite(path, without("config", name))
    older = checkpoint.load(path).config
    assert older == replace(
        config,
        minibatches=1,
        correction="none",
        ent_final_fraction=1.0,
        advantage_floor=0.0,
        grow=False,
        lr_by_fan_in=False,
    )


@pytest.mark.parametrize(("version", "network"), [(2, "paper"), (3, "auto")])
def test_what_auto_was_for_images_before_version_3(
    path: Path, version: int, network: Literal["paper", "auto"]
) -> None:
    pictures, pong = Spec((84, 84, 4), True, True, True, 6), preset("fast", env="pong")
    checkpoint.save(path, example()._replace(spec=pictures, config=pong))
    rewrite(path, lambda header: header.update(version=version))
    assert checkpoint.load(path).config == replace(pong, network=network)
    named = replace(pong, network="nature")
    checkpoint.save(path, example()._replace(spec=pictures, config=named))
    rewrite(path, lambda header: header.update(version=version))
    assert checkpoint.load(path).config == named


def test_a_run_of_version_2_goes_on_with_the_network_that_it_has(tmp_path: Path) -> None:
    tiny = {"num_threads": 1, "num_envs": 2, "rollout_length": 5, "runs_dir": str(tmp_path)}
    paper = preset("fast", env="pong", network="paper", total_agent_steps=10, **tiny)
    folder = train(paper, quiet=True).folder
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**written, "network": "auto"}))

    def of_then(header: dict[str, Any]) -> None:
        header["version"] = 2
        header["config"]["network"] = "auto"

    for path in checkpoint.numbered(folder):
        rewrite(path, of_then)
    assert read_run_config(folder) == (paper, [])
    train(replace(paper, total_agent_steps=20), quiet=True, resume=folder)
    assert checkpoint.newest(folder).checkpoint.config.network == "paper"
    with pytest.raises(InputError, match="network"):  # what auto means by now
        train(replace(paper, network="auto", total_agent_steps=30), quiet=True, resume=folder)


def test_vectors_have_had_the_same_network_all_along(path: Path) -> None:
    rewrite(path, lambda header: header.update(version=2))
    assert not example().spec.pixels
    assert checkpoint.load(path).config == example().config


def test_a_file_without_parameters(path: Path) -> None:
    checkpoint.save(path, example()._replace(tensors={"square_avg": torch.zeros(5)}))
    with pytest.raises(InputError, match="has no vector of parameters"):
        checkpoint.load(path)


def test_figures_that_are_not_finite_are_null_in_the_file(path: Path) -> None:
    metrics = {"episodes": 2, "recent_returns": [math.inf, 2.0, math.nan], "seconds": 3.0}
    checkpoint.save(path, example(mean_return_100=math.inf, metrics=metrics))
    rewrite(path, lambda header: json.loads(json.dumps(header, allow_nan=False)))
    progress = checkpoint.load(path).progress
    assert progress["mean_return_100"] is None
    returns = progress["metrics"]["recent_returns"]
    assert math.isnan(returns[0]) and returns[1] == 2.0 and math.isnan(returns[2])  # noqa: PT018


def test_what_a_killed_process_was_writing_is_cleared_at_resume(tmp_path: Path) -> None:
    folder = train(small(tmp_path, total_agent_steps=500), quiet=True).folder
    names = ["checkpoints/000000000999.writing", "checkpoints/.tmpAb3xYz", "metrics.writing"]
    for name in names:  # the second is what safetensors writes to
        (folder / name).write_bytes(b"half")
    train(small(tmp_path, total_agent_steps=1000), resume=folder, quiet=True)
    assert [name for name in names if (folder / name).exists()] == []


def test_the_models_that_ship_are_read() -> None:
    for game in models.shipped():
        assert isinstance(models.find(game).config, Config)


@pytest.mark.parametrize("what", ["missing", "dangling", "empty", "runs", "elsewhere"])
def test_what_is_no_run_says_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run = train(small(tmp_path / "runs", total_agent_steps=500), quiet=True).folder
    asked = tmp_path / "runs" / "latest"
    asked.unlink()
    if what == "dangling":
        asked.symlink_to("gone")
    elif what == "empty":
        asked.mkdir()
    elif what == "runs":
        asked = tmp_path / "runs"
    elif what == "elsewhere":  # than where a run was looked for, but where runs are made
        monkeypatch.chdir(tmp_path)
        run, asked = Path("runs") / run.name, Path(run.name)  # without runs/
        with pytest.raises(InputError, match=f"qbert.*; the newest run is {run}"):
            models.find("nowhere")
    with pytest.raises(InputError, match=f"the newest run is {run}") as caught:
        checkpoint.find(asked)
    assert ("leads to gone, which is gone" in str(caught.value)) == (what == "dangling")


def test_the_newest_of_other_runs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By when its checkpoint was saved, not by its name."""
    monkeypatch.chdir(tmp_path)  # away from whatever runs there are
    for name, saved_at in ("a", 2000.0), ("b", 3000.0), ("c", 1000.0):
        checkpoint.folder(tmp_path / name).mkdir(parents=True)
        checkpoint.save_into(tmp_path / name, example(agent_steps=5))
        os.utime(checkpoint.numbered(tmp_path / name)[0], (saved_at, saved_at))
    assert checkpoint.other_run(tmp_path / "d") == f"; the newest run is {tmp_path / 'b'}"


def test_a_best_that_could_not_be_written_is_not_said_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run believes what its newest checkpoint says of the best mean return."""

    def with_mean(agent_steps: int, mean: float) -> Checkpoint:
        means = {"mean_return_100": mean, "best_mean_return_100": mean}
        return example(agent_steps=agent_steps, **means)

    checkpoint.folder(tmp_path).mkdir()
    checkpoint.save_into(tmp_path, with_mean(100, 50.0))
    save = checkpoint.save

    def full(path: Path, saved: Checkpoint) -> None:
        if path.name == checkpoint.BEST:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, saved)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save_into(tmp_path, with_mean(200, 90.0))
    newest = checkpoint.newest(tmp_path).checkpoint
    best = checkpoint.load(checkpoint.folder(tmp_path) / checkpoint.BEST)
    assert newest.progress["best_mean_return_100"] == best.progress["mean_return_100"] == 50


def test_what_somebody_keeps_beside_the_checkpoints_is_not_one_of_them(tmp_path: Path) -> None:
    checkpoint.folder(tmp_path).mkdir()
    checkpoint.save_into(tmp_path, example(agent_steps=100))
    kept = checkpoint.folder(tmp_path) / "000000000999-good.safetensors"
    checkpoint.save(kept, example(agent_steps=100))
    for agent_steps in (200, 300, 400, 500):
        checkpoint.save_into(tmp_path, example(agent_steps=agent_steps))
    assert [int(path.stem) for path in checkpoint.numbered(tmp_path)] == [500, 400, 300]
    assert kept.exists()
    assert "at 500 agent steps" in standing(tmp_path)


def test_the_best_mean_is_also_that_of_a_file_that_is_newer_than_the_checkpoint(
    tmp_path: Path,
) -> None:
    """The process was killed after the best policy was written, and before the numbered file."""
    assert checkpoint.best_mean(tmp_path, None) is None
    assert checkpoint.best_mean(tmp_path, 7.0) == 7.0
    newer = example()
    newer.progress["best_mean_return_100"] = 350.0
    checkpoint.folder(tmp_path).mkdir()
    checkpoint.save(checkpoint.folder(tmp_path) / checkpoint.BEST, newer)
    assert checkpoint.best_mean(tmp_path, 300.0) == 350.0
    assert checkpoint.best_mean(tmp_path, 400.0) == 400.0


def test_a_checksum_is_of_names_and_shapes_too(tmp_path: Path) -> None:
    """Of a file in which two tensors have changed places, or one its shape."""
    one, other = torch.arange(4.0), torch.arange(4.0, 8.0)
    digests = {
        checkpoint.digest("header", tensors)
        for tensors in (
            {"a": one, "b": other},
            {"a": one, "c": other},
            {"a": one.reshape(2, 2), "b": other},
            {"a": one, "b": other.view(torch.int32)},
        )
    }
    assert len(digests) == 4


def cannot_be_opened(path: Path) -> None:
    """As one of another user's, which nobody could make for a test that runs as root."""
    path.unlink()
    path.mkdir()


def of_a_newer_version(path: Path) -> None:
    rewrite(path, lambda header: header.update(version=99))


def of_a_newer_version_with_another_checksum(path: Path) -> None:
    of_a_newer_version(path)
    data = path.read_bytes()
    with safe_open(path, "pt") as file:
        sha256 = file.metadata()["sha256"].encode()
    path.write_bytes(data.replace(sha256, b"0" * len(sha256)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cannot_be_opened, "cannot read .*: Is a directory"),
        (of_a_newer_version, "format version 99"),
        (of_a_newer_version_with_another_checksum, "format version 99"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_as_things_are_is_not_taken_for_a_damaged_one(
    tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    """An older one in its place would lose what was learned since; and it stays what it is."""
    folder = train(small(tmp_path, total_agent_steps=500), quiet=True).folder
    longer = small(tmp_path, total_agent_steps=1000)
    train(longer, resume=folder, quiet=True)
    newest, older = checkpoint.numbered(folder)[:2]
    change(newest)
    with pytest.raises(InputError, match=words):
        train(longer, resume=folder, quiet=True)
    assert checkpoint.numbered(folder)[:2] == [newest, older]
    with pytest.raises(InputError, match=words):
        checkpoint.find(newest)


def test_an_older_one_that_cannot_be_read_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "KEPT", 9)
    folder = train(small(tmp_path, total_agent_steps=500), quiet=True).folder
    older = checkpoint.folder(folder) / "000000000100.safetensors"
    older.mkdir()
    train(small(tmp_path, total_agent_steps=1000), resume=folder, quiet=True)
    assert older.is_dir()


def test_a_best_policy_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    checkpoint.folder(tmp_path).mkdir()
    assert checkpoint.best_of(tmp_path) is None
    best.path_of(tmp_path).write_bytes(b"damaged")
    assert best.load(tmp_path) is None
    cannot_be_opened(best.path_of(tmp_path))
    for read in (best.load, lambda run: checkpoint.best_mean(run, 7.0)):
        with pytest.raises(InputError, match="cannot read"):
            read(tmp_path)


def test_a_damaged_best_policy_and_an_older_checkpoint_are_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(small(tmp_path, total_agent_steps=500), quiet=True).folder
    checkpoint.save(best.path_of(folder), example())
    train(small(tmp_path, total_agent_steps=1000), resume=folder, quiet=True)
    damaged = [best.path_of(folder), checkpoint.numbered(folder)[-1]]
    for path in damaged:
        path.write_bytes(b"")
    train(small(tmp_path, total_agent_steps=1500), resume=folder)
    said = capsys.readouterr().out
    for path in damaged:
        assert re.search(rf"{path.name} is not a model file or is damaged \(.*\); it is left", said)
        assert path.with_suffix(".damaged").exists()


def test_a_path_that_is_no_utf8_is_no_damage(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="its path is no UTF-8") as caught:
        checkpoint.load(folder / "model.safetensors")
    assert not isinstance(caught.value, checkpoint.Damaged)


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(InputError, match="has a header that cannot be read"):
        checkpoint.read_header("[" * 200_000, {})
    checkpoint.check_version(Path("deep"), "[" * 200_000)


def test_what_a_killed_process_was_writing_goes_from_a_linked_folder_too(tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (tmp_path / "run").mkdir()
    checkpoint.folder(tmp_path / "run").symlink_to(elsewhere)
    (elsewhere / "000000000100.writing").touch()
    checkpoint.set_aside(tmp_path / "run")
    assert list(elsewhere.iterdir()) == []
