"""Calls from other programs: their numbers, their defaults, their mistakes; and what they write to."""

import contextlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from task_lists import every_task
from torch import Tensor
from wild_states import as_tensors, random_actions

import torch_mars.envs as envs
from torch_mars.envs import rng
from torch_mars.envs.core import fields_of
from torch_mars.envs.engine import TensorEngine
from torch_mars.envs.jaxnav.task import most_robots
from torch_mars.nn.layers import Linear
from torch_mars.run.cli import UsageError, check_device

# ---- defaults of the program ----


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS = {"float64": lambda: default_dtype(torch.float64), "meta": lambda: torch.device("meta")}
FORMS = {"loops": contextlib.nullcontext, "tensors": as_tensors}


def walk(task, count=4, seed=3, steps=6):
    """Everything that is handed out on a walk over the ends of episodes, and the States."""
    env, generator = envs.make(task, count, seed=seed, max_steps=3), np.random.default_rng(0)
    seen = [(env.reset(), env.state)]
    for _ in range(steps):
        actions = random_actions(env, generator)
        seen.append((env.step(actions), env.state))
    return seen


def assert_same_walk(left, right):
    for t, pairs in enumerate(zip(left, right)):
        for mine, theirs in zip(*pairs):
            mine, theirs = dict(fields_of(mine)), dict(fields_of(theirs))
            for one, other in ((mine.pop("info", {}), theirs.pop("info", {})), (mine, theirs)):
                for name, value in one.items():
                    if value is not None:
                        assert value.dtype == other[name].dtype, f"{name} is {value.dtype} in step {t}"
                        assert torch.equal(value, other[name]), f"{name} in step {t}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("defaults", DEFAULTS)
@every_task
def test_the_defaults_of_the_program_mean_nothing(task, defaults, form):
    with FORMS[form]():
        plain = walk(task)
        with DEFAULTS[defaults]():
            other = walk(task)
    assert_same_walk(other, plain)


@pytest.mark.parametrize("defaults", DEFAULTS)
@every_task
def test_nor_do_they_for_one_environment_and_its_pictures(task, defaults):
    def play():
        env = envs.parallel_env(task, "rgb_array")
        (obs, _), generator = env.reset(seed=4), np.random.default_rng(1)
        for _ in range(3):
            actions = random_actions(env.rules, generator)[0].numpy()
            obs, reward, *_ = env.step(dict(zip(env.agents, actions)))
        return [*obs.values(), *reward.values(), env.state(), env.render()]

    plain = play()
    with DEFAULTS[defaults]():
        other = play()
    assert all(np.array_equal(one, two) for one, two in zip(plain, other))


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_nor_do_they_for_networks(defaults):
    def values():
        layer = Linear(5, 7, 1.0, [torch.Generator().manual_seed(s) for s in (1, 2)], relu=True)
        return layer(torch.ones(2, 3, 5, dtype=torch.float32, device="cpu"))

    plain = values()
    with DEFAULTS[defaults]():
        other = values()
    assert other.dtype == torch.float32 and torch.equal(plain, other)


# ---- batches of any size ----


@pytest.mark.parametrize("form", FORMS)
@every_task
def test_an_environment_does_the_same_to_the_bit_in_batches_of_any_size(task, form):
    """Odd sizes: vector instructions and what is left over beside them."""
    if form == "tensors" and task.startswith("smax"):
        pytest.skip("the order of sums over many units is PyTorch's choice; batches on CPU take the loops")
    sizes, generator = (1, 3, 257), np.random.default_rng(0)
    with FORMS[form]():
        batches = [envs.make(task, count, seed=5) for count in sizes]
        for env in batches:
            env.reset()
        for t in range(25):
            actions = random_actions(batches[-1], generator)
            *few, (most, state) = [(env.step(actions[: env.num_envs]), env.state) for env in batches]
            for ts, own in few:
                for mine, theirs in ((ts, most), (own, state)):
                    for name, value in fields_of(mine).items():
                        if isinstance(value, Tensor):
                            assert torch.equal(value, getattr(theirs, name)[: len(value)]), f"{name} in step {t}"


