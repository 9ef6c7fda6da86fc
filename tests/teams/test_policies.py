"""Trained teams from disk: the right weights, all faces alike, masks and bounds, clear refusals, nothing executed."""

import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_environments import register_toys

import torch_mars
import torch_mars.envs as envs
from torch_mars.algos import mars
from torch_mars.run import files, finding
from torch_mars.run.cli import UsageError
from torch_mars.teams import policies

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def toys():
    register_toys()


def observations(run, num_envs=16, steps=3):
    """The environment of a run, and obs [B, N, O] some way into its episodes."""
    policy = torch_mars.load_policy(run)
    env = envs.make(policy.task, num_envs, seed=3, **policy.env_options)
    ts = env.reset()
    for _ in range(steps):
        ts = env.step(policy(ts.obs, ts.action_mask))
    return env, ts.obs


def lesson_actor(run, weights):
    settings = files.read_yaml(run / "config.yaml")
    env = envs.make(settings["env"], **settings["env_options"])
    actor = mars.Actor(env, mars.Args(hidden_size=settings["hidden_size"]), [torch.Generator(), torch.Generator()])
    actor.load_state_dict(weights)
    return actor


def untrained(task, **options):
    """A Policy with fresh weights."""
    env = envs.make(task, **options)
    weights = mars.Actor(env, mars.Args(hidden_size=8), [torch.Generator().manual_seed(1)]).state_dict()
    trained = policies.Trained(
        path=Path("nowhere"), what="best policy", algorithm="mars", task=task, env_options=options, seeds=[0],
        returns=[0.0], args=mars.Args(hidden_size=8), weights=weights, lesson=mars,
    )  # fmt: skip
    return lambda **settings: policies.Policy(
        trained, **{"device": "cpu", "greedy": False, "seed": 0, "policy_seed": None, **settings}
    )


# ---- which policy ----


@pytest.mark.parametrize("place, seed", [(0, 7), (1, 8)])
def test_actions_are_those_of_the_lessons_network(tiny_run, place, seed):
    env, obs = observations(tiny_run)
    actor = lesson_actor(tiny_run, files.load_checkpoint(tiny_run / "policy.pt")["actor"])
    logits = actor(obs.expand(2, -1, -1, -1), None).log_probs[place]
    policy = torch_mars.load_policy(tiny_run, greedy=True, policy_seed=seed)
    assert torch.equal(policy(obs), logits.argmax(-1))

    rows, count = obs[:1].expand(20_000, -1, -1), torch.zeros(env.num_agents, env.action_space.n)
    actions = torch_mars.load_policy(tiny_run, policy_seed=seed)(rows)
    count.scatter_add_(1, actions.T, torch.ones(env.num_agents, 20_000))
    assert (count / 20_000 - logits[0].exp()).abs().max() < 0.02  # more than 5 standard deviations


def test_the_seed_with_the_best_evaluation_plays(tiny_run, tmp_path):
    content = files.load_checkpoint(tiny_run / "policy.pt")
    for returns, best in (([1.0, 2.0], 8), ([2.0, 1.0], 7)):
        files.save_checkpoint(tmp_path / "policy.pt", {**content, "returns": torch.tensor(returns)})
        assert torch_mars.load_policy(tmp_path).training_seed == best
    with pytest.raises(UsageError, match="policy seed 9 is not in .*; it was trained with 7 to 8"):
        torch_mars.load_policy(tiny_run, policy_seed=9)


