"""On a GPU: python -m pytest -m gpu. The same numbers as on the CPU, no waiting, and graphs that change nothing.

Devices are compared one step at a time, from equal States: sin, exp and the like differ in the last bit between a CPU
and a GPU, and between what is compiled and what is not, so that trajectories part sooner or later.
"""

import dataclasses
import functools
import json

import gymnasium
import pytest
import torch
from lesson_cases import OPTIONS, with_cases
from task_lists import ONE_EACH, every_task
from teams import save_team
from walkers import assert_same

import torch_mars.envs as envs
from torch_mars.algos import mappo, mars, maspo, recurrent
from torch_mars.envs import rng
from torch_mars.envs.core import fields_of, tree_map
from torch_mars.nn import inductor, speed
from torch_mars.teams.policies import load_policy

pytestmark = pytest.mark.gpu
CASES = [
    *((lesson, task, {}) for lesson in (mappo, maspo, mars) for task in ONE_EACH),
    *((recurrent, task, {"sequence_length": 4}) for task in ONE_EACH),
    (mars, "aerojax_2v2", {**OPTIONS, "agent_id": False}),
    (recurrent, "smax_2s3z", {**OPTIONS, "sequence_length": 2}),
]
every_case = with_cases(CASES)


@pytest.fixture(autouse=True)
def reproducible_products(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def to(device, tree):
    return tree_map(lambda tensor: tensor.to(device), tree)


# ---- random numbers ----


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: rng.bits(key, 100),
        lambda key: rng.uniform(key, 100),
        lambda key: rng.integers(key, 100, 1000),
        lambda key: rng.permutation(key, 100),
        lambda key: rng.distinct(key, 10, 50),
    ],
    ids=["bits", "uniform", "integers", "permutation", "distinct"],
)
def test_random_numbers_are_the_cpu_s(draw):
    keys = rng.keys(3, 2000)
    for on_cpu, on_cuda in zip(draw(keys), draw(keys.cuda())):
        assert torch.equal(on_cpu, on_cuda.cpu())


def test_normal_numbers_are_the_cpu_s_but_for_the_last_bit():
    """CUDA's `ndtri` is another program."""
    keys = rng.keys(3, 2000)
    on_cpu, on_cuda = rng.normal(keys, 500)[0], rng.normal(keys.cuda(), 500)[0].cpu()
    ulp = torch.nextafter(on_cpu.abs(), torch.tensor(torch.inf)) - on_cpu.abs()
    assert ((on_cpu - on_cuda).abs() <= ulp).all()
    assert (on_cpu != on_cuda).float().mean() < 1e-3


# ---- environments ----


def random_actions(env, generator):
    shape = (env.num_envs, env.num_agents)
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        mask = env.observe().action_mask
        if mask is None:
            return torch.randint(int(env.action_space.n), shape, generator=generator)
        scores = torch.rand(mask.shape, generator=generator)
        return scores.masked_fill(~mask.cpu(), -1).argmax(-1)
    low, high = torch.as_tensor(env.action_space.low), torch.as_tensor(env.action_space.high)
    return low + (high - low) * torch.rand(*shape, len(low), generator=generator)


def differences(expected, found):
    """Rows of two trees that differ by more than rounding, among all rows: a comparison that flipped differs in all."""
    rows = 0
    for name, value in expected.items():
        other = found[name].cpu()
        assert other.dtype == value.dtype and other.shape == value.shape, name
        if value.is_floating_point():
            far = ~torch.isclose(other, value, atol=2e-4, rtol=2e-4, equal_nan=True)
        else:
            far = other != value
        rows = far.reshape(len(far), -1).any(1) | rows
    return int(rows.sum())


def outputs(env, ts):
    parts = {field.name: getattr(ts, field.name) for field in dataclasses.fields(ts)}
    tensors = {name: value for name, value in parts.items() if isinstance(value, torch.Tensor)}
    return {**tensors, **ts.info, **{f"state.{name}": value for name, value in fields_of(env.state).items()}}


@every_task
def test_a_step_is_the_cpu_s(task):
    """From situations of random play on the CPU, one step on both, ends and new episodes among them."""
    B = 64
    env, other = (envs.make(task, B, device, 0, max_steps=12) for device in ("cpu", "cuda"))
    env.reset()
    other.reset()
    generator, differing, compared = torch.Generator().manual_seed(0), 0, 0
    for _ in range(20):
        actions = random_actions(env, generator)
        other.state = to("cuda", env.state)
        expected, found = env.step(actions), other.step(actions.cuda())
        differing += differences(outputs(env, expected), outputs(other, found))
        compared += B
    assert differing <= compared * 0.005, f"{differing} of {compared} environments differ"