# ---- what is handed out is nobody else's ----


def spoil(handed_out):
    """Garbage into every tensor and array of a tree."""
    if isinstance(handed_out, Tensor):
        handed_out.copy_(torch.full_like(handed_out, 77))
    elif isinstance(handed_out, np.ndarray):
        handed_out[...] = 77
    elif isinstance(handed_out, dict):
        for value in handed_out.values():
            spoil(value)
    elif isinstance(handed_out, tuple):
        for value in handed_out:
            spoil(value)


@pytest.mark.parametrize("form", FORMS)
@every_task
def test_writing_to_what_is_handed_out_changes_no_future(task, form):
    with FORMS[form]():
        written, untouched = (envs.make(task, 3, seed=2, max_steps=4) for _ in range(2))
        generator = np.random.default_rng(0)
        for env in (written, untouched):
            env.reset()
        for _ in range(9):
            spoil(fields_of(written.observe()))
            spoil(written.state_dict())
            actions = random_actions(written, generator)
            mine, theirs = written.step(actions), untouched.step(actions)
            assert_same_walk([(mine, written.state)], [(theirs, untouched.state)])
            spoil(fields_of(mine))
        spoil(fields_of(written.reset()))
        untouched.reset()
        assert_same_walk([(written.observe(), written.state)], [(untouched.observe(), untouched.state)])


@every_task
def test_nor_does_it_behind_the_faces(task):
    generator = np.random.default_rng(0)
    for make in (envs.parallel_env, lambda task, **more: envs.batched_parallel_env(task, 2, **more)):
        written, untouched = (make(task, max_steps=4) for _ in range(2))
        for episode in range(3):
            spoil(written.reset(seed=episode)), untouched.reset(seed=episode)
            for _ in range(4):
                actions = random_actions(written.rules, generator)
                is_batch = written.rules.num_envs > 1
                rows = actions.unbind(1) if is_batch else actions[0].numpy()
                mine, theirs = (env.step(dict(zip(env.agents, rows))) for env in (written, untouched))
                for agent in mine[0]:
                    assert np.array_equal(mine[0][agent], theirs[0][agent])
                    for name in theirs[4][agent]:
                        assert np.array_equal(mine[4][agent][name], theirs[4][agent][name]), name
                spoil(mine)
                assert np.array_equal(written.state(), untouched.state())
                spoil(written.state())
                if not written.agents:
                    break


# ---- numbers of NumPy ----


def test_numbers_of_numpy_are_numbers():
    seeds = (3, np.int8(3), np.uint64(3), np.array(3), torch.tensor(3))
    starts = [envs.make("paxmen_4a", np.int64(2), seed=seed).reset().obs for seed in seeds]
    assert all(torch.equal(start, starts[0]) for start in starts)
    large = np.uint64(2**64 - 1)
    assert rng.derive(large, np.int32(7)) == rng.derive(2**64 - 1, 7) and rng.mix_int(large) == rng.mix_int(2**64 - 1)
    assert torch.equal(rng.keys(np.array([1, 2]), np.int64(4)), rng.keys([1, 2], 4))
    for make in (envs.parallel_env, lambda task: envs.batched_parallel_env(task, np.int16(2))):
        one, two = (make("paxmen_4a").reset(seed=seed)[0]["agent_0"] for seed in (5, np.uint32(5)))
        assert np.array_equal(one, two)
    options = {"max_steps": np.int8(100), "ally_types": np.array([1, 2]), "mass": np.float32(4e3), "dt": Fraction(1, 5)}
    env = envs.make("aerojax_2v2", **options)
    env.reset()
    assert type(env.max_steps) is int and env.options.ally_types == [1, 2]
    assert envs.make("connector_15x15x23a", grid_size=np.int8(16)).max_steps == 256
    env = envs.make("simple_spread_3ag", raw_actions=np.bool_(True), auto_reset=np.bool_(False))
    assert env.options.raw_actions is True and env.auto_reset is False


