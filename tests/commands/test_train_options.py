"""`a3c train`: its help, its presets, numbers, the TOML file; and `a3c --version`."""

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

import a3c
from a3c import cli, machine
from a3c.command.parsing import expanded, parse, whole_number
from a3c.command.train_options import STARTS, helps, train_options
from a3c.config import ALL_MACHINES, RULES, Config
from a3c.errors import InputError, option
from a3c.options import GROUPS
from a3c.presets import PRESETS, preset
from a3c.results.play import PlayOptions
from a3c.run import checkpoint
from a3c.train import train


def shown(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What --help prints, in one line, without boxes."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", *words.split()])
    assert ended.value.code == 0
    return " ".join(re.sub(r"[│╭╰─╮╯]", " ", capsys.readouterr().out).split())


def test_every_option_stands_in_the_help_once_in_the_order_of_config(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = shown("--help", capsys)
    names = [field.name for field in fields(Config)][1:]
    found = [re.search(rf"{option(name)}(?: [A-Z{{]|, --no-)", said) for name in (*STARTS, *names)]
    places = [place.start() for place in found if place is not None]
    assert len(places) == len(found)
    assert places == sorted(places)
    titles = [said.index(f" {title} options ") for title in GROUPS.values()]
    assert titles == sorted(titles)
    assert "[ENV] Atari game" in said
    for text in helps().values():
        assert text in said


def test_each_help_calls_its_place_what_the_usage_does(capsys: pytest.CaptureFixture[str]) -> None:
    usage = re.findall(r"a3c (\w+) (\[?[A-Z_]{3,}(?: \[RUN ...)?\]?)", cli.USAGE)
    assert len(usage) == 9
    for command, place in usage:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        first, _ = capsys.readouterr().out.split("\n\n", 1)
        assert f" {place}" in first, command


def test_every_field_has_its_help_and_every_group_a_first_field() -> None:
    names = [field.name for field in fields(Config)]
    assert list(helps()) == names
    assert all(helps().values())
    assert set(GROUPS) <= set(names)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("--help", "fast"),
        ("-h", "fast"),
        ("pong --help", "fast"),
        ("CartPole-v1 --help", "control"),
        ("--help CartPole-v1", "control"),
        ("pong --preset paper --help", "paper"),
        ("--preset=seed --help", "seed"),
    ],
)
def test_the_help_has_the_defaults_in_force(
    words: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = shown(words, capsys)
    config = preset(name)
    for text in ("num_threads", "rollout_length", "lr", "total_agent_steps", "network"):
        value = getattr(config, text)
        if name == "fast" and text in RULES:
            value = "auto, 2 here" if text == "num_threads" else "auto"
        assert f"{helps()[text]} (default: {value})" in said


@pytest.mark.parametrize(
    ("word", "number"),
    [("7", 7), ("1_000_000", 10**6), ("1e6", 10**6), ("2.5E3", 2500), ("1e22", 10**22), ("-3", -3)],
)
def test_whole_numbers(word: str, number: int) -> None:
    assert whole_number([word]) == number


@pytest.mark.parametrize("word", ["1.5", "1e-3", "abc", "", "inf", "nan", "1e999", "1,000", "0x10"])
def test_what_is_no_whole_number(word: str) -> None:
    with pytest.raises(ValueError, match="expected a whole number"):
        whole_number([word])


def test_so_may_those_of_other_commands() -> None:
    assert parse(PlayOptions, ["breakout", "--max-agent-steps", "1e3"]).max_agent_steps == 1000


def test_every_whole_number_may_be_written_so() -> None:
    words = "breakout --total-agent-steps 2e6 --num-envs 1_0 --seed 1e2 --rollout-length=2e1"
    config = train_options(words.split()).config
    assert (config.total_agent_steps, config.num_envs, config.seed) == (2_000_000, 10, 100)
    assert config.rollout_length == 20


@pytest.mark.parametrize(
    ("words", "text", "threads"),
    [
        ("", "", 12),
        ("--num-threads auto", "num_threads = 3", 12),
        ("--num-threads=auto --preset paper", "", 12),
        ("", 'num_threads = "auto"\npreset = "paper"', 12),
        ("", "num_threads = 3", 3),
        ("", 'preset = "paper"', 16),
        ("--num-threads 3", 'num_threads = "auto"', 3),
    ],
)
def test_auto_is_a_number_from_here_on(
    words: str, text: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "physical_cores", lambda: 12)
    asked = ["breakout", *words.split(), "--config", file(tmp_path, text)]
    assert train_options(asked).config.num_threads == threads


def test_a_resumed_run_keeps_its_threads_on_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"num_threads": "auto", "total_agent_steps": 200, "runs_dir": str(tmp_path)}
    folder = train(preset("control", env="CartPole-v1", **options), quiet=True).folder
    assert json.loads((folder / "config.json").read_text())["num_threads"] == 2
    monkeypatch.setattr(machine, "physical_cores", lambda: 12)
    assert train_options(["--resume", str(folder)]).config.num_threads == 2
    assert f"{helps()['num_threads']} (default: 2)" in shown(f"--resume {folder} --help", capsys)
    asked = train_options(["--resume", str(folder), "--num-threads", "auto"])
    with pytest.raises(InputError, match="--num-threads 12 contradicts the run to resume, which"):
        train(asked.config, asked.resume, quiet=True)


