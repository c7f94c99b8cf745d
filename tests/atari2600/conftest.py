"""What the emulator's tests share."""

import pytest

from atari2600.backends import translate


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No translation to machine code: it takes seconds a game."""
    monkeypatch.setattr(translate, "code_of", lambda _, image, *__: translate.nothing(image))