@pytest.mark.parametrize("seed", [1.5, "x", b"x", [1.7, 2.2], [1, None], True, np.float64(2), float("nan"), {}, object])
def test_other_seeds_are_refused_in_one_sentence(seed):
    calls = [lambda: envs.make("paxmen_4a", 2, seed=seed), lambda: rng.keys(seed, 2)]
    calls += [lambda: rng.derive(seed, "x"), lambda: rng.mix_int(seed), lambda: envs.make("paxmen_4a").reset(seed)]
    calls += [lambda: envs.parallel_env("paxmen_4a").reset(seed=seed)]
    calls += [lambda: envs.batched_parallel_env("paxmen_4a", 2).reset(seed=seed)]
    for call in calls:
        with pytest.raises(ValueError, match="it must be a whole number") as refused:
            call()
        assert len(str(refused.value)) < 200


# ---- mistakes ----


@pytest.mark.parametrize(
    "device", [None, 5, "gpu", "cpu:7", "", b"cpu", torch.device("cpu", 3), [], "cuda:99", "x" * 999]
)
def test_devices_that_are_not_here(device):
    with pytest.raises(ValueError, match="device is .*; available here: cpu") as refused:
        envs.make("paxmen_4a", device=device)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "device, reason",
    [
        ("mps", "PyTorch has no float64 on Apple's GPUs, and normal random numbers"),
        ("mps:0", "PyTorch has no float64 on Apple's GPUs"),
        (torch.device("mps"), "PyTorch has no float64 on Apple's GPUs"),
        ("xpu", "a kind of device that torch_mars is not written for or tested on; use cpu, or an NVIDIA GPU as cuda"),
        ("hpu", "a kind of device that torch_mars is not written for"),
    ],
)
def test_kinds_of_devices_that_do_not_serve_say_why(device, reason):
    with pytest.raises(ValueError, match=f"^device is '{device}': {reason}"):
        envs.make("paxmen_4a", device=device)
    with pytest.raises(UsageError, match=f"^--device is '{device}': {reason}"):
        check_device(device)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: envs.make("paxmen_4a", auto_reset="no"), "auto_reset is 'no'; it must be true or false"),
        (lambda: envs.make("paxmen_4a", 10**30), "num_envs is .*; it must be a whole number from 1 to 2147483647"),
        (lambda: envs.make("paxmen_4a", "2"), "num_envs is '2'; it must be a whole number"),
        (
            lambda: envs.make("paxmen_4a", max_steps=10**9999),
            "max_steps is a whole number of 33216 bits; it must be at",
        ),
        (lambda: envs.make("aerojax_2v2", ally_types=[[1], [2]]), "it must be none or a sequence of numbers"),
        (lambda: envs.make("aerojax_2v2", mass=np.ones(3)), "mass is .*; it must be a number"),
        (lambda: envs.make("paxmen_4a", **{"x" * 9999: 1}), "unknown option 'xxx"),
        (lambda: envs.make("jaxnav_" + "9" * 5000 + "x5x2a"), "unknown task 'jaxnav_999"),
        (lambda: envs.make("x" * 10**6), "unknown task 'xxx"),
        (lambda: envs.make("a\0b:C"), "a.x00b"),
        *((lambda t=t: envs.make(t), "a task is a name or a class, not") for t in (None, 5, b"x", [])),
        *((lambda t=t: envs.parallel_env(t), "a task is a name or a class, not") for t in (None, 5, b"x")),
        *((lambda t=t: envs.batched_parallel_env(t, 2), "a task is a name or a class, not") for t in (None, 5)),
        *((lambda t=t: envs.find(t), "a task is a name or a class, not") for t in (None, 5)),
        *((lambda t=t: envs.known(t), "a task is a name or a class, not") for t in (None, 5)),
        (lambda: envs.batched_parallel_env("paxmen_4a", 0), "num_envs is 0"),
        (lambda: envs.parallel_env("paxmen_4a", render_mode=5), "unknown render_mode 5"),
    ],
)
def test_mistakes_are_told_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert len(str(refused.value)) < 1500 and "\n" not in str(refused.value)