@pytest.mark.parametrize("task", ONE_EACH)
def test_a_step_is_replayed_from_a_graph(task):
    eager, replayed = envs.make(task, 256, "cuda", 0), envs.make(task, 256, "cuda", 0)
    eager.reset()
    replayed.reset()
    n = getattr(eager.action_space, "n", None)
    shape = (256, eager.num_agents, *eager.action_space.shape)
    actions = torch.zeros(shape, dtype=torch.float32 if n is None else torch.int64, device="cuda")

    def step(state):
        replayed.state = state
        ts = replayed.step(actions)
        return replayed.state, (ts.obs, ts.reward)

    graph, state = speed.CudaGraph(step, print), replayed.state
    for _ in range(30):
        ts = eager.step(actions)
        state, (obs, reward) = graph(state)
        assert torch.equal(ts.obs, obs) and torch.equal(ts.reward, reward)


@pytest.mark.parametrize("task", ONE_EACH)
def test_a_compiled_step_is_the_step(task):
    """But for rounding: inductor adds products up in one instruction, and divides in another way."""
    eager, compiled = (envs.make(task, 256, "cuda", 0, max_steps=12) for _ in range(2))
    eager.reset()
    compiled.reset()
    compiled.compile()
    generator, differing = torch.Generator().manual_seed(0), 0
    for _ in range(40):
        actions = random_actions(eager, generator).cuda()
        compiled.state = eager.state
        expected, found = eager.step(actions), compiled.step(actions)
        differing += differences(to_cpu(outputs(eager, expected)), outputs(compiled, found))
    assert differing <= 40 * 256 * 0.005, f"{differing} of {40 * 256} environments differ"


def to_cpu(tensors):
    return {name: tensor.cpu() for name, tensor in tensors.items()}


@pytest.mark.parametrize("task", ONE_EACH)
def test_the_batched_face_stays_on_the_device_and_never_waits_for_it(task):
    env = envs.batched_parallel_env(task, 64, "cuda")
    env.reset(seed=0)
    random = random_actions(env.engine, torch.Generator().manual_seed(0)).cuda()
    actions = dict(zip(env.agents, random.unbind(1)))
    env.step(actions)
    torch.cuda.set_sync_debug_mode("error")
    try:
        outputs = env.step(actions)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for dictionary in outputs[:4]:
        assert all(tensor.is_cuda and len(tensor) == 64 for tensor in dictionary.values())


def test_gymnasiums_face_hands_out_the_arrays_of_the_cpu():
    here, there = (envs.vector_env("connector_5x5x3a", 64, device) for device in ("cpu", "cuda"))
    assert_same(there.reset(seed=0), here.reset(seed=0), "reset")
    here.action_space.seed(0)
    for t in range(40):
        actions = here.action_space.sample()
        assert_same(there.step(actions), here.step(actions), f"step {t}")


def test_jaxnav_starts_in_large_batches():
    env = envs.make("jaxnav_11x11x4a", 16_384, "cuda", 0)
    assert env.reset().obs.isfinite().all()


# ---- training ----


def training(lesson, task, device="cuda", seeds=(0, 1), compile=False, **settings):
    args = lesson.Args(
        env=task, num_envs=8, rollout_length=8, hidden_size=16, num_seeds=len(seeds), device=device, minibatches=2,
        epochs=2, bootstrap_truncation=True, env_options={"max_steps": 6}, compile=compile, **settings,
    )  # fmt: skip
    env = envs.make(task, len(seeds) * args.num_envs, device, list(seeds), **args.env_options)
    env.reset()
    learner = lesson.Learner(args, env, list(seeds))
    rollout = lesson.Rollout(args, env, learner.actor)
    return {"env": env, "rollout": rollout, "learner": learner, "args": args}


def start_of(parts):
    return parts["env"].state, parts["learner"].key


