"""What MkDocs calls while it builds the site (`mkdocs.yml`): which pages there are, and what is done to their text.

The pages are those that somebody wrote (`repository.py`) and those made of the code (`environments.py`, `commands.py`,
`reference.py`). In written ones, comments are filled on the site, and say nothing on a code host (`blocks.py`).
"""

import contextlib
import html
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import blocks
import commands
import environments
import reference
import repository
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

MADE = (environments, commands, reference)
STYLE = "docs/site/style.css"
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
WORD = re.compile(r"(<mi>(?:log|sinh)</mi>)(<mi>|<msub>)")  # "log r", which MathML sets as "logr"

_content: dict[str, str | None] = {}  # of this build: path -> Markdown, or None for a file that is copied


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    written = repository.pages()
    with in_one_sentence():
        made = {name: text for room in MADE for name, text in room.pages().items()}
    _content.clear()
    _content.update(written | made | repository.linked(written | made) | {STYLE: None})
    config.nav = navigation(config.nav, sorted(written | made))
    return config


@contextlib.contextmanager
def in_one_sentence() -> Iterator[None]:
    """What is wrong in a page ends the build without a traceback."""
    try:
        yield
    except ValueError as error:
        raise PluginError(str(error)) from error


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages and files of the site in place of those that MkDocs found in docs/."""
    theme = [file for file in files if not (repository.ROOT / "docs" / file.src_uri).exists()]
    return Files(theme + [generated(name, text, config) for name, text in _content.items()])


def generated(name: str, text: str | None, config: MkDocsConfig) -> File:
    if text is None:
        return File(name, str(repository.ROOT), config.site_dir, config.use_directory_urls)
    return File.generated(config, name, content=text)


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    name = page.file.src_uri
    with in_one_sentence():
        return repository.to_site(name, blocks.filled(name, markdown))


def on_page_content(content: str, **_) -> str:
    """Formulas as MathML, which browsers show without a script."""

    def mathml(found: re.Match) -> str:
        formula = convert(html.unescape(found[2]), display="block" if found[1] == "div" else "inline")
        return WORD.sub(r'\1<mspace width="0.17em" />\2', formula)

    return FORMULA.sub(mathml, content)


def navigation(given: list, pages: list[str]) -> list:
    """The navigation of mkdocs.yml with its folders filled (see there)."""
    named = {item for item in flat(given) if item.endswith(".md")}
    free = [page for page in pages if page not in named]

    def filled(items: list) -> list:
        result = []
        for item in items:
            title, value = next(iter(item.items())) if isinstance(item, dict) else (None, item)
            if isinstance(value, list):
                result.append({title: filled(value)})
            elif value.endswith("/"):
                result += [page for page in free if str(PurePosixPath(page).parent) + "/" == value]
            elif value in pages:
                result.append(item)
        return result

    return filled(given)


def flat(items: list) -> list[str]:
    found = []
    for item in items:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        found += flat(value) if isinstance(value, list) else [value]
    return found
