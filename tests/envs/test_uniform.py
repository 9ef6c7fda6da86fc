"""Every environment's folder has the same files that hold the same things: who knows one finds any rule of another."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import torch_mars.envs as envs
from torch_mars.envs.core import BatchedEnv, State

ROOM = Path(envs.__file__).parent
FOLDERS = sorted(path.parent for path in ROOM.glob("*/env.py"))
ROWS = ("observation", "global state", "action", "reward", "start", "end")
in_every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def module(folder, name):
    return importlib.import_module(f"torch_mars.envs.{folder.name}.{name}")


def names_in(path):
    """Every name that a file's code mentions, comments and texts left aside."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.alias):
            names |= set(node.name.split("."))
        names |= {getattr(node, field) for field in ("id", "attr") if isinstance(getattr(node, field, None), str)}
    return names


@in_every_folder
def test_the_package_only_says_what_it_holds(folder):
    body = ast.parse((folder / "__init__.py").read_text()).body
    assert len(body) == 1 and isinstance(body[0], ast.Expr), f"{folder.name}/__init__.py holds more than a docstring"
    for path in folder.glob("*.py"):
        assert path.stem == "__init__" or f"`{path.name}`" in body[0].value.value, f"nothing is said of {path.name}"


@in_every_folder
def test_the_task_has_a_title_tasks_options_and_a_state(folder):
    task = module(folder, "task")
    assert isinstance(task.TITLE, str) and task.TITLE
    assert task.TASKS and not set(task.TASKS) & set(task.EXTENSIONS)
    for name, options in {**task.TASKS, **task.EXTENSIONS}.items():
        assert isinstance(name, str) and task.Options(**options)
    assert getattr(task, "BUDGET", 1) == (3 if folder.name in ("aerojax", "jaxnav") else 1), "the paper's lengths"
    assert any(inspect.isclass(value) and issubclass(value, State) for value in vars(task).values())
    if folder.name in envs.ENVIRONMENTS:
        assert tuple(task.TASKS) == envs.ENVIRONMENTS[folder.name]


@in_every_folder
def test_the_task_is_known_without_its_rules_and_numba(folder):
    name = f"torch_mars.envs.{folder.name}"
    code = f"import sys, {name}.task; print([m for m in ('numba', '{name}.env', '{name}.loops') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOM.parents[1])
    assert done.stdout.strip() == "[]", f"{name}.task imports {done.stdout}{done.stderr}"


@in_every_folder
def test_the_rules_are_one_class_with_a_table(folder):
    rules = module(folder, "env")
    assert issubclass(rules.ENVIRONMENT, BatchedEnv)
    assert rules.ENVIRONMENT.Options is module(folder, "task").Options
    for row in ROWS:
        assert f"\n| {row} |" in rules.__doc__, f"{folder.name}/env.py: its docstring has no row {row!r}"
    draw = list(inspect.signature(rules.ENVIRONMENT.draw).parameters)
    assert draw[:4] == ["self", "state", "index", "trail"]


LOOPS = [folder / "loops.py" for folder in FOLDERS if (folder / "loops.py").exists()]


@pytest.mark.parametrize("path", LOOPS, ids=lambda path: path.parent.name)
def test_loops_are_compiled_by_the_one_decorator(path):
    assert "compiled" in names_in(path)
    assert not names_in(path) & {"njit", "jit", "numba"}, f"{path.parent.name}/loops.py: only `compiled` says how"


# where the twins of the loops stand, and the loops without one: what the tensors need no function for
TWINS = {
    "paxmen": ("env.py", {"tables"}),
    "smax": (("scenarios.py", "opponents.py", "env.py"), {"rules", "no_units", "clipped"}),
    "jaxnav": (
        ("lidar.py", "maps.py", "env.py"),
        {"numbers", "room", "_draw_lines", "_is_wall", "_beams_towards", "_fits"},
    ),
    "rware": ("env.py", {"tables"}),
    "mpe": ("env.py", {"parts"}),
    "connector": (("boards.py", "env.py"), {"_is_way"}),
    "aerojax": (
        ("vectors.py", "physics.py", "opponents.py", "env.py"),
        {
            *("constants", "fleet_of", "new_results", "metrics", "environments_at_once", "situation", "scratch"),
            *("larger", "smaller", "clamp", "cosine_sine", "add", "subtract", "scale", "put", "lane", "put_lane"),
            *("orient", "orient_all", "_board"),
        },
    ),
    "search_and_rescue": (
        "env.py",
        {"numbers", "remainder", "clipped", "noise", "draw_ranks", "_advance"},
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_loops_have_the_names_and_the_order_of_their_twins(name):
    files, alone = TWINS[name]
    files = (files,) if isinstance(files, str) else files
    text = "\n".join((ROOM / name / file).read_text() for file in files)
    of_tensors = re.findall(r"^ *def (\w+)", text, re.MULTILINE)
    of_loops = re.findall(r"^def (\w+)", (ROOM / name / "loops.py").read_text(), re.MULTILINE)
    of_loops = [function for function in of_loops if function not in alone]
    assert not set(of_loops) - set(of_tensors), f"{name}: loops without a twin in {files}"
    assert of_loops == [function for function in of_tensors if function in of_loops], (
        f"{name}: not in the order of {files}"
    )


@pytest.mark.parametrize(
    "name",
    [
        "jaxnav_07x07x2a",
        "jaxnav_7x7x02a",
        "jaxnav_\u0667x\u0667x2a",
        "jaxnav_7x9x2a",
        "jaxnav_7x7x0a",
        "jaxnav_7x7x2a\n",
    ],
)
def test_a_size_of_jaxnav_has_one_name(name):
    from torch_mars.envs.jaxnav.task import other_task

    assert other_task("jaxnav_20x20x12a") == {"map_size": 20, "num_agents": 12}
    assert other_task(name) is None
