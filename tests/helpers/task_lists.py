"""Which tasks tests run on: one of every environment in the quick suite, all of them nightly."""

import pytest

import torch_mars.envs as envs

ONE_EACH = tuple({envs.family(task): task for task in reversed(envs.tasks())}.values())[::-1]
LATER = tuple(pytest.param(task, marks=pytest.mark.slow) for task in envs.tasks() if task not in ONE_EACH)
every_task = pytest.mark.parametrize("task", [*ONE_EACH, *LATER])