def test_a_run_stands_for_its_best_policy_and_a_checkpoint_for_itself(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    content = files.load_checkpoint(run)
    content["best"]["weights"] = {name: weight + 1 for name, weight in content["learner"]["actor"].items()}
    files.save_checkpoint(run / "checkpoint.pt", content)

    def head_bias(path):
        return policies.read(path).weights["network.head.bias"]

    best = files.load_checkpoint(run / "policy.pt")["actor"]["network.head.bias"]
    latest = content["learner"]["actor"]["network.head.bias"]
    assert torch.equal(head_bias(run), best) and torch.equal(head_bias(run / "policy.pt"), best)
    assert torch.equal(head_bias(run / "checkpoint.pt"), latest)
    assert policies.read(run / "checkpoint.pt").what == "policy after update 4"
    (run / "policy.pt").unlink()  # as after a kill
    assert torch.equal(head_bias(run), latest + 1)
    content["best"]["returns"] = torch.full((2,), -torch.inf)  # killed before the first evaluation
    files.save_checkpoint(run / "checkpoint.pt", content)
    assert torch.equal(head_bias(run), latest)


def test_equal_seeds_act_alike_and_others_do_not(tiny_run):
    _, obs = observations(tiny_run)
    first, same, other = (torch_mars.load_policy(tiny_run, seed=seed) for seed in (1, 1, 2))
    actions = first(obs)
    assert torch.equal(actions, same(obs)) and not torch.equal(actions, other(obs))
    again = first(obs)
    assert torch.equal(again, same(obs))
    assert not torch.equal(again, other(obs))


# ---- what goes in and comes out ----


def test_all_forms_give_the_same_actions_of_their_own_kind(tiny_run):
    env, obs = observations(tiny_run, num_envs=4)
    policy = torch_mars.load_policy(tiny_run, greedy=True)
    actions = policy(obs)
    assert actions.dtype == torch.int64 and actions.shape == (4, 5)
    array = policy(obs.numpy())
    assert isinstance(array, np.ndarray) and array.dtype == np.int64
    np.testing.assert_array_equal(array, actions)
    assert torch.equal(policy(obs[2]), actions[2])
    np.testing.assert_array_equal(policy(obs[2].numpy()), actions[2])

    batched = policy({agent: obs[:, i] for i, agent in enumerate(env.agents)})
    assert list(batched) == env.agents
    assert all(torch.equal(batched[agent], actions[:, i]) for i, agent in enumerate(env.agents))
    single = policy({agent: obs[2, i].numpy() for i, agent in enumerate(env.agents)})
    assert [int(action) for action in single.values()] == actions[2].tolist()
    assert all(isinstance(action, np.int64) for action in single.values())
    some = policy({agent: obs[:, i] for i, agent in reversed([*enumerate(env.agents)]) if i != 1})
    assert list(some) == ["agent_4", "agent_3", "agent_2", "agent_0"]
    assert all(torch.equal(action, batched[agent]) for agent, action in some.items())
    assert policy({}) == {}


def test_masks_are_obeyed_in_every_form():
    make_policy = untrained("toy_masked")
    env = envs.make("toy_masked", 500)
    env.load_state({"total": torch.arange(1500).view(500, 3)})  # agents whose forbidden actions differ
    ts = env.observe()
    for greedy in (False, True):
        policy = make_policy(greedy=greedy)
        actions = policy(ts.obs, ts.action_mask)
        assert ts.action_mask.gather(-1, actions[..., None]).all()
        if not greedy:
            assert len(actions.unique()) == 4
        by_agent = {agent: ts.obs[:, i] for i, agent in enumerate(env.agents)}
        masks = {agent: ts.action_mask[:, i] for i, agent in enumerate(env.agents)}
        for given in (masks, {agent: {"action_mask": mask, "more": 1} for agent, mask in masks.items()}):
            for agent, action in policy(by_agent, given).items():
                assert masks[agent].gather(-1, action[:, None]).all()
    with pytest.raises(ValueError, match="no mask given, but toy_masked forbids actions"):
        policy(ts.obs)
    with pytest.raises(ValueError, match="no mask given"):
        policy(by_agent, dict.fromkeys(env.agents, {}))
    with pytest.raises(ValueError, match="no mask for agent_1$"):
        policy(by_agent, {**masks, "agent_1": None})


@pytest.mark.parametrize("task", ["toy_masked", "toy_continuous", "aerojax_2v2"])
def test_the_faces_take_the_actions(task):
    policy = untrained(task, **({"max_steps": 20} if task != "aerojax_2v2" else {"max_steps": 5}))()
    env = envs.parallel_env(task, max_steps=5)
    obs, infos = env.reset(seed=0)
    while env.agents:
        obs, _, _, _, infos = env.step(policy(obs, infos))
    env = envs.batched_parallel_env(task, 3, max_steps=5)
    obs, infos = env.reset(seed=0)
    for _ in range(7):
        obs, _, _, _, infos = env.step(policy(obs, infos))


def test_continuous_actions_fill_the_bounds_and_stay_inside():
    obs = torch.randn(2000, 3, 2, generator=torch.Generator().manual_seed(0))
    actions = untrained("toy_continuous")()(obs)
    assert actions.dtype == torch.float32 and actions.shape == (2000, 3, 2)
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 2.0])
    assert (actions >= low).all() and (actions <= high).all()
    assert (actions.amin((0, 1)) < low + 0.1).all() and (actions.amax((0, 1)) > high - 0.1).all()


