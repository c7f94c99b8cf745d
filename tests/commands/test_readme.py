"""Every command of the README, with a tiny budget; and its Python."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from a3c import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TINY = ["--total-agent-steps=40", "--num-envs=2", "--num-threads=1", "--network=auto"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    line for block in blocks("console") for line in block.splitlines() if line.startswith("a3c ")
]


def test_the_readme_has_commands_of_each_kind() -> None:
    assert {shlex.split(line)[1] for line in COMMANDS} == {
        "train",
        "play",
        "plot",
        "report",
        "study",
        "models",
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a run that has finished some games."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["--total-agent-steps=2000", "--num-threads=1"]
        assert cli.main(["train", "CartPole-v1", *words]) == 0
        (spec,) = blocks("toml")
        assert "2_000_000" in spec
        assert 'env = "pong"' in spec
        spec = spec.replace("2_000_000", "2000").replace('"pong"', '"CartPole-v1"')
        (folder / "study.toml").write_text(spec.replace("128", "8").replace("64", "4"))
    return folder


@pytest.mark.parametrize("line", COMMANDS)
def test_command(line: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    words = shlex.split(line)[1:]
    if "--help" in words:
        with pytest.raises(SystemExit) as end:
            cli.main(words)
        assert not end.value.code
        return
    tiny = TINY if words[0] == "train" and "--resume" not in words else []
    given = {word.split("=")[0] for word in words}
    assert cli.main(words + [word for word in tiny if word.split("=")[0] not in given]) == 0


def test_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    (code,) = blocks("python")
    assert "2_000_000" in code
    names: dict[str, object] = {}
    exec(code.replace("2_000_000", "160"), names)
    assert getattr(names["actions"], "shape", None) == (8,)


def test_make_passes_its_words_on() -> None:
    words = ["make", "-n", "train", "ARGS=pong --total-agent-steps 2000000"]
    assert words[-1] in README.replace('"', "")
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ".venv/bin/a3c train pong --total-agent-steps 2000000" in shown


def test_ci_runs_what_the_readme_says() -> None:
    assert "make test" in README
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()
