"""Tasks by name: those of the benchmark, as the folders beside this file list them, and a user's own.

A user's own environment is a class. It becomes a task by being handed over itself, by `register`, or by being typed as
`my_module:Gather`, `my_module:gather_3` (a name that the module registers) or `path/my_module.py:Gather`. A module with
PettingZoo's `parallel_env`, whoever wrote it, is typed as `pettingzoo:my_module`.

To look for a module is to run its code, and a task's name can also stand in a file of somebody else's. So there are two
ways from a name to a task: `find` for what somebody typed, which imports; `known` for all other names, which does not.

Nothing here makes an environment, and no rules are imported before they are needed.
"""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch_mars.envs import modules
from torch_mars.envs.core import BatchedEnv
from torch_mars.envs.options import allowed, make_options, shown

# folders, in the order in which their tasks are listed
FOLDERS = ("paxmen", "aerojax", "jaxnav", "search_and_rescue", "connector", "mpe", "rware", "smax")
_TASK_FILES = {name: importlib.import_module(f"torch_mars.envs.{name}.task") for name in FOLDERS}
ENVIRONMENTS: dict[str, tuple[str, ...]] = {name: tuple(file.TASKS) for name, file in _TASK_FILES.items()}
TASKS: tuple[str, ...] = tuple(task for group in ENVIRONMENTS.values() for task in group)
FOREIGN = "pettingzoo"  # in front of the colon: behind it stands a foreign module


@dataclass(frozen=True)
class Task:
    """An environment with the options that make it this task.

    Attributes:
        name: as it is saved with a run.
        family: the environment that it belongs to: a folder beside this file, or a user's class in lower case.
        options: fields of the environment's `Options`.
        own: the user's class, or that of a foreign module; None for those of the package.
        typed: how the user typed it; "" where nobody did.
    """

    name: str
    family: str
    options: Mapping[str, Any] = field(default_factory=dict)
    own: type[BatchedEnv] | None = None
    typed: str = ""

    @property
    def environment(self) -> type[BatchedEnv]:
        """The class, imported now if it has not been."""
        return self.own or importlib.import_module(f"torch_mars.envs.{self.family}.env").ENVIRONMENT

    @property
    def to_type(self) -> str:
        """How it can be typed again, in another process."""
        return self.typed or (f"{self.own.__module__}:{self.name.rpartition(':')[2]}" if self.own else self.name)

    @property
    def is_foreign(self) -> bool:
        """Whether it is made by PettingZoo's `parallel_env` of some module: on the CPU, by processes."""
        return self.name.startswith(FOREIGN + ":")

    @property
    def settings_file(self) -> Path | None:
        """Of a user's own environment, the yaml file beside its module; None where there is none."""
        source = getattr(_module_of(self.own), "__file__", None) if self.own else None
        path = Path(source).with_suffix(".yaml") if source else None
        return path if path and path.is_file() else None

    @property
    def siblings(self) -> list[str]:
        """The tasks for which a settings file may have a section: of the package, or of the user's module."""
        if self.is_foreign:
            return [self.name.rpartition(":")[2]]
        return _own_names(_module_of(self.own)) if self.own else list(tasks())


_registered: dict[str, Task] = {}
_typed: dict[str, Task] = {}  # by name


# ---- from a name to a task ----


def known(name: str | Task) -> Task:
    """The task of a name that may come from anywhere. No module is imported for it.

    Raises:
        ValueError: an unknown task, or one of a module that nobody imported.
    """
    if isinstance(name, Task):
        return name
    if not isinstance(name, str):
        raise ValueError(f"a task is a name or a class, not {type(name).__name__}")
    if ":" in name:
        return _typed.get(name) or _behind_colon(name, *_parted(name))
    if task := _registered.get(name) or _of_package(name):
        return task
    raise ValueError(unknown(name))


def find(task: str | Task | type[BatchedEnv]) -> Task:
    """The task that somebody typed, or handed over as a class. A module in front of a colon is imported.

    Raises:
        ValueError: as in `known`; there is no such module, or nothing of that name in it.
    """
    if isinstance(task, type):
        return Task(f"{task.__module__}:{task.__qualname__}", _family_of(_checked(task)), {}, task)
    if not isinstance(task, str) or ":" not in task:
        return known(task)
    source, name = _parted(task)
    if source == FOREIGN:
        found = _foreign(_imported_quietly(name).__name__)
    else:
        found = _in_module(f"{modules.typed(source).__name__}:{name}", modules.typed(source).__name__, name)
    as_typed = _typed[task].typed if task in _typed else task  # a name that a typed path became says less
    _typed[found.name] = found = dataclasses.replace(found, typed=as_typed)
    return found


