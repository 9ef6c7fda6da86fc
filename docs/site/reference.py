"""The reference: which objects of the package stand on which page. mkdocstrings shows their docstrings."""

import importlib
import importlib.util

# page -> title, what it is about, and modules or objects; what is not there yet, or anymore, is left out
PAGES = {
    "environments": (
        "Environments",
        "The door, `torch_mars.envs`: how environments are made, named and found.",
        ("torch_mars.envs",),
    ),
    "batched": (
        "Batched environments",
        "What `envs.make` returns, and what an environment of your own writes: [how](../docs/your_own.md).",
        ("torch_mars.envs.core.BatchedEnv", "torch_mars.envs.core.TimeStep", "torch_mars.envs.core.State"),
    ),
    "faces": (
        "Faces",
        "What `envs.parallel_env`, `envs.batched_parallel_env` and the like return, [and for what](../docs/faces.md).",
        ("torch_mars.envs.pettingzoo", "torch_mars.envs.vector"),
    ),
    "policies": (
        "Trained teams",
        "From a run, a file or the package: [how to use them](../docs/policies.md).",
        ("torch_mars.load_policy", "torch_mars.teams.policies.Policy"),
    ),
    "random_numbers": (
        "Random numbers",
        "For rules of your own: pure functions of a key, the same on every device and for every batch size.",
        ("torch_mars.envs.rng",),
    ),
    "methods": (
        "Methods",
        "Lessons by name, and what tables, figures and searches know of a method.",
        ("torch_mars.algos", "torch_mars.protocol.methods"),
    ),
}
FIRST = ("make", "parallel_env", "batched_parallel_env", "vector_env")  # of a page
_SOURCE = "\n    options: {show_source: true}"
SHOWN = {f"torch_mars.envs.core.{name}": _SOURCE for name in ("TimeStep", "State")}  # their comments say what is what
MOVED = {"torch_mars.load_policy": "torch_mars.teams.policies.load_policy"}  # handed on by a function, not an import


def pages() -> dict[str, str]:
    return {f"reference/{name}.md": page(*parts) for name, parts in PAGES.items()}


def page(title: str, sentence: str, names: tuple[str, ...]) -> str:
    entries = [f"::: {entry}{SHOWN.get(entry, '')}" for name in names for entry in entries_of(name)]
    return "\n\n".join([f"# {title}", sentence, *entries]) + "\n"


def entries_of(name: str) -> list[str]:
    """Names that mkdocstrings knows: of a module that says what it hands out, of each of that."""
    if is_module(name):
        handed_out = getattr(importlib.import_module(name), "__all__", None)
        if not handed_out:
            return [name]
        first = [each for each in FIRST if each in handed_out]
        return [f"{name}.{each}" for each in (*first, *(each for each in handed_out if each not in first))]
    module, _, inside = name.rpartition(".")
    return [MOVED.get(name, name)] if hasattr(importlib.import_module(module), inside) else []


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a name inside a module
        return False
