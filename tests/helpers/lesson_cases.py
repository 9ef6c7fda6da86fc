"""Lessons on tasks with settings, for tests that all kinds of training have to pass."""

import pytest

# what changes networks, statistics or rates; where there are more settings than one, the case is called after them
OPTIONS = {"normalise_obs": True, "normalise_values": True, "anneal_lr": True, "shared_policy": False}


def with_cases(cases, quick=None):
    """A test of `lesson, task, settings` for each of the cases, those that are not among `quick` at night."""
    params = []
    for lesson, task, settings in cases:
        name = "-".join([lesson.ALGORITHM, task, *(["options"] if len(settings) > 1 else [])])
        is_quick = quick is None or (lesson, task, settings) in quick
        params.append(pytest.param(lesson, task, settings, id=name, marks=[] if is_quick else [pytest.mark.slow]))
    return pytest.mark.parametrize("lesson, task, settings", params)
