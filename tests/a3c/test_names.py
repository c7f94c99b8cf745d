"""Names: games under all their spellings, hints for what is not there, modules and extras."""

import importlib.util
import sys
from pathlib import Path

import gymnasium
import pytest

from a3c.envs.names import atari_game, check_gymnasium_id, default_preset
from a3c.errors import InputError
from atari2600 import games


@pytest.mark.parametrize(
    ("env", "game"),
    [
        ("breakout", "breakout"),
        ("ms_pacman", "ms_pacman"),
        ("ALE/Breakout-v5", "breakout"),
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("atari2600/Breakout-v5", "breakout"),
        ("atari2600/MsPacman-v5", "ms_pacman"),
        ("BreakoutNoFrameskip-v4", "breakout"),
        ("Breakout-v0", "breakout"),
        ("ale_py:ALE/Breakout-v5", "breakout"),  # Gymnasium imports the module first
        ("atari2600:atari2600/Breakout-v5", "breakout"),
        ("CartPole-v1", None),
        ("Blackjack-v1", None),  # also the name of an Atari game
        ("blackjack", "blackjack"),
        ("ALE/Breakout-ram-v5", None),
        ("atari2600/Breakout-ram-v5", None),
        ("ale_py:breakout", None),
        ("cartpole", None),
    ],
)
def test_names_of_games(env: str, game: str | None) -> None:
    assert atari_game(env) == game


def test_every_id_that_an_emulator_registers_is_a_game() -> None:
    emulators = ("ale_py.env:AtariEnv", "atari2600.env:AtariEnv")
    ids = [name for name, known in gymnasium.registry.items() if known.entry_point in emulators]
    assert None not in [atari_game(name) for name in ids]
    own = [atari_game(name) for name in ids if name.startswith("atari2600/")]
    assert own == games.names()


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ("breakout", "fast"),
        ("brekout", "fast"),
        ("ALE/Breakout-v5", "fast"),
        ("atari2600/Breakout-v5", "fast"),
        ("CartPole-v1", "control"),
        ("my_module:mine-v0", "control"),
    ],
)
def test_the_preset_follows_from_the_environment(env: str, name: str) -> None:
    assert default_preset(env) == name


@pytest.mark.parametrize(
    ("env", "meant"),
    [
        ("cartpole", "CartPole-v1"),
        ("CartPole", "CartPole-v1"),
        ("CARTPOLE-V1", "CartPole-v1"),
        ("cartpol", "CartPole-v1"),
        ("CartPole-v9", "CartPole-v1"),
        ("CartPole-v12", "CartPole-v1"),
        ("Humanoid-v9", "Humanoid-v5"),  # the newest of five
        ("lunarlander", "LunarLander-v3"),
        ("brekout", "breakout"),
        ("Brekout-v4", "breakout"),
        ("Breakout", "breakout"),
        ("ALE/Brekout-v5", "breakout"),
        ("atari2600/Brekout-v5", "breakout"),
        ("BrekoutNoFrameskip-v4", "breakout"),
        ("BreakoutDeterministic-v4", "breakout"),
        ("SpaceInvaders", "space_invaders"),
        ("space-invaders", "space_invaders"),
        ("Blackjack-v9", "Blackjack-v1"),
        ("blakjack", "blackjack"),
        ("tests.environments:NaN-v7", "tests.environments:NaN-v0"),
    ],
)
def test_what_was_meant(env: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"did you mean '{meant}'"):
        check_gymnasium_id(env)


@pytest.mark.parametrize("env", ["qwertyuiop", "", "/", "Qwertyuiop-v3"])
def test_nothing_like_it_says_what_is_expected(env: str) -> None:
    expected = "expected an Atari game such as breakout, or a Gymnasium id such as CartPole-v1"
    with pytest.raises(InputError, match=expected):
        check_gymnasium_id(env)


@pytest.mark.parametrize("module", ["no_such_module", "xml.no_such", "", ".here", "a:b"])
def test_a_module_that_is_not_there(module: str) -> None:
    with pytest.raises(InputError, match=f"no module '{module}' .* current folder"):
        check_gymnasium_id(f"{module}:CartPole-v1")


def test_a_module_that_needs_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_another.py").write_text("import no_such_module\n")
    monkeypatch.chdir(tmp_path)
    expected = "needs_another cannot be imported: No module named 'no_such_module'"
    with pytest.raises(InputError, match=expected):
        check_gymnasium_id("needs_another:X-v0")


def test_the_current_folder_is_looked_at_and_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in ("of_mine_one", "of_mine_two"):
        (tmp_path / f"{name}.py").write_text("")
        check_gymnasium_id(f"{name}:CartPole-v1")
    assert sys.path.count("") == 1


@pytest.mark.parametrize(
    ("env", "package", "extra"),
    [("InvertedPendulum-v5", "mujoco", "mujoco"), ("LunarLander-v3", "Box2D", "box2d")],
)
def test_a_missing_extra_names_the_pip_command(
    env: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(InputError, match=rf"needs {package}; .*pip install -e '\.\[{extra}\]'"):
        check_gymnasium_id(env)
