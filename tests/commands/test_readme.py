"""Every command of the README and the docs, with a tiny budget; their Python; the files they name.

Commands are the lines of ```console blocks, and `a3c ...` in running text unless it has a
placeholder in capitals (`a3c play GAME`). Each starts in a folder with a finished run of CartPole
in `runs`, what `a3c play` made of it, a `study.toml` and a `run.toml`.
Those of single games' pages, long runs and much alike, are only read.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from a3c import cli
from a3c.command.parsing import parse
from a3c.command.train_options import train_options
from a3c.config import ALL_MACHINES
from a3c.envs.names import atari_game
from a3c.results import study_plan
from a3c.results.curves import check_is_run
from a3c.results.play import PlayOptions
from a3c.results.played import read_scores
from a3c.results.plot import PlotOptions
from a3c.run import log, models

ROOT = Path(__file__).parents[2]
FILES = [
    *("README.md", "docs/results/README.md", "examples/README.md"),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
GAME_PAGES = [
    *("docs/results/breakout.md", "docs/results/pong.md", "docs/results/seed.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "models").glob("*/README.md")),
]
PAGES = {name: (ROOT / name).read_text() for name in [*FILES, *GAME_PAGES]}
README, MAP = PAGES["README.md"], PAGES["docs/architecture.md"]
# Commands of a console block that are not ours to run; of `python` the file must be there
FOREIGN = (
    *("make ", "pip ", "source .venv/", "python -m venv ", "python -m pytest "),
    *("ray ", "kubectl "),
)
INSTALL = "PIP_EXTRA_INDEX_URL="
PLACEHOLDER = re.compile(r"(?<![\w/])[A-Z]+(?![\w/])|\.\.\.")
TRAIN = {"--total-agent-steps": "40", "--num-envs": "2", "--num-threads": "1"}
PLAY = {"--episodes": "1", "--max-agent-steps": "100"}
EVALUATED = {"--evaluate-episodes": "1"}
SHORT = {"--max-episode-frames": "200"}
GROUPS = {"--minibatches": "2"}
MEASURED = {"--seconds": "0.1"}
LONGER = {"--total-agent-steps": "4400"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def console(page: str) -> list[str]:
    """The lines of a page's console blocks; a backslash joins two."""
    text = "".join(blocks(page, "console")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def in_the_text(page: str) -> list[str]:
    """`a3c train pong` and the like, outside of blocks."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    spans = (" ".join(span.split()) for span in re.findall(r"`(a3c \w+ [^`]+)`", text))
    return [span for span in spans if not PLACEHOLDER.search(span)]


def commands(page: str) -> list[str]:
    ours = [line for line in console(page) if line.startswith("a3c ")]
    return ours + in_the_text(page)


def commands_of(names: list[str]) -> list[str]:
    lines = (line for name in names for line in commands(PAGES[name]))
    return sorted({" ".join(line.split()) for line in lines})


COMMANDS = commands_of(FILES)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_readme_has_commands_of_each_kind() -> None:
    assert {shlex.split(line)[1] for line in commands(README)} == {
        "train",
        "play",
        "plot",
        "report",
        "export",
        "models",
        "bench",
    }
    assert "a3c study" in PAGES["docs/running.md"]


@pytest.mark.parametrize("name", PAGES)
def test_a_command_of_another_program_is_one_of_few(name: str) -> None:
    for line in console(PAGES[name]):
        if line.startswith(("a3c ", *FOREIGN, INSTALL)):
            continue
        program, script, *_ = line.split()
        assert program == "python", line
        assert (ROOT / script).is_file(), line


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a run that has finished some games, and has been played."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # It learns nothing, so that games stay short and a hundred of them end
        words = ["--total-agent-steps=4000", "--num-threads=1", "--lr=1e-9"]
        assert cli.main(["train", "CartPole-v1", *words]) == 0
        for model in ("runs/latest", "runs/latest/checkpoints/best.safetensors"):
            assert cli.main(["play", model, "--episodes", "1"]) == 0
        options, spec = sorted(blocks(PAGES["docs/running.md"], "toml"), key=len)
        assert "2_000_000" in spec
        assert 'env = "pong"' in spec
        spec = spec.replace("2_000_000", "600").replace('"pong"', '"CartPole-v1"')
        (folder / "study.toml").write_text(spec.replace("128", "8").replace("64", "4"))
        (folder / "run.toml").write_text(options)
        (folder / "my_module.py").write_text(MY_MODULE)
    return folder


MY_MODULE = """
import gymnasium
gymnasium.register("MyEnv-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=9)
"""


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, for one command alone."""
    place = tmp_path / "place"
    shutil.copytree(finished, place, symlinks=True)
    monkeypatch.chdir(place)
    return place


def explained(where: str) -> set[str]:
    """The names in the first column of a table of docs/running.md, the header says of what."""
    _, table = PAGES["docs/running.md"].split(f"| in {where} | what it is |\n", 1)
    rows = table.split("\n\n", 1)[0].splitlines()[1:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_all_that_records_say_is_explained(place: Path) -> None:
    says = {name for record in log.read(place / "runs/latest/metrics.jsonl") for name in record}
    assert says == explained("a line of `metrics.jsonl`")
    assert set(read_scores(place / "runs/latest/play")) == explained("`scores.json` of `a3c play`")


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("line", COMMANDS)
def test_command(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line)[1:]
    if words[0] == "export":
        pytest.importorskip("onnxscript")
    if "--help" in words:
        with pytest.raises(SystemExit) as end:
            cli.main(words)
        assert not end.value.code
        return
    if (
        words[0] in ("study", "benchmark") and (ROOT / words[1]).is_file()
    ):  # hours of runs: it can be read
        assert study_plan.plan(study_plan.read_spec(ROOT / words[1]), Path("studies"))
        return
    if "--cluster" in words:  # that there is a cluster, tests/cluster sees to
        config = train_options(tiny(words)[1:]).config
        assert config.cluster
        assert config.nodes == ALL_MACHINES or "--nodes" in words
        pytest.skip("needs a Ray cluster; its options can be read")
    if "--nodes" in words:  # likewise
        assert train_options(words[1:]).config.nodes == int(words[words.index("--nodes") + 1])
        return
    code = cli.main(tiny(words))
    if "cuda" in line:
        assert code == 2
        assert "torch finds no CUDA device" in capsys.readouterr().err
        return
    assert code == 0


@pytest.mark.parametrize("line", commands_of(GAME_PAGES))
def test_a_command_of_a_games_page_can_be_read(line: str) -> None:
    command, *words = shlex.split(line)[1:]
    if command == "train":
        train_options(words)
    elif command == "plot":  # of records that are kept here
        for run in parse(PlotOptions, words).runs:
            check_is_run(ROOT / run)
    else:
        assert command == "play"
        assert parse(PlayOptions, words).model in {*models.shipped(), "runs/latest"}


def test_each_games_page_has_its_command() -> None:
    for name in GAME_PAGES:
        assert [line for line in commands(PAGES[name]) if line.startswith("a3c train ")], name


def tiny(words: list[str]) -> list[str]:
    """The command with the smallest budget: a resumed run keeps its own."""
    if words[0] == "bench":
        return without(words, MEASURED) + [word for option in MEASURED.items() for word in option]
    if words[0] == "play":
        return without(words, PLAY) + [word for option in PLAY.items() for word in option]
    if words[0] == "train" and "--resume" not in words:
        budget = TRAIN | (EVALUATED if "--evaluate-every" in words else {})
        budget |= SHORT if "--evaluate-every" in words and atari_game(words[1]) else {}
        budget |= GROUPS if "--minibatches" in words else {}
        return without(words, budget) + [word for option in budget.items() for word in option]
    if words[0] == "train" and "--total-agent-steps" in words:
        return without(words, LONGER) + [word for option in LONGER.items() for word in option]
    return words


def without(words: list[str], options: dict[str, str]) -> list[str]:
    """The words but for these options and their values."""
    places = {i for i, word in enumerate(words) if word in options}
    return [word for i, word in enumerate(words) if i not in places and i - 1 not in places]


PYTHON = [(name, i) for name, page in PAGES.items() for i, _ in enumerate(blocks(page, "python"))]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("name", "i"), PYTHON)
def test_python(name: str, i: int) -> None:
    code = blocks(PAGES[name], "python")[i]
    for module in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        if module in ("stable_baselines3", "onnxruntime"):
            pytest.importorskip(module)
    if "make_atari_env" in code:
        pytest.importorskip("cv2")  # which its wrappers need
    if "breakout.onnx" in code:
        pytest.importorskip("onnxscript")
        assert cli.main(["export", "breakout", "--out", "breakout.onnx"]) == 0
    code = re.sub(r"total_agent_steps=[\d_]+", "total_agent_steps=160", code)
    names: dict[str, object] = {}
    exec(code, names)
    if name == "README.md":
        assert getattr(names["actions"], "shape", None) == (8,)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """To a file that is there, and to a heading that it has."""
    text = re.sub(r"^```.*?^```", "", PAGES[name], flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), target
        if heading:
            assert heading in headings(path.read_text()), target


@pytest.mark.parametrize("name", PAGES)
def test_files_that_a_page_names_are_there(name: str) -> None:
    """Also in blocks, and in `code`: a file that was moved leaves its old name behind in prose."""
    folders = "a3c|atari2600|benchmarks|docs|examples|models|tests"
    named = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/-]+\.[a-z]+\b)", PAGES[name])
    assert sorted(path for path in set(named) if not (ROOT / path).is_file()) == []


