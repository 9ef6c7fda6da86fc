"""Lessons on tasks with settings, for tests that all kinds of training have to pass."""

import pytest

# what changes networks, statistics or rates; where there are more settings than one, the case is called after them
OPTIONS = {"normalise_obs": True, "normalise_values": True, "anneal_lr": True, "shared_policy": False}


def with_cases(cases):
    """A test of `lesson, task, settings` for each of the cases."""
    ids = ["-".join([c[0].ALGORITHM, c[1], *(["options"] if len(c[2]) > 1 else [])]) for c in cases]
    return pytest.mark.parametrize("lesson, task, settings", cases, ids=ids)