@pytest.mark.parametrize("name", [*PRESETS, None])
def test_presets(name: str | None) -> None:
    words = ["--preset", name] if name else []
    expected = preset(name or "fast", lr=0.5, full_action_set=True, clip_rewards=False)
    changes = ["--lr", "0.5", "--full-action-set", "--no-clip-rewards"]
    assert train_options(["breakout", *words, *changes]).config == expected
    atari = train_options(["ALE/Pong-v5"]).config
    assert atari == preset("fast", env="ALE/Pong-v5")
    assert train_options(["CartPole-v1"]).config == preset("control", env="CartPole-v1")


def file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return str(path)


def test_a_toml_file_and_the_words_that_overrule_it(tmp_path: Path) -> None:
    text = 'env = "pong"\npreset = "paper"\nlr = 1\nseed = 5\ntotal_agent_steps = 1e6\n'
    text += 'recurrent = true\nmode = "sync"\n'
    path = file(tmp_path, text)
    expected = preset("paper", env="pong", lr=1, seed=5, recurrent=True, mode="sync")
    expected = replace(expected, total_agent_steps=1_000_000)
    assert train_options(["--config", path]).config == expected
    words = ["breakout", f"--config={path}", "--seed", "6", "--no-recurrent"]
    overruled = replace(expected, env="breakout", seed=6, recurrent=False)
    assert train_options(words).config == overruled
    assert train_options(["--config", path, "--preset", "seed"]).config == preset(
        "seed", env="pong", lr=1, seed=5, recurrent=True, mode="sync", total_agent_steps=1_000_000
    )


@pytest.mark.parametrize(
    ("words", "name"),
    [(["CartPole-v1"], "control"), ([], "control"), (["pong"], "fast")],
)
def test_the_preset_goes_by_the_environment_in_force(
    tmp_path: Path, words: list[str], name: str
) -> None:
    path = file(tmp_path, 'env = "Acrobot-v1"\n')
    config = train_options([*words, "--config", path]).config
    assert config == preset(name, env=(words or ["Acrobot-v1"])[0])