def headings(page: str) -> set[str]:
    """As GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_map_of_the_code_has_each_module_once() -> None:
    """It is the blocks of docs/architecture.md that list files, and no other page has one."""
    named = re.findall(r"\b((?:a3c|atari2600)/[\w/]+\.py)\b", "\n".join(blocks(MAP, "")))
    assert sorted(named) == sorted(set(named)), "a file twice"
    modules = [*(ROOT / "a3c").rglob("*.py"), *(ROOT / "atari2600").rglob("*.py")]
    there = {str(path.relative_to(ROOT)) for path in modules if path.name != "__init__.py"}
    assert sorted(there - set(named)) == [], "missing in the map"


def make(target: str, words: str) -> str:
    """What it would run."""
    command = ["make", "--no-print-directory", "-n", target, f"ARGS={words}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_passes_its_words_on() -> None:
    words = "pong --total-agent-steps 1300000"
    assert f'make train ARGS="{words}"' in README
    assert f".venv/bin/a3c train {words}\n" in make("train", words)


def test_make_runs_all_tests_in_several_processes_and_a_few_in_one() -> None:
    words = "tests/a3c/test_loss.py"
    assert f'make test ARGS="{words}"' in PAGES["docs/running.md"]
    few, every = make("test", words), make("test", "")
    assert few.endswith(f".venv/bin/python -m pytest {words}\n")
    assert "atari2600" not in few  # which takes a minute to compile
    assert "--numprocesses auto" in every.splitlines()[-1]


def test_ci_runs_what_the_readme_says() -> None:
    assert "make test" in README
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()
