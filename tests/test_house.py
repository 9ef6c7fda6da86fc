"""The house: who may import whom (`docs/house.md`), read from the imports themselves."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "torch_mars"
# room -> the rooms that stand below it; the commands are the roof
BELOW = {
    "envs": (),
    "run": ("envs",),
    "nn": ("run", "envs"),
    "algos": ("nn", "run", "envs"),
    "teams": ("algos", "nn", "run", "envs"),
    "protocol": ("algos", "nn", "run", "envs"),
    "roof": ("protocol", "teams", "algos", "nn", "run", "envs"),
}
# Inside algos/ a lesson is complete by itself, and only `algos.lesson` may find one; but this one shows what changes
# when the policies of the others remember.
OF_OTHERS = "torch_mars.algos.recurrent"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "yaml")


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else "roof"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Modules of the package that a file imports: at once, later, or only for types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            module = name if is_module(name) else name.rpartition(".")[0]
            if module.split(".")[0] == "torch_mars":
                found.add(module)
    return found


def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def sentence(source: str, target: str) -> str | None:
    """What an import breaks, None if it is allowed."""
    here, there = room_of(source), room_of(target)
    if target == "torch_mars":
        return None
    if there == "roof":
        return f"{source} may not import {target}: commands are the roof, nothing imports them"
    if here != there and there not in BELOW[here]:
        return f"{here}/ may not import {there}/ ({source} imports {target})"
    if there == "algos" and target != "torch_mars.algos" and source != OF_OTHERS:
        return f"{source} may not import {target}: only algos.lesson finds a lesson"
    return None


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_arrows_only_fall(path):
    broken = [sentence(module_of(path), target) for target in imports_of(path)]
    assert not [text for text in broken if text], "\n".join(text for text in broken if text)


def test_there_is_no_circle():
    """Not even by an import inside a function, or for types; a package stands for its __init__.py."""
    graph = {module_of(path): imports_of(path) for path in FILES}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for target in sorted(graph.get(module, ())):
                walk(target, (*trail, module))
            done.add(module)

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize(
    "source, target, says",
    [
        ("torch_mars.teams.policies", "torch_mars.protocol.methods", "teams/ may not import protocol/"),
        ("torch_mars.envs.core", "torch_mars.run.cli", "envs/ may not import run/"),
        ("torch_mars.nn.layers", "torch_mars.algos", "nn/ may not import algos/"),
        ("torch_mars.protocol.report", "torch_mars.plot", "commands are the roof"),
        ("torch_mars.evaluate", "torch_mars.algos.mars", "only algos.lesson finds a lesson"),
    ],
)
def test_what_is_forbidden_is_said(source, target, says):
    assert says in sentence(source, target)


def test_every_room_says_what_it_is_for():
    for room in [*(PACKAGE / name for name in BELOW if name != "roof"), *(PACKAGE / "envs").glob("*/")]:
        if (room / "__init__.py").exists():
            assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), room


def test_the_drawing_shows_every_file():
    """`docs/house.md` names every file of every room, and none that is gone."""
    page = (ROOT / "docs/house.md").read_text()
    drawing = page.split("```")[1]
    for room in BELOW:
        folder = PACKAGE if room == "roof" else PACKAGE / room
        for path in folder.glob("*.py"):
            assert path.name == "__init__.py" or re.search(rf"\b{path.stem}\b", drawing), path
    for name in re.findall(r"\b[a-z_]+(?:/[a-z_]+)*\.py\b", drawing):
        assert list(PACKAGE.rglob(name)), name
