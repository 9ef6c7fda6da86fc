"""States from outside: refused in one sentence, or computed with; nothing crashes, hangs or raises anything else."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_lists import ONE_EACH, every_task
from wild_states import COUNT, NUMBERS, WHOLE, WRONG, Subject, as_tensors, random_actions, wild_fields

import torch_mars.envs as envs
from torch_mars.envs.core import fields_of

MADE_ANEW = {"beams"}  # whatever is loaded there
_subjects = {}


def subject(task, auto_reset):
    if (task, auto_reset) not in _subjects:
        _subjects[task, auto_reset] = Subject(task, auto_reset)
    return _subjects[task, auto_reset]


def try_everywhere(task, seed, draws=False):
    """Strange fields in all forms; how many let them in."""
    generator = np.random.default_rng(seed)
    it = subject(task, bool(seed % 2))
    start = int(generator.integers(len(it.starts)))
    fields = wild_fields(it.starts[start], generator)
    admitted = it.batch(fields, start, np.random.default_rng(seed), draws)
    with as_tensors():
        assert it.batch(fields, start, np.random.default_rng(seed)) == admitted
    return admitted + it.one(fields, start, np.random.default_rng(seed))


@pytest.mark.parametrize("task", ONE_EACH)
@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 2**32))
def test_wild_states_are_refused_or_computed_with(task, seed):
    try_everywhere(task, seed, seed % 5 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("task", ONE_EACH)
def test_no_loop_reads_outside_an_array(task):
    """Thousands of States, in a process whose loops are compiled with a check of every index."""
    program = (
        f"from test_states import try_everywhere as t; print(sum(t({task!r}, s, s % 10 == 0) > 0 for s in range(1500)))"
    )
    folder = os.path.dirname(__file__)
    path = os.pathsep.join([folder, *(p for p in sys.path if p)])
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "PYTHONPATH": path, "NUMBA_DISABLE_CACHING": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=1500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100


# ---- one field at a time ----


@every_task
def test_what_is_not_finite_is_refused_in_every_field(task):
    env = envs.make(task, COUNT)
    env.reset()
    before = env.state
    for name, value in fields_of(before).items():
        if value.is_floating_point() and name not in MADE_ANEW and value.numel():
            for wrong in (*WRONG, 1e300):
                changed = value.double()
                changed.view(-1)[-1] = wrong
                with pytest.raises(ValueError, match=f"{name} holds"):
                    env.load_state({name: changed})
    assert env.state is before


@every_task
def test_what_numbers_of_a_field_cannot_be_is_refused(task):
    env = envs.make(task, COUNT)
    env.reset()
    before, engine = env.state, env.engine()
    for name, value in fields_of(before).items():
        array = value.numpy()
        wrong = [
            None,
            "text",
            object(),
            b"",
            [[1], [1, 2]],
            array.astype(complex),
            array.astype(str),
            array.astype(object),
        ]
        wrong += [value.to_sparse() if value.dim() else None, torch.empty(value.shape, device="meta"), array[None]]
        if not value.is_floating_point():
            wrong += [
                np.full(array.shape, 0.5),
                np.full(array.shape, 1e30),
                np.full(array.shape, np.nan),
                np.full(array.shape, 2**64 - 1, np.uint64),
            ]
        if value.dtype == torch.bool:
            wrong += [array + 2, array - 2.0]
        for values in wrong:
            with pytest.raises(ValueError, match=name) as refused:
                env.load_state({name: values})
            assert len(str(refused.value)) < 300
            if engine:
                with pytest.raises(ValueError, match=name):
                    engine.load_state({name: values})
    for fields in (None, [], "step", 5, {5: 1}, {None: 1}, {"x" * 9999: 1}):
        with pytest.raises(ValueError) as refused:
            env.load_state(fields)
        assert len(str(refused.value)) < 900
    assert env.state is before


@every_task
def test_other_arrays_of_the_same_numbers_are_taken(task):
    """Lists, other byte orders, strides and widths."""
    env, generator = envs.make(task, COUNT), np.random.default_rng(0)
    env.reset()
    env.step(random_actions(env, generator))
    env.load_state(env.state_dict())  # what is made anew then, such as JaxNav's next level, stays the same from here on
    before = env.state_dict()
    for name, value in before.items():
        array = value.numpy()
        is_float, turned = value.is_floating_point(), array.astype(array.dtype.newbyteorder())
        forms = [array.tolist(), turned, np.repeat(array, 2, 0)[::2], array[::-1].copy()[::-1], value]
        forms += [value.double().requires_grad_()] if is_float else []
        forms += [array.astype(float)] if not is_float and abs(array.astype(float)).max() < 2**53 else []
        for values in forms:
            env.load_state({name: values})
            for other, tensor in env.state_dict().items():
                assert torch.equal(tensor, before[other]), name


# ---- odd, but it can be computed ----


@every_task
def test_odd_counts_of_steps_and_sums_are_taken(task):
    env = envs.make(task, COUNT)
    env.reset()
    for step in (0, 1, env.max_steps - 1, env.max_steps, env.max_steps + 5, 10**6):
        env.load_state({"step": [step] * COUNT, "totals": -1e6 * torch.ones_like(env.state.totals)})
        env.step(random_actions(env, np.random.default_rng(0)))
    env.load_state({"rng": [2**63 - 1, -(2**63), 0]})
    env.step(random_actions(env, np.random.default_rng(0)))


@every_task
def test_what_steps_make_can_be_loaded_at_any_time(task):
    env, generator = envs.make(task, 8), np.random.default_rng(0)
    env.reset()
    for _ in range(40):
        env.step(random_actions(env, generator))
        env.load_state({name: value.numpy() for name, value in env.state_dict().items()})


@pytest.mark.parametrize(
    "task, fields, message",
    [
        ("smax_2s3z", {"enemy_last_attacked": 5}, "enemy_last_attacked holds 5; it must be between -1 and 4"),
        ("smax_2s3z", {"enemy_last_attacked": -2}, "enemy_last_attacked holds -2"),
        ("smax_2s3z", {"unit_types": 6}, "unit_types holds 6"),
        ("paxmen_4a", {"layout": 4}, "layout holds 4; it must be between 0 and 3"),
        ("paxmen_4a", {"dot_pos": 10**6}, "dot_pos holds 1000000"),
        ("paxmen_4a", {"agent_pos": 0}, "off the floor"),
        ("jaxnav_7x7x2a", {"next_placed": 3}, "next_placed holds 3; it must be between -1 and 2"),
        ("jaxnav_7x7x2a", {"next_rounds": -1}, "next_rounds holds -1"),
        ("jaxnav_7x7x2a", {"pos": 1e30}, "pos holds 1e[+]30"),
        ("aerojax_2v2", {"velocity": 0}, "velocity holds .*, which has no direction"),
        ("aerojax_2v2", {"lift_dir": 1e6}, "lift_dir holds 1e[+]06"),
    ],
)
def test_what_the_rules_cannot_go_on_with_is_refused(task, fields, message):
    env = envs.make(task, 2)
    env.reset()
    before = env.state
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=message):
        env.load_state({name: torch.full_like(getattr(before, name), value)})
    assert env.state is before


def test_the_fields_kept_decide_too():
    """A layout alone, under agents who stand where only another has floor."""
    env = envs.make("paxmen_4a", 1, seed=1)
    env.reset()
    dots = env.state.dot_pos[:, :4]
    env.load_state({"agent_pos": dots})
    layout = int(env.state.layout)
    refused = 0
    for other in range(4):
        if other != layout:
            try:
                env.load_state({"agent_pos": dots, "layout": [layout]})
                env.load_state({"layout": [other]})
            except ValueError:
                refused += 1
    assert refused


def test_the_numbers_tried_are_those_meant():
    assert len(NUMBERS) + len(WHOLE) + len(WRONG) == 24
