"""The repository's own pages, under their own paths, so that links between them need no translation.

A page may link to any file. Other Markdown is a page by itself, pictures are copied, and source text that somebody
links to becomes a page that shows it: `torch_mars/algos/mars.py` is `torch_mars/algos/mars.py.md` on the site.
"""

import json
import os
import re
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "results", "benchmarks", "examples")  # with pages of their own
SOURCES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml", ".css": "css"}
LARGEST_SHOWN = 100_000  # bytes of a source; larger ones are copied
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def pages() -> dict[str, str]:
    """Path -> Markdown of every page that somebody wrote, notebooks among them."""
    paths = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md")))]
    found = {name_of(path): path.read_text() for path in paths}
    notebooks = {f"{name_of(path)}.md": notebook(path) for path in sorted((ROOT / "examples").glob("*.ipynb"))}
    return found | notebooks


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def target(page: str, link: str) -> str | None:
    """The file or folder of the repository that a link of a page means; None if it means none."""
    if ":" in link or link.startswith("/"):
        return None
    name = os.path.normpath(PurePosixPath(page).parent / link)
    return name if (ROOT / name).exists() and not name.startswith("..") else None


def linked(written: dict[str, str]) -> dict[str, str | None]:
    """What pages link to and is no page: path -> Markdown of the page that shows it, or None for a file to copy."""
    found: dict[str, str | None] = {}
    for page, text in written.items():
        for link in re.findall(r'\]\(([^)#\s]+)|src="([^"]+)"', text):
            name = target(page, "".join(link))
            if name is None or name in written:
                continue
            shown = page_of(name)
            if shown in written or shown in found:
                continue
            if (ROOT / name).is_dir():
                found |= {shown: listing(name)} | linked({shown: listing(name)} | dict.fromkeys(written, ""))
            else:
                found[shown] = None if shown == name else source(name)
    return found


def page_of(name: str) -> str:
    """Where the site has a file or folder of the repository."""
    path = ROOT / name
    if path.is_dir():
        return f"{name}/README.md"
    is_shown = path.suffix == ".ipynb" or path.suffix in SOURCES and path.stat().st_size < LARGEST_SHOWN
    return f"{name}.md" if is_shown else name


def to_site(page: str, text: str) -> str:
    """A page's Markdown with links as the site has them."""

    def moved(link: re.Match) -> str:
        name = target(page, link[2])
        if name is None or name.endswith(".md"):
            return link[0]
        return f"{link[1]}{relative(page, page_of(name))}{link[3]}"

    return LINK.sub(moved, text)


def relative(page: str, name: str) -> str:
    return os.path.relpath(name, PurePosixPath(page).parent)


def source(name: str) -> str:
    """A page that shows a file, with numbered lines; the search leaves it out."""
    path = ROOT / name
    shown = fenced(path.read_text(), SOURCES[path.suffix], is_numbered=True)
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n{shown}\n"


def fenced(text: str, language: str, is_numbered: bool = False) -> str:
    numbers = ' linenums="1"' if is_numbered else ""
    fence = "`" * (3 + max(map(len, re.findall("`{3,}", text)), default=0))
    return f"{fence}{language}{numbers}\n{text.rstrip()}\n{fence}"


def listing(folder: str) -> str:
    """A page for a folder that somebody links to."""
    files = sorted(path for path in (ROOT / folder).iterdir() if path.suffix in SOURCES)
    return f"# {folder}/\n\n" + "\n".join(f"- [{path.name}]({path.name})" for path in files) + "\n"


def notebook(path: Path) -> str:
    """A notebook as Markdown: its words, its code, and what that printed."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(fenced(text, "python") if cell["cell_type"] == "code" else text)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![What it drew](data:image/png;base64,{''.join(data['image/png']).strip()})")
            elif printed := "".join(output.get("text", data.get("text/plain", ""))):
                parts.append(fenced(printed, "text"))
    return "\n\n".join(parts) + f"\n\n*This page shows the notebook `{name_of(path)}`, which runs in Jupyter.*\n"