def unknown(name: str, others: Iterable[str] = ()) -> str:
    """The sentence on a name that is of no task. `others`: what else might have been meant where it was typed."""
    if modules.is_path(name):
        return f"{shown(name)} is a file; name the class in it, too: {name}:MyEnvironment"
    return f"unknown task {shown(name)}; {allowed(name, (*others, *tasks()))}"


def is_same(typed: Task, saved: str) -> bool:
    """Whether a typed task is the one saved under a name: the same behind the colon, wherever its module lies now."""
    (ours, this), (theirs, that) = (name.rpartition(":")[::2] for name in (typed.name, saved))
    return this == that and (ours == FOREIGN) == (theirs == FOREIGN)


def folder_name(task: str) -> str:
    """A task's name as the name of a folder or file."""
    return task.replace(":", ".")


def _of_package(name: str) -> Task | None:
    for family, file in _TASK_FILES.items():
        for options in (file.TASKS.get(name), file.EXTENSIONS.get(name)):
            if options is not None:
                return Task(name, family, options)
        if hasattr(file, "other_task") and (options := file.other_task(name)) is not None:
            return Task(name, family, options)
    return None


def _parted(name: str) -> tuple[str, str]:
    """Module or path, and what is named in it."""
    source, _, inside = name.rpartition(":")
    if source.startswith(FOREIGN + ":") or (source == FOREIGN and not inside):
        raise ValueError(f"{shown(name)} is no task; a module with a parallel_env is typed as {FOREIGN}:my_module")
    if not source or not inside:
        raise ValueError(f"{shown(name)} is no task; one of your own is typed as my_module:MyEnvironment")
    return source, inside


def _behind_colon(task: str, source: str, name: str) -> Task:
    """The task of a module that is imported."""
    if modules.imported(name if source == FOREIGN else source) is None:
        own = f"task {shown(task)} is of a module of somebody's own"
        raise ValueError(f"{own}, and only what you type is imported: add --env {task}, or import it first")
    return _foreign(name) if source == FOREIGN else _in_module(task, source, name)


def _in_module(task: str, source: str, name: str) -> Task:
    """What an imported module calls `name`."""
    module = modules.imported(source)
    if name in _registered and name in _own_names(module):
        return dataclasses.replace(_registered[name], name=task)
    environment = functools.reduce(lambda inside, part: getattr(inside, part, None), name.split("."), module)
    if not (isinstance(environment, type) and issubclass(environment, BatchedEnv)):
        raise ValueError(f"module {source} has no environment {shown(name)}; {_offers(module, name)}")
    return Task(task, _family_of(_checked(environment)), {}, environment)


def _foreign(name: str) -> Task:
    """What the `parallel_env` of an imported module makes."""
    from torch_mars.envs.foreign import environment_of

    module = modules.imported(name)
    if not callable(getattr(module, "parallel_env", None)):
        has = "it has only env, of agents that take turns" if hasattr(module, "env") else _versions(module)
        raise ValueError(f"module {name} has no parallel_env{'; ' + has if has else ''}")
    task = f"{FOREIGN}:{name}"
    return Task(task, name.rpartition(".")[2], {}, environment_of(name), task)


def _versions(package: ModuleType, wanted: str = "") -> str:
    """The environments in a package, which PettingZoo's custom lets end in `_v<number>`: the near ones, or all."""
    found = pkgutil.iter_modules(getattr(package, "__path__", []), f"{package.__name__}.")
    names = [part.name for part in found if re.search(r"_v\d+$", part.name)]
    return allowed(wanted, names) if names else ""


