"""One page a command: what its module says, and its help, from the parser itself."""

import contextlib
import importlib
import inspect
import io
import os
from unittest import mock

from repository import fenced

from torch_mars import __main__ as roof
from torch_mars import algos

WIDTH = "100"  # columns of a help text


def pages() -> dict[str, str]:
    return {"commands/README.md": overview()} | {page_name(name): page(name) for name in roof.COMMANDS}


def page_name(command: str) -> str:
    return f"commands/{command}.md"


def overview() -> str:
    rows = [f"| [{name}]({name}.md) | {sentence} |" for name, sentence in roof.COMMANDS.items()]
    words = "Every command is also a module: `torch-mars play` is `python -m torch_mars.play`."
    table = "\n".join(["| command | what it does |", "|---|---|", *rows])
    return f"# All commands\n\n{words}\n\n{table}\n\n{fenced(printed(roof.main, []), 'text')}\n"


def page(command: str) -> str:
    if command == "train":
        lessons = [f"## {name}\n\n{help_of(f'train {name}', algos.lesson(name).main)}" for name in algos.LESSONS]
        parts = [inspect.getdoc(roof.train), help_of("train", roof.train), *lessons]
    else:
        module = importlib.import_module(f"torch_mars.{command}")
        parts = [inspect.getdoc(module), help_of(command, module.main)]
    return "\n\n".join([f"# {command}", *parts]) + "\n"


def help_of(command: str, main) -> str:
    return fenced(f"$ torch-mars {command} --help\n{printed(main, ['--help'])}", "text")


def printed(main, words: list[str]) -> str:
    """What a command prints."""
    output = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": WIDTH}), contextlib.redirect_stdout(output):
        with contextlib.suppress(SystemExit):
            main(words)
    return output.getvalue()
