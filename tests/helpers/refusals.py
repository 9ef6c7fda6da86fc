"""What every refusal has in common: exit code 2, one line, soon, and nothing left behind."""

import time
from pathlib import Path

import pytest

from torch_mars import experiment
from torch_mars.protocol import studies
from torch_mars.run import cli, record

LONGEST_SECONDS = 5.0  # a second on a machine of one's own
LONGEST_LINE = 4200


def refuse_to_train(*_, **__):
    pytest.fail("it was accepted")


def refusal(main, argv, capsys, monkeypatch, tmp_path) -> str:
    """The one sentence with which a command refuses its arguments. It is run in an empty folder."""
    here = tmp_path / "here"
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(record, "Run", refuse_to_train)
    for module in (studies, experiment):
        monkeypatch.setattr(module, "Training", refuse_to_train)
    before = files_in(tmp_path)
    start = time.monotonic()
    with pytest.raises(SystemExit) as stopped:
        cli.guarded(lambda: main([str(word) for word in argv]), "command")
    seconds = time.monotonic() - start
    said = capsys.readouterr()
    assert stopped.value.code == 2, said.err + said.out
    check_sentence(said.err.removesuffix("\n"))
    assert said.err.endswith("\n") and not said.out
    assert seconds < LONGEST_SECONDS, f"{seconds:.1f} s"
    assert files_in(tmp_path) == before
    return said.err


def check_sentence(said: str) -> None:
    assert said and said.isprintable() and len(said) < LONGEST_LINE, said[:1000]
    assert "Traceback" not in said


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))