@every_case
def test_an_iteration_never_waits_and_a_graph_gives_the_numbers_of_eager_training(lesson, task, settings):
    plain, replayed = (training(lesson, task, **settings) for _ in range(2))
    graph = speed.CudaGraph(functools.partial(lesson.iteration, **replayed), print)
    plain_carry, carry = start_of(plain), start_of(replayed)
    for number in range(6):
        if plain["args"].anneal_lr:
            plain["learner"].anneal(1 - number / 6)
            replayed["learner"].anneal(1 - number / 6)
        torch.cuda.set_sync_debug_mode("error" if number >= 2 else "default")
        try:
            plain_carry, expected = lesson.iteration(plain_carry, **plain)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        carry, numbers = graph(carry)
        for name, values in expected.items():
            assert torch.equal(numbers[name].nan_to_num(), values.nan_to_num()), (number, name)
    for one, other in zip(plain["learner"].actor.parameters(), replayed["learner"].actor.parameters()):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "lesson, settings", [(mars, {}), (recurrent, {"sequence_length": 4})], ids=["mars", "recurrent"]
)
@pytest.mark.parametrize("task", ONE_EACH)
def test_an_evaluation_is_replayed_from_a_graph(task, lesson, settings):
    parts = training(lesson, task, **settings)
    env = envs.make(task, 2 * 32, "cuda", 0, max_steps=50)
    found = []
    for graphs in (False, True, True):
        parts["args"].cuda_graphs = graphs
        found.append(lesson.evaluate(env, parts["learner"].actor, [3, 4], parts["args"]))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("task", ["paxmen_5a", "smax_2s3z", "aerojax_2v2"])
def test_compiled_training_is_training(task):
    """But for rounding, which may make another action of a sample: so statistics of a first iteration."""
    found = []
    for compile in (False, True):
        parts = training(mars, task, compile=compile)
        inductor.compile_steps(parts["env"], parts["args"])
        graph, carry = speed.CudaGraph(functools.partial(mars.iteration, **parts), print), start_of(parts)
        numbers = []
        for _ in range(4):
            carry, of_iteration = graph(carry)
            numbers.append({name: values.tolist() for name, values in of_iteration.items()})
        found.append(numbers)
    for name in ("entropy", "critic_loss", "episode_length"):
        assert found[1][0][name] == pytest.approx(found[0][0][name], rel=0.05, abs=1e-3, nan_ok=True), name
    for of_iteration in found[1]:  # what acted and what learns say the same of the same actions
        assert max(of_iteration["first_max_abs_log_ratio"]) < 1e-3
        assert sum(of_iteration["skipped_steps"]) == 0


SETTINGS = ["--env", "paxmen_5a", "--env-options", "{max_steps: 6}", "--num-seeds", "2", "--num-envs", "8"]
SETTINGS += "--rollout-length 8 --hidden-size 16 --minibatches 2 --eval-episodes 4 --eval-every 256".split()


def train(run_dir, *more):
    """The folder of a run of 64 environment steps an update."""
    assert mars.main([*SETTINGS, "--device", "cuda", "--no-compile", "--run-dir", str(run_dir), *more]) == 0
    (folder,) = run_dir.glob("*/*/*")
    return folder


def numbers_of(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timings = ("seconds", "steps_per_second")
    return [{name: value for name, value in record.items() if name not in timings} for record in records]


def test_a_resume_continues_to_the_bit_and_a_policy_acts_on_either_device(tmp_path):
    whole = train(tmp_path / "whole", "--total-steps", "640")
    halved = train(tmp_path / "halved", "--total-steps", "320")
    assert mars.main(["--resume", str(halved), "--total-steps", "640"]) == 0
    updates = [[r for r in numbers_of(folder) if r["kind"] == "update"] for folder in (whole, halved)]
    assert len(updates[0]) == 20 and updates[0] == updates[1]

    obs = envs.make("paxmen_5a", 16).reset().obs
    on_cpu, on_cuda = load_policy(whole, device="cpu", greedy=True), load_policy(whole, device="cuda", greedy=True)
    assert (on_cpu(obs) == on_cuda(obs.cuda()).cpu()).float().mean() > 0.99


def test_a_policy_remembers_on_either_device(tmp_path):
    team = save_team(tmp_path / "policy.pt", "mars_rnn", "paxmen_5a", shared_policy=False, normalise_obs=True)
    on_cpu, on_cuda = (load_policy(team, device=device, greedy=True) for device in ("cpu", "cuda"))
    env = envs.make("paxmen_5a", 256, seed=1, max_steps=4)
    ts = env.reset()
    for _ in range(6):
        actions = on_cpu(ts.obs)
        assert (actions == on_cuda(ts.obs.cuda()).cpu()).float().mean() > 0.99
        torch.testing.assert_close(on_cuda.memory.cpu(), on_cpu.memory, atol=1e-4, rtol=1e-4)
        ts = env.step(actions)
        on_cpu.reset(ts.terminated | ts.truncated)
        on_cuda.reset((ts.terminated | ts.truncated).cuda())
