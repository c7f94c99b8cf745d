"""Bad input: one clear line, exit code 2, no traceback, nothing created."""

import errno
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from safetensors.torch import save_file
from torch import zeros

from a3c import cli, memory
from a3c.errors import InputError
from a3c.presets import preset
from a3c.results import study
from a3c.run import checkpoint
from a3c.train import train
from tests.a3c.test_checkpoint import rewrite

TRAIN = [
    ("train pong --rmsprop-decay 1 --rmsprop-initial debiased", "--rmsprop-decay is 1; expected"),
    (
        "train pong --advantage-floor 0.2 --normalize-advantages",
        "--advantage-floor is 0.2, and --normalize-advantages True does not read it",
    ),
    ("train brekout", "no game 'brekout'; did you mean 'breakout'?"),
    ("train ALE/Brekout-v5", "did you mean 'breakout'?"),
    ("train joust", "no game 'joust'"),  # ale-py has it, for two players
    (
        "train breakout --num-threads 1 --rho-bar 2",  # auto is none there
        "--rho-bar is 2.0, and --correction none does not read it; expected --correction vtrace",
    ),
    (
        "train breakout --correction none --rho-bar 2",
        "--rho-bar is 2.0, and --correction none does not read it; expected --correction vtrace",
    ),
    ("train CartPole-v7", "did you mean 'CartPole-v1'?"),
    (
        "train CartPole-v1 --frame-skip 2",
        "--frame-skip is 2, and CartPole-v1 does not read it",
    ),
    ("train CartPole-v1 --no-life-loss-terminal", "--life-loss-terminal is False, and CartPole-v1"),
    (
        "train ale_py:ALE/Pongg-v5",
        "no environment 'ale_py:ALE/Pongg-v5'; did you mean 'ale_py:",
    ),
    ("train examples.custom_environment:X", "custom_environment registers "),
    ("train os:My-v0", "no environment 'os:My-v0': os registers no environment of its own"),
    ("train ./my/envs.py:My-v0", "no module './my/envs.py' to import "),
    ("train ./my/envs.py:My-v0", "; did you mean 'my.envs'?"),
    (
        "report runs --out page.png",
        "--out is 'page.png'; expected a name that ends with .html or .htm",
    ),
    (
        "report runs --out metrics.jsonl",
        "--out is 'metrics.jsonl'; expected a name that ends with .html or .htm",
    ),
    ("study spec.toml --out=", "--out is ''; expected the name of a folder"),
    ("study spec.toml --out=a\x07b", "--out is 'a\\x07b'; expected the name of a folder"),
    ("benchmark spec.toml --out=", "--out is ''; expected the name of a folder"),
    ("train no_such_module:X-v0", "no module 'no_such_module'"),
    ("train breakout --lerning-rate 1", "unknown option '--lerning-rate'"),
    ("train breakout --num-env 3", "unknown option '--num-env'; did you mean '--num-envs'?"),
    ("train breakout pong", "pong"),
    ("train breakout --gamma 1.5", "--gamma is 1.5; expected a number at least 0 and at most 1"),
    ("train breakout --num-envs 0", "--num-envs is 0; expected a whole number at least 1"),
    (
        "train breakout --num-threads 0",
        "--num-threads is 0; expected a whole number at least 1 and",
    ),
    ("train breakout --num-threads -1", "--num-threads is -1; expected a whole number at least 1"),
    ("train breakout --num-threads -1", "at most 256, or auto"),
    (
        "train breakout --num-threads many",
        "--num-threads is 'many'; expected a whole number, or auto",
    ),
    (
        "train breakout --num-threads 1.5",
        "--num-threads is '1.5'; expected a whole number, or auto",
    ),
    ("train breakout --num-threads=", "--num-threads is ''; expected a whole number, or auto"),
    ("train breakout --seed", "--seed"),
    (
        "train breakout --mode asinc",
        "--mode is 'asinc'; expected async, sync; did you mean 'async'?",
    ),
    ("train breakout --mode Async", "did you mean 'async'?"),
    ("train breakout --no-clip-reward", "did you mean '--no-clip-rewards'?"),
    ("train breakout --envs 3", "unknown option '--envs'; did you mean '--num-envs'?"),
    ("train breakout --no-lr", "unknown option '--no-lr'"),
    ("train breakout --learning-rate 1", "unknown option '--learning-rate'; did you mean '--lr'?"),
    ("train --n_steps=5", "unknown option '--n-steps'; did you mean '--rollout-length'?"),
    ("train --env breakout", "unknown option '--env'; expected ENV alone, without the name"),
    (
        "play ALE/MsPacman-v5",
        "no model 'ALE/MsPacman-v5': expected a model file, a run folder, or ",
    ),
    ("play breakout --out=", "--out is ''; expected the name of a folder"),
    ("play breakout --greedy", "unknown option '--greedy'; did you mean '--policy'?"),
    (
        "train breakout --clip-rewards=False",
        "--clip-rewards takes no value; expected --clip-rewards or --no-clip-rewards",
    ),
    ("play breakout --no-film=yes", "--no-film takes no value; expected --film or --no-film"),
    ("train --resume None", "no run folder 'None'"),
    ("train --from None", "no model 'None'"),
    ("train --preset None", "--preset is 'None'; expected fast, "),
    ("train --config None", "None: cannot read it"),
    ("play breakout --epsilon None", "--epsilon is 'None'; expected a number"),
    ("train breakout --lr 1e-40", "--lr is 1e-40; expected a number at least 1e-30"),
    (
        "train pong --normalize-advantages --num-envs 1 --rollout-length 1",
        "--normalize-advantages is True with updates of one agent step, which have no deviation",
    ),
    ("train pong --norm-adv", "unknown option '--norm-adv'; did you mean '--normalize-advan"),
    (
        "train pong --method n-step-q --normalize-advantages",
        "--normalize-advantages is True, and --method n-step-q does not read it; expected "
        "--method a3c",
    ),
    (
        "train pong --method n-step-q --rho-bar 2",
        "--rho-bar is 2.0, and --method n-step-q does not read it; expected --method a3c",
    ),
    (
        "train pong --lr-schedule constant --lr-final-fraction 0.5",
        "--lr-schedule constant does not read it; expected --lr-schedule linear or exponential",
    ),
    (
        "train pong --method n-step-q --ent-final-fraction 0.5",
        "--ent-final-fraction is 0.5, and --method n-step-q does not read it; expected --method a",
    ),
    (
        "train pong --lr-schedule constant --ent-final-fraction 0.5",
        "--lr-schedule constant does not read it; expected --lr-schedule linear or exponential",
    ),
    (
        "train pong --ent-final-fraction 2",
        "--ent-final-fraction is 2.0; expected a number at least 0 and at most 1",
    ),
    ("train breakout --optimizer adam", "--optimizer is 'adam'; expected shared-rmsprop, rmsprop"),
    ("train CartPole-v1 --normalize maybe", "unexpected words: maybe"),
    ("play breakout --episodes x", "--episodes is 'x'; expected a whole number"),
    ("play breakout --noop-max x", "--noop-max is 'x'; expected a whole number"),
    ("play breakout --epsilon x", "--epsilon is 'x'; expected a number"),
    ("play breakout --policy gredy", "expected sample, greedy; did you mean 'greedy'?"),
    ("train breakout --preset fst", "--preset is 'fst'; expected fast, paper, seed, control"),
    ("study", "study needs: TOML file that describes the study; --help lists the options"),
    ("play", "play needs: A game whose model ships, a model file, or a run folder"),
    ("train breakout --preset", "--preset needs a value"),
    ("train breakout --device tpu", "--device is 'tpu'"),
    ("train breakout --network mlp --num-envs 1", "mlp reads vectors"),
    ("train CartPole-v1 --network paper", "reads images"),
    ("train Pendulum-v1 --method one-step-q", "--method one-step-q learns a value for each action"),
    ("train Pendulum-v1 --method n-step-q", "Pendulum-v1 are continuous; expected --method a3c"),
    (
        "train CartPole-v1 --method q",
        "--method is 'q'; expected a3c, one-step-q, one-step-sarsa, n-step-q",
    ),
    ("train CartPole-v1 --method n-step-q --recurrent", "which has no LSTM; expected --method a3c"),
    (
        "train breakout --method n-step-q --correction vtrace",
        "has no policy to correct; expected n",
    ),
    (
        "train breakout --method n-step-q --ent-coef 0.1",
        "--method n-step-q does not read it; expect",
    ),
    (
        "train breakout --target-emulator-frames 5",
        "--method a3c does not read it; expected --method",
    ),
    (
        "train breakout --epsilon-emulator-frames 0",
        "expected a whole number at least 1 and at most",
    ),
    ("train Blackjack-v1", "gives observations Tuple"),
    ("train --resume nowhere", "no run folder 'nowhere'"),
    ("train --resume", "--resume needs a value"),
    ("train --from nowhere", "no model 'nowhere'"),
    ("train --from no/where", "no run folder 'no/where'"),
    ("train --from nowhere.safetensors", "no model file 'nowhere.safetensors'"),
    ("train CartPole-v1 --from breakout", "was trained on breakout, with observation shape"),
    ("train --config", "--config needs a value"),
    ("train --config nowhere.toml", "nowhere.toml: cannot read it: No such file"),
    ("train --confg x", "unknown option '--confg'; did you mean '--config'?"),
    ("train --resum x", "unknown option '--resum'; did you mean '--resume'?"),
    ("train --form x", "unknown option '--form'; did you mean '--from'?"),
    ("train breakout --num-envs 1.5", "--num-envs is '1.5'; expected a whole number"),
    ("train breakout --num-envs 1e-1", "--num-envs is '1e-1'; expected a whole number"),
    ("train breakout --lr abc", "--lr is 'abc'; expected a number"),
    ("train breakout --total-agent-steps 1e13", "whole number at least 1 and at most 1e+11"),
    ("train breakout --run-name a/b", "--run-name is 'a/b'; expected letters, digits"),
    ("train breakout --run-name .x", "--run-name is '.x'; expected letters, digits"),
    ("train breakout --run-name a:b", "--run-name is 'a:b'; expected letters, digits"),
    (f"train breakout --run-name {'x' * 101}", "--run-name has 101 bytes; expected at most 100"),
    (f"train breakout --run-name {'字' * 34}", "--run-name has 102 bytes; expected at most 100"),
    ("train --resume=", "--resume is ''; expected a value; is a variable not set?"),
    ("train breakout --from=", "--from is ''; expected a value; is a variable not set?"),
    (
        "train breakout --correction auto --rho-bar 2",
        "--correction none does not read it; expected --correction vtrace",
    ),
    ("train breakout --runs-dir=", "--runs-dir is ''; expected a name"),
    ("trian", "no command 'trian'"),
    ("--verson", "no command '--verson'; expected train, play"),
    ("--verson", "did you mean '--version'?"),
    ("play nowhere.safetensors", "no model file 'nowhere.safetensors'"),
    ("play nowhere --episodes 0", "--episodes is 0"),
    ("play nowhere --policy best", "best"),
    ("play", "play"),
    ("plot", "run folder"),
    ("plot nowhere", "no run folder 'nowhere'"),
    ("play brekout", "no model 'brekout'"),
    ("play brekout", "did you mean 'breakout'?"),
    (
        "play zaxxon",
        "no model 'zaxxon': expected a model file, a run folder, or a game whose model",
    ),
    ("report", "run folder"),
    ("report nowhere", "no run folder 'nowhere'"),
    ("study nowhere.toml", "nowhere.toml: cannot read it: No such file"),
    ("bench brekout", "no game 'brekout'; did you mean 'breakout'?"),
    ("bench ALE/Brekout-v5", "did you mean 'breakout'?"),
    ("bench CartPole-v7", "did you mean 'CartPole-v1'?"),
    ("bench Blackjack-v1", "gives observations Tuple"),
    ("bench CartPole-v1 --device tpu", "--device is 'tpu'; expected auto, cpu, cuda"),
    ("bench CartPole-v1 --seconds 0", "--seconds is 0.0; expected a number above 0"),
    ("bench CartPole-v1 --seconds inf", "--seconds is inf; expected a number above 0"),
    ("bench CartPole-v1 --seconds nan", "--seconds is nan; expected a number above 0"),
    ("bench CartPole-v1 --seconds 1e9", "expected a number above 0 and at most 3600"),
    ("bench CartPole-v1 --seconds abc", "--seconds is 'abc'; expected a number"),
    ("bench CartPole-v1 --secnds 1", "unknown option '--secnds'; did you mean '--seconds'?"),
    ("models pong", "models takes no options; found 'pong'"),
]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, which must stay empty."""
    folder = tmp_path / "nowhere-else"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def complaint(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says; it must be one line and end with exit code 2."""
    capsys.readouterr()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("a3c: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(("words", "expected"), TRAIN, ids=[words for words, _ in TRAIN])
def test_one_line_and_nothing_created(
    words: str, expected: str, nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in complaint(words.split(), capsys)
    assert not list(nowhere.iterdir())


@pytest.mark.parametrize(
    "words", ["train --resume", "train --config", "train --from", "train --lr", "play", "plot"]
)
def test_an_empty_word_is_not_the_current_folder(
    words: str, nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a shell's variable that is not set."""
    where = words.split()[-1] if "--" in words else "a word"
    said = complaint([*words.split(), ""], capsys)
    assert said == f"a3c: {where} is ''; expected a value; is a variable not set?\n"
    assert not list(nowhere.iterdir())


def test_bounds_of_many_numbers_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "run", Mock(side_effect=InputError("Box([0 0]\n   [9 9]); no")))
    assert cli.main(["train"]) == 2
    assert capsys.readouterr().err == "a3c: Box([0 0] [9 9]); no\n"


@pytest.mark.parametrize(
    "words",
    ["train --resume", "train --from", "train --config", "play", "export", "plot", "report"],
)
def test_a_name_longer_than_files_have(
    words: str, nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "File name too long" in complaint([*words.split(), "x" * 300], capsys)
    assert not list(nowhere.iterdir())


@pytest.mark.parametrize(
    "words", ["train --resume", "train --from", "play", "export", "plot", "report"]
)
def test_a_path_that_may_not_be_read(
    words: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tests' user may be allowed everything, so the system's refusal is played."""
    stat = Path.stat

    def refused(path: Path, **options: bool) -> os.stat_result:
        if "secret" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(cli, "is_known", lambda _: True)  # it is no user's
    assert "Permission denied: secret" in complaint([*words.split(), "secret/run"], capsys)


def test_what_a_users_own_environment_may_not_read_keeps_its_traceback(nowhere: Path) -> None:
    source = """
import gymnasium
def make(**kwargs):
    raise PermissionError(13, "Permission denied", "data.csv")
gymnasium.register("Unreadable-v0", make)
"""
    (nowhere / "unreadable_envs.py").write_text(source)
    with pytest.raises(PermissionError):
        cli.main(["train", "unreadable_envs:Unreadable-v0"])


def test_names_without_a_word_and_folders_of_another_kind(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(["train", " "], capsys)
    assert said == "a3c: a word is ' '; expected a value; is a variable not set?\n"
    (nowhere / "run" / "checkpoints").mkdir(parents=True)
    (nowhere / "run" / "config.json").write_text("{}")
    said = complaint(["play", "run/checkpoints"], capsys)
    assert said == "a3c: run/checkpoints is a part of a run folder; expected run\n"
    (nowhere / "model").mkdir()
    (nowhere / "model" / "model.safetensors").touch()
    said = complaint(["play", "./model"], capsys)
    inside = "model/model.safetensors, which is in it"
    assert said == f"a3c: model is no run folder; expected {inside}\n"
    said = complaint(["train", "run"], capsys)
    assert said == "a3c: no game 'run'; a3c train --resume run goes on with that run\n"
    said = complaint(["train", "CartPole-v1", "--runs-dir", "run/config.json"], capsys)
    assert said == "a3c: --runs-dir is run/config.json, which is no folder; expected one\n"


def test_what_may_not_be_read_beside_a_wrong_name_is_not_what_is_wrong(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (nowhere / "secret").mkdir()

    def refused(run: Path) -> list[Path]:
        raise PermissionError(errno.EACCES, "Permission denied", str(run))

    monkeypatch.setattr(checkpoint, "numbered", refused)
    assert "no model 'typo'" in complaint(["play", "typo"], capsys)
    assert "no run folder 'typo'" in complaint(["train", "--resume", "typo"], capsys)


def test_cuda_asked_for_and_absent(
    nowhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for command in ("train", "bench"):
        said = complaint([command, "breakout", "--device", "cuda:0"], capsys)
        assert "--device is 'cuda:0', but torch finds no CUDA device" in said
    assert not list(nowhere.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("breakout --num-envs 65536 --num-threads 2", "2 x 65,536 agents of breakout need about "),
        ("pong --emulator ale --num-envs 4096", "2 x 4,096 agents of pong need about "),
        ("breakout --num-envs 4096 --minibatches 64", "expected at most "),
        (
            "CartPole-v1 --num-envs 65536 --rollout-length 1000",
            "agents of each thread (--num-envs)",
        ),
        ("breakout --rollout-length 10000", "a smaller --rollout-length"),
    ],
)
def test_more_agents_than_memory_holds(
    words: str,
    expected: str,
    nowhere: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**29)
    said = complaint(["train", *words.split()], capsys)
    assert expected in said
    assert " of memory, and 0.5 GiB are available; " in said
    assert not list(nowhere.iterdir())


def test_a_missing_extra_names_the_pip_command(
    nowhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "mujoco" else find(name)
    )
    said = complaint(["train", "InvertedPendulum-v5"], capsys)
    assert "pip install -e '.[mujoco]'" in said
    assert not list(nowhere.iterdir())


def test_any_file_is_no_run(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nowhere / "notes.txt").write_text("not a model, so --from is no advice")
    said = complaint(["train", "--resume", "notes.txt"], capsys)
    assert said == "a3c: notes.txt is a file; expected a run folder\n"


def test_a_runs_folder_that_cannot_be_written(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (nowhere / "file").write_text("in the way")
    said = complaint(["train", "CartPole-v1", "--runs-dir", "file/runs"], capsys)
    assert said == "a3c: --runs-dir is file/runs, and file is no folder; expected one\n"
    assert [path.name for path in nowhere.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that takes no files")
def test_runs_where_nothing_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is compiled or measured."""
    said = complaint(["train", "CartPole-v1", "--runs-dir", "/proc/runs"], capsys)
    assert said.startswith("a3c: --runs-dir is /proc/runs, and /proc cannot be written into: ")


def test_play_into_a_folder_that_cannot_be_written(
    nowhere: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (nowhere / "file").write_text("in the way")
    said = complaint(["play", str(model), "--out", "file/out"], capsys)
    assert "cannot create the folder file/out" in said


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    config = preset(
        "control", env="CartPole-v1", total_agent_steps=200, num_threads=1, runs_dir=str(runs)
    )
    return train(config, quiet=True).folder


@pytest.fixture
def model(run_folder: Path, tmp_path: Path) -> Path:
    """A model file to spoil."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint.numbered(run_folder)[0].read_bytes())
    return path


def test_a_file_that_is_no_model(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("this is not a model")
    assert "is not a model file" in complaint(["play", str(text)], capsys)
    other = tmp_path / "other.safetensors"
    save_file({"x": zeros(3)}, other)
    assert "another safetensors file" in complaint(["play", str(other)], capsys)
    assert not list(nowhere.iterdir())


def test_a_damaged_model(nowhere: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(model.read_bytes())
    data[-8] ^= 1
    model.write_bytes(bytes(data))
    assert "is damaged: its checksum" in complaint(["play", str(model)], capsys)
    model.write_bytes(bytes(data[:-1000]))
    assert "is damaged" in complaint(["play", str(model)], capsys)
    assert not list(nowhere.iterdir())


def test_a_model_of_another_version(
    nowhere: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(model, lambda header: header.update(version=99))
    assert "has format version 99; expected 2" in complaint(["play", str(model)], capsys)
    assert not list(nowhere.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--lr 0.5", "--lr 0.5 contradicts the run to resume, which has 0.003"),
        ("pong", "the environment pong contradicts the run to resume, which has CartPole-v1"),
        ("--preset fast", "--preset contradicts --resume"),
        ("--from pong", "--from contradicts --resume"),
        ("--config x.toml", "--config contradicts --resume"),
        ("--total-agent-steps 100", "--total-agent-steps is 100; expected at least the 2"),
        ("--num-threads 9", "--num-threads 9 contradicts"),
        ("--run-name x", "--run-name x contradicts the run to resume, which has none"),
    ],
)
def test_resuming_with_a_contradicting_option(
    words: str, expected: str, nowhere: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.stat().st_mtime_ns for path in run_folder.rglob("*"))
    said = complaint(["train", "--resume", str(run_folder), *words.split()], capsys)
    assert expected in said
    assert sorted(path.stat().st_mtime_ns for path in run_folder.rglob("*")) == before


def test_resuming_a_folder_without_a_checkpoint(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(["train", "--resume", str(tmp_path)], capsys)
    assert "has no checkpoint that can be read" in said
    assert not list(nowhere.iterdir())
    assert not [path for path in tmp_path.iterdir() if path != nowhere]  # no lock file either


def test_resuming_a_file(nowhere: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(["train", "--resume", str(model)], capsys)
    assert f"--from {model} starts a new run with the file's parameters" in said
    assert not list(nowhere.iterdir())


def test_a_model_with_an_option_of_another_version(
    nowhere: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(model, lambda header: header["config"].update(vtrace=True))
    for words in (["play", str(model)], ["train", "CartPole-v1", "--from", str(model)]):
        assert "has the option 'vtrace', which this version does not know" in complaint(
            words, capsys
        )
    assert not list(nowhere.iterdir())


def test_observations_of_another_shape(run_folder: Path) -> None:
    import a3c

    policy = a3c.load(run_folder)
    with pytest.raises(a3c.InputError, match=r"expected \[N, 4\]"):
        policy.act(zeros(3, 5).numpy())


def test_a_reader_that_has_left() -> None:
    """`a3c train --help | head -0`: no traceback."""
    words = [sys.executable, "-m", "a3c.cli", "train", "--help"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_help_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w", buffering=1) as full, redirect_stdout(full):
        assert cli.main(["train", "--help"]) == 1
    assert capsys.readouterr().err == "a3c: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("emulator", ["atari2600", "ale"])
def test_a_rom_that_is_missing_is_one_line(
    emulator: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    words = ["train", "venture", "--emulator", emulator, "--runs-dir", str(tmp_path / "runs")]
    assert cli.main(words) == 2
    assert "cannot read the ROM file of venture: " in last_line(capsys)
    (tmp_path / "venture.bin").write_bytes(bytes(4096))
    if emulator == "atari2600":
        assert cli.main(words) == 2
        assert "venture.bin has md5 620f0b67a91f7f74151bc5be745b7110; expected " in last_line(
            capsys
        )
    assert not (tmp_path / "runs").exists()


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """All that stderr has, which is one line of the command's."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("a3c: ")
    return line


def test_a_pipe_that_is_not_stdout_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "a worker's")

    monkeypatch.setattr(cli, "plot", breaks)
    with pytest.raises(BrokenPipeError):
        cli.main(["plot", "anything"])


@contextmanager
def nobody_reads() -> Iterator[None]:
    """Stdout is a pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as pipe, redirect_stdout(pipe):
        yield


def test_where_a_file_is_the_result_a_reader_that_has_left_is_no_failure(
    run_folder: Path, tmp_path: Path
) -> None:
    with nobody_reads():
        assert cli.main(["plot", str(run_folder), "--out", str(tmp_path / "curves.png")]) == 0


def test_what_nobody_reads_has_failed() -> None:
    with nobody_reads():
        assert cli.main(["models"]) == 1


def test_what_was_run_is_written_though_nobody_reads_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('[base]\nenv = "CartPole-v1"\nnum_threads = 1\n[grid]\nseed = [1]\n')
    monkeypatch.setattr(study, "run_all", lambda plans: study.Went(interrupted=True, failures=[]))
    write_study = Mock(return_value=False)
    monkeypatch.setattr(study, "write_study", write_study)
    with nobody_reads(), suppress(BrokenPipeError):  # as the pipe is closed
        assert cli.main(["study", str(spec), "--out", str(tmp_path / "out")]) == 0
    write_study.assert_called_once()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("held_actions pongg", "argument game: invalid choice: 'pongg'"),
        ("env_fps --games pong pongg", "argument --games: invalid choice: 'pongg'"),
        ("exactness --games pongg", "argument --games: invalid choice: 'pongg'"),
        ("both_emulators --games pongg", "argument --games: invalid choice: 'pongg'"),
        ("asteroids nowhere", "no model 'nowhere': expected a model file, a run folder, or"),
        ("asteroids pong", "pong plays pong; expected a model of Asteroids"),
        ("long_games nowhere", "no model 'nowhere': expected a model file, a run folder, or"),
        ("dead_units nowhere", "no model 'nowhere': expected a model file, a run folder, or"),
        ("ship nowhere", "no run folder 'nowhere'"),
        ("ancestor nowhere", "no run folder 'nowhere'"),
    ],
)
def test_a_benchmarks_argument(
    words: str,
    complaint: str,
    nowhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, *rest = words.split()
    monkeypatch.setattr(sys, "argv", [program, *rest])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{program}").main()
    assert ended.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{program}: error: {complaint}")