def _imported_quietly(source: str) -> ModuleType:
    """The foreign module that was typed. What it prints goes where errors go: output may be read by programs."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return modules.typed(source)
        except modules.NoModule as error:
            if modules.is_path(source) or "did you mean" in str(error):
                raise
            package = source.partition(".")[0]
            hint = f"if it comes with a package, install that first: pip install {package}"
            with contextlib.suppress(ValueError):
                hint = _versions(modules.typed(source.rpartition(".")[0]), source) or hint
            raise modules.NoModule(f"{error}; {hint}") from None


def _offers(module: ModuleType, name: str) -> str:
    names = _own_names(module)
    return allowed(name, names) if names else "a subclass of torch_mars.envs.core.BatchedEnv is one"


def _own_names(module: ModuleType) -> list[str]:
    """The tasks in a user's module: its environments, and the names registered for them."""
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BatchedEnv) and not inspect.isabstract(value)
    }
    registered = [name for name, task in _registered.items() if task.own in classes.values()]
    return [*classes, *registered]


def _module_of(environment: type) -> ModuleType | None:
    return modules.imported(environment.__module__)


def _family_of(environment: type) -> str:
    """That of a user's class is its name; figures and tables keep it apart from the package's, and from "all"."""
    name = environment.__name__.lower()
    return f"{environment.__module__.rpartition('.')[2]}.{name}" if name in (*FOLDERS, "all") else name


# ---- a user's own ----


def register(name: str, environment: type[BatchedEnv], options: Mapping[str, Any] | None = None) -> None:
    """Give an environment of one's own, with options, the name of a task.

    Args:
        name: letters, digits, `_`, `-` and `.`; not that of a task of the package. A name given again is replaced.
        environment: a subclass of BatchedEnv.
        options: fields of its `Options`.

    Raises:
        ValueError: a name that cannot be one, no such class, or options that it does not have.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ValueError(f"{shown(name)} cannot be the name of a task; use letters, digits, '_', '-' and '.'")
    if _of_package(name) or name in TASKS:
        raise ValueError(f"task {name!r} is one of the package; give yours another name")
    make_options(_checked(environment).Options, dict(options or {}))
    _registered[name] = Task(name, _family_of(environment), dict(options or {}), environment)


def _checked(environment: Any) -> type[BatchedEnv]:
    """ValueError unless it is a class that can be made."""
    if not (isinstance(environment, type) and issubclass(environment, BatchedEnv)):
        raise ValueError(
            f"{shown(environment)} is no environment: it must be a subclass of torch_mars.envs.core.BatchedEnv"
        )
    if missing := sorted(environment.__abstractmethods__):
        raise ValueError(f"{environment.__name__} is not complete: it lacks {', '.join(missing)}")
    if not dataclasses.is_dataclass(getattr(environment, "Options", None)):
        raise ValueError(f"{environment.__name__} lacks Options, a dataclass of what `make` may override")
    if environment.headline and environment.headline not in environment.metrics:
        told = allowed(environment.headline, environment.metrics) if environment.metrics else "it has none"
        raise ValueError(f"{environment.__name__}: headline is {shown(environment.headline)}, no metric; {told}")
    return environment


# ---- what is asked of a task or an environment ----


def tasks() -> tuple[str, ...]:
    """The tasks that have names: the 47 of the benchmark, extensions of it, registered ones.

    Other sizes of JaxNav (`jaxnav_<W>x<W>x<N>a`), Connector (`connector_<G>x<G>x<N>a`) and Search & Rescue
    (`search_and_rescue_<N>x<T>`), and a user's `my_module:Gather`, can be made, too.
    """
    files = _TASK_FILES.values()
    names = [name for kind in ("TASKS", "EXTENSIONS") for file in files for name in getattr(file, kind)]
    return (*names, *_registered)


def listing() -> dict[str, list[str]]:
    """`tasks()` by environment, with the names of other sizes as `jaxnav_<W>x<W>x<N>a`; a user's own by their class."""
    groups = {}
    for family, file in _TASK_FILES.items():
        others = [file.OTHER_SIZES] if hasattr(file, "OTHER_SIZES") else []
        groups[family] = [*file.TASKS, *file.EXTENSIONS, *others]
    for name, task in _registered.items():
        groups.setdefault(task.family, []).append(name)
    return groups


def title(family: str) -> str:
    """How an environment is written in tables and figures."""
    return _TASK_FILES[family].TITLE if family in _TASK_FILES else {"all": "all environments"}.get(family, family)


def budget(task: str) -> int:
    """How many times the paper's usual number of environment steps it gives to this task."""
    return getattr(_TASK_FILES.get(known(task).family), "BUDGET", 1)