@pytest.mark.parametrize("words", [[], ["CartPole-v1"]])
def test_a_file_is_checked_with_the_preset_of_the_environment_in_force(
    tmp_path: Path, words: list[str]
) -> None:
    env = "" if words else 'env = "CartPole-v1"\n'
    path = file(tmp_path, f"{env}lr_final_fraction = 0.0\n")  # `fast` would not take it
    config = train_options([*words, "--config", path]).config
    assert (config.env, config.lr_schedule, config.lr_final_fraction) == (
        "CartPole-v1",
        "linear",
        0,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("num_env = 3", "no option 'num_env'; did you mean 'num_envs'?"),
        ("num-envs = 3", "no option 'num-envs'; did you mean 'num_envs'?"),
        ("presett = 'fast'", "did you mean 'preset'?"),
        ("preset = 'fst'", "--preset is 'fst'; expected fast"),
        ("preset = 3", "--preset is 3; expected fast"),
        ("preset = ['fast']", "expected fast"),
        ("[base]\nlr = 1", "no option 'base'"),
        ("env = 3", "the environment is 3; expected text"),
        ("lr = 'fast'", "--lr is 'fast'; expected a number"),
        ("num_envs = 1.5", "--num-envs is 1.5; expected a whole number"),
        ("num_envs = inf", "--num-envs is inf; expected a whole number"),
        (
            "num_threads = 0",
            "--num-threads is 0; expected a whole number at least 1 and at most 256",
        ),
        ("num_threads = 'many'", "--num-threads is 'many'; expected a whole number, or auto"),
        ("seed = true", "--seed is True; expected a whole number"),
        ("recurrent = 1", "--recurrent is 1; expected True or False"),
        ("lr = ", "is not TOML"),
        ("a = " + "[" * 5000, "it is not TOML: "),
        ("seed = 0x" + "f" * 5000, "it is not TOML: Exceeds the limit"),
        ("gamma = 2", "--gamma is 2; expected a number at least 0 and at most 1"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, expected: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(InputError) as caught:
        train_options(["--config", path])
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_is_read_over_the_preset_that_is_asked_for(tmp_path: Path) -> None:
    """3 would be wrong with the frame skip of `fast`."""
    path = file(tmp_path, "frame_skip_max = 3")
    asked = ["--config", path, "--preset", "seed"]
    assert train_options(asked).config == preset("seed", frame_skip_max=3)


def test_the_file_is_not_blamed_for_the_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--preset is 'fst'; expected fast"):
        train_options(["--config", file(tmp_path, "lr = 1"), "--preset", "fst"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("momentum = 0.5", "--optimizer momentum"),
        ("minibatches = 3", "--num-envs 9"),
        ("sync_every = 2\nmode = 'sync'", "--mode async"),
    ],
)
def test_words_may_make_a_file_right(tmp_path: Path, text: str, words: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(InputError, match=f"^{path}: "):
        train_options(["--config", path])
    assert train_options(["--config", path, *words.split()]).config


def test_a_file_is_not_blamed_for_what_the_words_have_repaired(tmp_path: Path) -> None:
    path = file(tmp_path, 'optimizer = "rmsprop"\nmode = "sync"')
    with pytest.raises(InputError, match=r"^--lr is -5"):
        train_options(["--config", path, "--mode", "async", "--lr", "-5"])


def test_a_file_may_be_a_pipe_and_begin_as_windows_writes_it(tmp_path: Path) -> None:
    """It is read once."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    text = b'\xef\xbb\xbfenv = "pong"\npreset = "seed"\noptimizer = "momentum"\n'
    threading.Thread(target=path.write_bytes, args=[text]).start()
    expected = preset("seed", env="pong", optimizer="momentum")
    assert train_options(["--config", str(path)]).config == expected


def nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize("make", [nothing, Path.mkdir, lambda path: path.write_bytes(b"\xff\xfe")])
def test_files_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "run.toml"
    make(path)
    with pytest.raises(InputError, match=f"{path}: "):
        train_options(["--config", str(path)])


def test_resuming_takes_the_runs_own_options(tmp_path: Path) -> None:
    config = preset("control", env="CartPole-v1", total_agent_steps=200, runs_dir=str(tmp_path))
    folder = train(config, quiet=True).folder
    options = train_options(["--resume", str(folder), "--total-agent-steps", "1e4"])
    assert options == (replace(config, total_agent_steps=10_000), str(folder), None)
    path = file(tmp_path, "")
    for words in (["--preset", "fast"], ["--from", "pong"], ["--config", path]):
        with pytest.raises(InputError, match=f"{words[0]} contradicts --resume"):
            train_options(["--resume", str(folder), *words])
    with pytest.raises(InputError, match="--runs-dir contradicts --resume: a run stays in its"):
        train_options(["--resume", str(folder), "--runs_dir=elsewhere"])


def test_a_run_that_moves_to_a_cluster_takes_all_of_it(tmp_path: Path) -> None:
    """And one that leaves it is a single node; of a file `nodes` counts, and of the words."""
    config = preset("control", env="CartPole-v1", total_agent_steps=64, num_threads=1)
    run = train(replace(config, runs_dir=str(tmp_path)), quiet=True).folder
    words = ["--resume", str(run), "--cluster", "auto"]
    assert train_options(words).config.nodes == ALL_MACHINES
    assert train_options([*words, "--nodes", "1"]).config.nodes == 1
    saved = checkpoint.newest(run).checkpoint
    cluster = replace(saved.config, cluster="auto", nodes=3)
    checkpoint.save_into(run, saved._replace(config=cluster))
    assert train_options(["--resume", str(run)]).config.nodes == 3
    assert train_options(["--resume", str(run), "--cluster="]).config.nodes == 1
    file = tmp_path / "run.toml"
    file.write_text('env = "CartPole-v1"\nnodes = 3\nmode = "sync"')
    assert train_options(["--config", str(file), "--cluster", "auto"]).config.nodes == 3


def test_from_and_the_name_of_a_run() -> None:
    model = "models/pong.safetensors"
    words = f"pong --from {model} --run-name better-2"
    expected = preset("fast", env="pong", run_name="better-2")
    assert train_options(words.split()) == (expected, None, model)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"a3c-gpu {a3c.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", a3c.__version__)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("--out=~/a b=c", "--out=HOME/a b=c"),
        ("--out=a~", "--out=a~"),
        ("--out", "--out"),
        ("~/a=~/b", "~/a=~/b"),  # no option: a shell has seen the first
    ],
)
def test_the_home_behind_an_equals_sign(
    word: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "HOME")
    assert expanded(word) == found