def test_rounding_does_not_leave_the_bounds():
    """In float32, -2 + (-0.8 + 2) is more than -0.8."""
    policy = untrained("toy_continuous")(greedy=True)
    policy._actor.low, policy._actor.high = torch.tensor([-2.0, -2.0]), torch.tensor([-0.8, -0.8])
    with torch.no_grad():
        policy._actor.network.head.bias.fill_(100.0)
    assert (policy(torch.zeros(3, 2)) == torch.tensor(-0.8)).all()


@pytest.mark.parametrize(
    "obs, mask, message",
    [
        (np.zeros((5, 24)), None, r"obs is \[5, 24\]; for paxmen_5a it must be \[5, 25\] or \[B, 5, 25\]"),
        (np.zeros((4, 25)), None, r"obs is \[4, 25\]"),
        (np.zeros(25), None, r"obs is \[25\]"),
        (torch.zeros(2, 3, 5, 25), None, r"obs is \[2, 3, 5, 25\]"),
        ("north", None, "obs is str; it must be an array or a tensor of numbers"),
        (np.zeros((5, 25)), np.ones((5, 4)), r"mask is \[5, 4\]"),
        (np.zeros((2, 5, 25)), np.ones((3, 5, 5)), r"mask is \[3, 5, 5\], obs is \[2, 5, 25\]"),
        ({"agent_7": np.zeros(25)}, None, "unknown agent 'agent_7'; did you mean agent_"),
        ({"agent_0": np.zeros(25), "agent_1": np.zeros(24)}, None, "by agent must be arrays, or tensors, of one shape"),
        ({"agent_0": np.zeros(24)}, None, r"obs is \[1, 24\]"),
    ],
)
def test_wrong_observations_are_refused(tiny_run, obs, mask, message):
    with pytest.raises(ValueError, match=message):
        torch_mars.load_policy(tiny_run)(obs, mask)


def test_a_mask_for_continuous_actions_is_refused():
    with pytest.raises(ValueError, match="continuous: leave it out"):
        untrained("toy_continuous")()(torch.zeros(3, 2), torch.ones(3, 2))


# ---- installed teams ----


@pytest.mark.parametrize("task", finding.installed_teams())
def test_an_installed_team_is_small_and_far_better_than_chance(task):
    policy = torch_mars.load_policy(task)
    assert policy.task == task and policy.path.stat().st_size < 1e6
    env = envs.make(task, num_envs=32, seed=1)

    def mean_return(act):
        ts, is_over, total = env.reset(seed=1), torch.zeros(32, dtype=torch.bool), torch.zeros(32)
        while not is_over.all():
            ts = env.step(act(ts.obs, ts.action_mask))
            ends_now = (ts.terminated | ts.truncated) & ~is_over
            total[ends_now] = ts.info["episode_return"][ends_now]
            is_over |= ends_now
        return total.mean(), total.std() / 32**0.5

    (learned, error), (by_chance, _) = mean_return(policy), mean_return(lambda obs, mask: env.sample_actions())
    assert learned - 4 * error > by_chance


