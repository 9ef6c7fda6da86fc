"""How loops are compiled: kept on disk as long as nothing that they were made from changed, and compiled anyway where
nothing can be kept."""

import subprocess
import sys

import numba.core.caching
import pytest
from task_lists import ONE_EACH

from torch_mars.envs import loops, rng_loops
from torch_mars.envs.aerojax import loops as aerojax_loops
from torch_mars.envs.aerojax import physics_loops
from torch_mars.envs.loops import compiled

RULE = """
from constants import STEP
from torch_mars.envs.loops import compiled

@compiled
def move(place):
    return place + STEP

moved = move(1)
print(moved, sum(move.dispatcher.stats.cache_hits.values()))
"""


def test_a_changed_constant_of_another_file_is_seen(tmp_path):
    """numba's own cache looks only at the file of the function."""
    (tmp_path / "rule.py").write_text(RULE)
    said = []
    for step in (1, 1, 5):
        (tmp_path / "constants.py").write_text(f"STEP = {step}\n")
        done = subprocess.run([sys.executable, "rule.py"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split())
    assert said == [["2", "0"], ["2", "1"], ["6", "0"]]


@pytest.mark.slow
def test_what_is_kept_may_name_types_that_are_no_more(tmp_path):
    """Of an older state of the rules, whose tuples had other names: pickle cannot find them."""
    rule = """
from typing import NamedTuple
from torch_mars.envs.loops import compiled

class NAME(NamedTuple):
    x: int

@compiled
def move(place):
    return place.x + 1

print(move(NAME(1)))
"""
    for name in ("Place", "Spot"):
        (tmp_path / "rule.py").write_text(rule.replace("NAME", name))
        code = "import rule"  # as a module: what is pickled is found by its name
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.strip() == "2", done.stderr


@pytest.mark.parametrize("problem", [RuntimeError, OSError])
def test_where_nothing_can_be_kept_it_is_compiled_anyway(problem, monkeypatch):
    """A package that cannot be written to, used by someone without a home."""

    def refuse(*_):
        raise problem("no locator available")

    monkeypatch.setattr(numba.core.caching.CacheImpl, "__init__", refuse)

    @compiled
    def double(x):
        return 2 * x

    assert double(21) == 42


TOLD = """
import threading
from torch_mars.envs import loops
from rule import move, lift

told = []
loops.on_compile(told.append)
threads = [threading.Thread(target=f, args=(1,)) for f in (move, move, lift)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
move(1.5)
print(told)
"""


@pytest.mark.parametrize("is_kept", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_who_waits_is_told_once_what_is_compiled(is_kept, tmp_path):
    rule = RULE.replace("from constants import STEP", "STEP = 3").split("moved")[0]
    (tmp_path / "rule.py").write_text(rule + "@compiled\ndef lift(place):\n    return move(place) * STEP\n")
    off = "from numba.core import caching\ndef refuse(*_): raise OSError\ncaching.CacheImpl.__init__ = refuse\n"
    (tmp_path / "main.py").write_text(("" if is_kept else off) + TOLD)
    said = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.strip())
    assert said == ["['rule']", "[]" if is_kept else "['rule']"]


def test_loops_are_told_of_by_the_name_of_their_environment(monkeypatch):
    told = []
    monkeypatch.setattr(loops, "_told", set())
    monkeypatch.setattr(loops, "_tell", told.append)
    for function in (physics_loops.alpha_limits, aerojax_loops.transition, rng_loops.next_bits):
        loops.about_to_compile(function.__wrapped__)
    assert told == ["aerojax"]


WITHOUT = """
import sys
sys.modules["numba"] = None  # any import of it fails
import torch
import torch_mars.envs as envs
from torch_mars.envs.core import tree_map

for task in {tasks}:
    env = envs.make(task, 3, "meta")
    try:
        env.reset()
    except RuntimeError:  # JaxNav's looks at values
        assert task.startswith("jaxnav")
        continue
    n = getattr(env.action_space, "n", None)
    kind = torch.float32 if n is None else torch.int64
    env.step(torch.zeros(3, env.num_agents, *env.action_space.shape, dtype=kind, device="meta"))
try:
    envs.make("paxmen_5a", 3).reset()
except ImportError as error:
    print(error)
"""


def test_numba_is_needed_by_loops_alone():
    """Tensors on another device, as a GPU's, are stepped where it is missing or does not work."""
    done = subprocess.run([sys.executable, "-c", WITHOUT.format(tasks=ONE_EACH)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("environments on the CPU need numba, which cannot be imported here: ")