TOO_LARGE = {
    "jaxnav_7x7x16a": "at most 10 robots",
    "jaxnav_7x7x1000a": "at most 10 robots",
    "jaxnav_31x31x999a": "at most 87 robots",
    "connector_10x10x26a": "holds at most 25",
    "connector_999999999x999999999x1a": "grid_size is 999999999; it must be between 3 and 40",
    "search_and_rescue_1000000x1": "num_searchers is 1000000; it must be between 1 and 1000",
    "search_and_rescue_2x1001": "num_targets is 1001",
}


@pytest.mark.parametrize("task", TOO_LARGE)
def test_what_cannot_fit_is_refused_when_it_is_named(task):
    with pytest.raises(ValueError, match=TOO_LARGE[task]):
        envs.make(task)


@pytest.mark.parametrize(
    "task, options",
    [
        ("simple_spread_3ag", {"num_agents": 10**6}),
        ("rware_tiny_2ag", {"column_height": 16000, "num_agents": 1001}),
        ("rware_tiny_2ag", {"column_height": 1000, "request_queue_size": 1001}),
        ("search_and_rescue_2x20", {"num_vision": 10**9}),
        ("aerojax_2v2", {"n_allies": 10**6}),
        ("aerojax_2v2", {"substeps": 10**9}),
        ("aerojax_2v2", {"view_range": float("inf")}),
        ("aerojax_2v2", {"v_floor": 0}),
        ("jaxnav_7x7x2a", {"fill": 1.0, "num_agents": 10}),
        ("jaxnav_7x7x2a", {"max_v": 1e30}),
        *((task, {"max_steps": 10**30}) for task in ("paxmen_4a", "smax_2s3z", "connector_5x5x3a", "jaxnav_7x7x2a")),
        *((task, {"max_steps": 2**31}) for task in ("rware_tiny_2ag", "search_and_rescue_2x20", "simple_spread_3ag")),
    ],
)
def test_options_beyond_reason_are_refused(task, options):
    with pytest.raises(ValueError, match="must be|has places"):
        envs.make(task, **options)


@pytest.mark.parametrize(
    "name",
    ["jaxnav_007x007x02a", "jaxnav_７x７x２a", "connector_05x05x3a", "search_and_rescue_02x20", "jaxnav_7x7x2a\n"],
)
def test_every_size_has_one_name(name):
    with pytest.raises(ValueError, match="unknown task"):
        envs.make(name)


@pytest.mark.parametrize("size, fill", [(5, 0.3), (7, 0.3), (8, 0.3), (7, 1.0), (9, 0.6)])
def test_as_many_robots_as_are_allowed_find_places(size, fill):
    most = most_robots(size, fill)
    for seed in range(3):
        envs.make("jaxnav_7x7x2a", 4, seed=seed, map_size=size, fill=fill, num_agents=most).reset()


@every_task
def test_a_picture_is_of_the_environment_that_is_asked_for(task):
    env = envs.make(task, 3, seed=5)
    env.reset()
    more = {"show_rays": True} if task.startswith("search") else {}
    for _ in range(6):
        env.step(env.sample_actions())
        alone = env.share(torch.tensor([1]))
        assert np.array_equal(env.draw(env.state, 1, **more), alone.draw(alone.state, **more))
        assert env.draw_text(env.state, 1) == alone.draw_text(alone.state)


@every_task
def test_pictures_of_environments_that_are_not_there(task):
    env = envs.make(task, 2)
    with pytest.raises(ValueError, match="the state is None; it must be a State"):
        env.draw(env.state)
    env.reset()
    for function in (env.draw, env.draw_text):
        for index in (2, -3, 10**30, 1.5, None):
            with pytest.raises(ValueError, match="index is"):
                if function(env.state, index) is None:
                    raise ValueError("index is of no text")  # environments without one
    assert np.array_equal(env.draw(env.state, -1), env.draw(env.state, 1))


def test_the_batch_of_one_is_as_safe(monkeypatch):
    env = envs.make("paxmen_4a")
    engine = TensorEngine(env)
    engine.reset(1)
    for fields in (None, [], {"step": None}, {"step": "3"}, {5: 1}, {"layout": 4}, {"step": 1.5}):
        with pytest.raises(ValueError):
            engine.load_state(fields)
