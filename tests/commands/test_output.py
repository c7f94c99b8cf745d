"""Results are written whole or not at all, and what the system refuses is one line."""

import errno
from pathlib import Path

import pytest

from a3c.errors import InputError
from a3c.results.output import out_folder, write_text


def test_a_read_only_system_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There even the removal of a file that is not there is refused."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    path = tmp_path / "report.html"
    monkeypatch.setattr(Path, "write_text", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(InputError, match=f"cannot write {path}: Read-only file system"):
        write_text(path, "page")


def test_out_is_at_home_without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somebody")
    assert out_folder("~/my study") == Path("/somebody/my study")
    wide = "研究\u3000一"  # its space is no control character
    assert out_folder(wide) == Path(wide)