def test_a_folder_of_a_task_s_name_comes_before_the_installed_team(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "paxmen_5a" in finding.installed_teams()
    (tmp_path / "paxmen_5a").mkdir()
    (tmp_path / "paxmen_5a/policy.pt").write_bytes((tiny_run / "policy.pt").read_bytes())
    assert torch_mars.load_policy("paxmen_5a").path == Path("paxmen_5a/policy.pt")


def test_a_folder_without_a_policy_does_not_hide_the_installed_team(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paxmen_5a").mkdir()
    assert torch_mars.load_policy("paxmen_5a").path == finding.TEAMS / "paxmen_5a.pt"


def test_of_a_run_that_goes_on_the_checkpoint_is_read(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    assert finding.find_policy(folder) == folder / "policy.pt"
    settings = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(settings.replace("total_steps: 96", "total_steps: 192"))
    assert finding.find_policy(folder) == folder / "checkpoint.pt"


# ---- what is no policy ----


def test_missing_runs_are_told_with_what_is_near(tiny_run, tmp_path):
    near = tiny_run.with_name(tiny_run.name[:-1] + "m")
    for path, message in (
        (near, f"no run or checkpoint at {near}; did you mean {tiny_run}"),
        (tiny_run.parent, f"is not a run, but holds 1; the latest is {tiny_run}"),
        (tmp_path, "is not a run: it has neither policy.pt nor checkpoint.pt"),
        (tmp_path / "a" / "b", "there is no folder"),
        (
            "jaxnav_9x9x3a",
            f"name of a task; teams are installed for {', '.join(finding.installed_teams())}; runs are",
        ),
        (tiny_run / "config.yaml", "is no checkpoint of torch_mars"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            torch_mars.load_policy(path)
    (tmp_path / "config.yaml").write_text("env: paxmen_5a\n")
    with pytest.raises(UsageError, match="has no policy yet"):
        torch_mars.load_policy(tmp_path)
    with pytest.raises(UsageError, match="--device is 'tpu'"):
        torch_mars.load_policy(tiny_run, device="tpu")


def test_of_several_runs_the_latest_is_named(tiny_run, tmp_path):
    for name, date in (("b", 1000), ("c", 3000), ("a", 2000)):
        shutil.copytree(tiny_run, tmp_path / name)
        os.utime(tmp_path / name / "config.yaml", (date, date))
    with pytest.raises(UsageError, match=f"holds 3; the latest is {re.escape(str(tmp_path / 'c'))}"):
        torch_mars.load_policy(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"task": "paxmen_9a"}, "unknown task 'paxmen_9a'; did you mean"),
        ({"task": "paxmen_4a"}, "size mismatch"),
        ({"actor": {}}, "holds no policy"),
        ({"actor": {"weight": torch.zeros(2, 8)}}, "Missing key"),
        ({"returns": torch.zeros(3)}, "weights of 2 seeds, returns of 3"),
        ({"settings": {"seed": 0}}, "'env_options' is missing"),
        ({"format": 99}, "no checkpoint that this version"),
        ({"format": torch.zeros(2)}, "no checkpoint that this version"),
    ],
)
def test_files_that_do_not_fit_are_refused(tiny_run, tmp_path, change, message):
    path = tmp_path / "policy.pt"
    torch.save({**files.load_checkpoint(tiny_run / "policy.pt"), **change}, path)
    with pytest.raises(UsageError, match=message):
        torch_mars.load_policy(path)


def test_damaged_files_give_one_sentence(tiny_run, tmp_path):
    whole, path = (tiny_run / "policy.pt").read_bytes(), tmp_path / "policy.pt"
    draw = np.random.default_rng(0)
    damaged = [whole[: len(whole) // 2], b"", b"policy", *(draw.bytes(200) for _ in range(50))]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UsageError, match="is no checkpoint of torch_mars, or is damaged"):
            torch_mars.load_policy(path)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_cannot_run_code(tmp_path):
    torch.save({"format": files.FORMAT, "actor": Touch(tmp_path / "attacked")}, tmp_path / "policy.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Touch(tmp_path / "attacked")))
    for name in ("policy.pt", "plain.pt"):
        with pytest.raises(UsageError, match="is no checkpoint"):
            torch_mars.load_policy(tmp_path / name)
    assert not (tmp_path / "attacked").exists()


# ---- the package and its pages ----


def test_importing_the_package_stays_light():
    code = "import sys, torch_mars; print([name for name in ('torch', 'numpy', 'yaml') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="has no attribute 'load_polcy'"):
        torch_mars.load_polcy  # noqa: B018 - the attribute is what is tested


def examples():
    found = []
    for page in ("README.md", "docs/policies.md"):
        blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
        found += [pytest.param(block, id=f"{page}-{i}") for i, block in enumerate(blocks) if "load_policy" in block]
    assert len(found) == 5
    return found


@pytest.mark.parametrize("example", examples())
def test_examples_of_the_pages_run(tiny_run, tmp_path, monkeypatch, example):
    shutil.copytree(tiny_run, tmp_path / "runs/paxmen_5a/mars/<run>")
    monkeypatch.chdir(tmp_path)
    steps = [line for line in example.splitlines() if line and not line.startswith("import")]
    assert len(steps) <= 6
    exec(compile(example, "example", "exec"), {})
