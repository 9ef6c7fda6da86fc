"""Teams that remember: the lesson's Actor over whole sequences, for every form of observations; runs of their own."""

import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from teams import fresh_actor, save_team
from toy_environments import register_toys

import torch_mars
import torch_mars.envs as envs
from torch_mars import evaluate, export, play
from torch_mars.algos import recurrent
from torch_mars.envs import rng
from torch_mars.run import files, film
from torch_mars.run.cli import UsageError
from torch_mars.teams import policies

MASKED = "connector_5x5x3a"  # whose boards end one by one
OWN = {"shared_policy": False, "normalise_obs": True}
KINDS = [("mars_rnn", MASKED, {}), ("maspo_rnn", MASKED, OWN), ("mappo_rnn", "toy_continuous", {"agent_id": False})]
B, T = 5, 24


@pytest.fixture(autouse=True)
def toys():
    register_toys()


@pytest.fixture
def team(tmp_path):
    """A greedy policy of a fresh team on MASKED, which remembers."""
    return torch_mars.load_policy(save_team(tmp_path / "policy.pt", "mars_rnn", MASKED), greedy=True)


def played(policy, env, steps=T):
    """obs [B, T, N, O], masks or None, starts [B, T] and actions [B, T, N, ...] in environments that restart."""
    ts, rows, is_start = env.reset(), [], torch.ones(env.num_envs, dtype=torch.bool)
    for _ in range(steps):
        actions = policy(ts.obs, ts.action_mask)
        rows.append((ts.obs, ts.action_mask, is_start, actions))
        ts = env.step(actions)
        is_start = ts.terminated | ts.truncated
        policy.reset(is_start)
    return [None if column[0] is None else torch.stack(column, 1) for column in zip(*rows)]


def of_sequence(actor, obs, mask=None, is_start=None):
    """The likeliest actions [B, T, N, ...]: the Actor called once, with all steps."""
    memory = actor.initial_memory(1, len(obs), obs.shape[2])
    mask, is_start = (None if x is None else x[None] for x in (mask, is_start))
    with torch.no_grad():
        action, steps = actor(obs[None], mask, memory, is_start)[0].mode(), obs.shape[:2]
    return actor.to_env(action.flatten(1, 2)).unflatten(0, steps)


# ---- what is remembered, and when it is forgotten ----


@pytest.mark.parametrize("algorithm, task, settings", KINDS)
def test_actions_are_the_actor_s_over_whole_sequences(algorithm, task, settings, tmp_path):
    policy = torch_mars.load_policy(save_team(tmp_path / "policy.pt", algorithm, task, **settings), greedy=True)
    assert policy.has_memory and policy.algorithm == algorithm
    options = {"max_steps": 7} if task == MASKED else {"goal": 8.0}
    obs, mask, is_start, actions = played(policy, envs.make(task, B, seed=3, **options))
    assert 0 < is_start[:, 1:].sum() and not is_start.all(0)[1:].all(), "episodes end one by one"
    actor = fresh_actor(algorithm, task, **settings)
    torch.testing.assert_close(of_sequence(actor, obs, mask, is_start), actions)
    without = of_sequence(actor, obs, mask, torch.ones_like(is_start))
    crossing = of_sequence(actor, obs, mask, None)
    assert not torch.equal(without, actions) and not torch.equal(crossing, actions), "memory shows in the actions"

    for row in range(B):  # one environment alone, which its user resets
        for t in range(T):
            if is_start[row, t]:
                policy.reset()
            given = (obs[row, t].numpy(), None if mask is None else mask[row, t].numpy())
            np.testing.assert_allclose(policy(*given), actions[row, t].numpy(), atol=1e-6, err_msg=f"{row}, {t}")


def test_dictionaries_are_the_same_and_agents_left_out_remember(team):
    env = envs.make(MASKED, B, seed=3)
    obs, mask, is_start, actions = played(team, env, 8)
    for t in range(8):
        team.reset(is_start[:, t].numpy())
        observations = {agent: obs[:, t, i].numpy() for i, agent in enumerate(env.agents)}
        infos = {agent: {"action_mask": mask[:, t, i].numpy()} for i, agent in enumerate(env.agents)}
        for i, (agent, action) in enumerate(team(observations, infos).items()):
            np.testing.assert_array_equal(action, actions[:, t, i], err_msg=f"{agent}, step {t}")

    team.reset()
    draw, found = np.random.default_rng(0), {agent: [] for agent in env.agents}
    for t in range(8):
        there = [agent for agent in env.agents if draw.random() < 0.6]
        before = team.memory
        given = {agent: obs[:, t, env.agents.index(agent)] for agent in reversed(there)}
        masks = {agent: mask[:, t, env.agents.index(agent)] for agent in there}
        for agent, action in team(given, masks).items():
            found[agent].append((t, action))
        for i, agent in enumerate(env.agents):
            if agent not in there and before is not None:
                assert torch.equal(team.memory[:, i], before[:, i])
    actor = fresh_actor("mars_rnn", MASKED)
    for i, agent in enumerate(env.agents):  # each as if there had only been the steps at which it was asked
        steps = [t for t, _ in found[agent]]
        assert 1 < len(steps) < 8
        expected = of_sequence(actor, obs[:, steps], mask[:, steps])[..., i]
        assert torch.equal(torch.stack([action for _, action in found[agent]], 1), expected)


def test_pettingzoo_s_loop(team):
    """Episode by episode, as docs/policies.md writes it."""
    env, actor = envs.parallel_env(MASKED), fresh_actor("mars_rnn", MASKED)
    for seed in (3, 4):
        observations, infos = env.reset(seed=seed)
        team.reset()
        obs, mask, taken = [], [], []
        while env.agents:
            actions = team(observations, infos)
            obs.append(np.stack([*observations.values()]))
            mask.append(np.stack([info["action_mask"] for info in infos.values()]))
            taken.append([int(action) for action in actions.values()])
            observations, _, _, _, infos = env.step(actions)
        expected = of_sequence(actor, torch.tensor(np.array([obs])), torch.tensor(np.array([mask])).bool())
        assert len(taken) > 2 and expected[0].tolist() == taken


def test_batched_pettingzoo_s_loop(team):
    env = envs.batched_parallel_env(MASKED, B, max_steps=4)
    observations, infos = env.reset(seed=3)
    for _ in range(4):
        assert team.memory is None or team.memory.any(-1).all()
        observations, _, terminations, truncations, infos = env.step(team(observations, infos))
        team.reset(terminations["agent_0"] | truncations["agent_0"])
    assert not team.memory.any()


@pytest.fixture
def seen():
    """obs [B, N, O] and masks of MASKED."""
    ts = envs.make(MASKED, B, seed=1).reset()
    return ts.obs, ts.action_mask


def test_reset_forgets_what_it_is_told_to(team, seen):
    team(*seen)
    whole = team.memory
    assert whole.shape == (B, 3, 8) and whole.dtype == torch.float32 and whole.any(-1).all()
    rows = [False, True, False, False, True]
    for is_start in (torch.tensor(rows), np.array(rows), rows):
        team.memory = whole
        team.reset(is_start)
        assert not team.memory[rows].any() and torch.equal(team.memory[~np.array(rows)], whole[~np.array(rows)])
    team.reset(torch.zeros(B, dtype=torch.bool))
    assert not team.memory[rows].any()
    team.reset()
    assert team.memory is None
    team.reset(rows)  # nothing was seen yet
    first = team(*seen)
    team.reset()
    assert torch.equal(first, team(*seen))

    team.reset()
    for forget in (True, np.True_, torch.tensor(True), [True]):
        team(seen[0][0], seen[1][0])
        assert team.memory.shape == (1, 3, 8) and team.memory.any()
        team.reset(np.logical_not(forget) if not isinstance(forget, torch.Tensor) else ~forget)
        assert team.memory.any()
        team.reset(forget)
        assert not team.memory.any()


def test_memory_can_be_kept_and_put_back(team, seen):
    """Some environments go on, a step is taken again, and what was handed out is not changed behind anybody's back."""
    obs, mask = seen
    team(obs, mask)
    kept = team.memory
    copy = kept.clone()
    second = team(obs, mask)
    after = team.memory
    assert torch.equal(kept, copy) and not torch.equal(after, copy)
    team.memory = kept
    assert torch.equal(team(obs, mask), second) and torch.equal(team.memory, after)
    team.memory = kept[[0, 3]].double()
    assert torch.equal(team(obs[[0, 3]], mask[[0, 3]]), second[[0, 3]]) and team.memory.dtype == torch.float32
    team.memory = None
    assert team.memory is None


@pytest.mark.parametrize(
    "use, message",
    [
        (
            lambda team, obs, mask: team(obs[:2], mask[:2]),
            r"obs is of 2 environments, but the policy remembers 5: call policy.reset\(\) where all episodes begin",
        ),
        (lambda team, obs, mask: team(obs[0], mask[0]), "obs is of 1 environments, but the policy remembers 5"),
        (lambda team, obs, mask: team.reset(torch.ones(2, dtype=torch.bool)), r"is bool \[2\]; it must be bool \[5\]"),
        (lambda team, obs, mask: team.reset(torch.ones(5, 3, dtype=torch.bool)), r"is_start is bool \[5, 3\]; it must"),
        (lambda team, obs, mask: team.reset(True), r"is_start is bool \[\]; it must be bool \[5\]"),
        (lambda team, obs, mask: team.reset(torch.ones(5)), r"is float32 \[5\]; it must be bool \[B\]"),
        (lambda team, obs, mask: team.reset(np.ones(5, int)), r"is int64 \[5\]; it must be bool \[B\]"),
        (lambda team, obs, mask: team.reset(7), "is_start is int; it must be bool"),
        (lambda team, obs, mask: team.reset({"agent_0": True}), "is_start is dict; it must be bool"),
        (lambda team, obs, mask: team.reset([[True], [True, False]]), "is_start is list; it must be bool"),
        (lambda team, obs, mask: setattr(team, "memory", torch.zeros(5, 3, 9)), r"float32 \[5, 3, 9\]; .* \[B, 3, 8\]"),
        (lambda team, obs, mask: setattr(team, "memory", torch.zeros(5, 3, 8).bool()), r"is bool \[5, 3, 8\]"),
        (lambda team, obs, mask: setattr(team, "memory", np.zeros((5, 3, 8), np.float32)), "must be a tensor"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_memory_is_refused_and_nothing_is_forgotten(use, message, team, seen):
    team(*seen)
    before = team.memory
    with pytest.raises(ValueError, match=message):
        use(team, *seen)
    assert team.memory is before


def test_a_refused_observation_is_not_remembered(team, seen):
    team(*seen)
    before = team.memory
    with pytest.raises(ValueError, match="no mask given"):
        team(seen[0])
    assert team.memory is before


def test_nobody_is_asked_nothing_is_remembered(team, seen):
    assert team({}) == {} and team.memory is None
    with pytest.raises(ValueError, match=r"obs is \[0, 3, 54\]; .* it must be .* with a B of 1 or more"):
        team(seen[0][:0], seen[1][:0])


def test_a_policy_without_memory_takes_the_same_calls(tmp_path, seen):
    policy = torch_mars.load_policy(save_team(tmp_path / "policy.pt", "mars", MASKED), greedy=True)
    assert not policy.has_memory
    actions = policy(*seen)
    for is_start in (None, np.ones(B, bool), True):
        policy.reset(is_start)
        assert policy.memory is None and torch.equal(policy(*seen), actions)
    policy(seen[0][0], seen[1][0])
    policy.memory = policy.memory
    with pytest.raises(ValueError, match="memory given, but Policy.mars on connector_5x5x3a, .* has none"):
        policy.memory = torch.zeros(B, 3, 8)


# ---- samples, and weights of agents' own ----


@pytest.mark.parametrize("algorithm, task, settings", [*KINDS, ("mappo", MASKED, OWN), ("mars", "toy_continuous", OWN)])
def test_samples_of_an_agent_do_not_depend_on_who_else_is_asked(algorithm, task, settings, tmp_path):
    path = save_team(tmp_path / "policy.pt", algorithm, task, **settings)
    one, same, other = (torch_mars.load_policy(path, seed=seed) for seed in (1, 1, 2))
    ts = envs.make(task, 200, seed=3).reset()
    masks = None if ts.action_mask is None else {"agent_1": ts.action_mask[:, 1]}
    differ = False
    for _ in range(3):
        whole = one(ts.obs, ts.action_mask)
        assert torch.equal(same({"agent_1": ts.obs[:, 1]}, masks)["agent_1"], whole[:, 1])
        differ |= not torch.equal(whole, other(ts.obs, ts.action_mask))
    assert differ


def test_samples_are_drawn_from_what_is_remembered(tmp_path):
    """20,000 draws at a third step, against the probabilities of the sequence."""
    path, count = save_team(tmp_path / "policy.pt", "mappo_rnn", MASKED, **OWN), 20_000
    obs, mask, _, _ = played(torch_mars.load_policy(path, greedy=True), envs.make(MASKED, 1, seed=3), 3)
    actor, policy = fresh_actor("mappo_rnn", MASKED, **OWN), torch_mars.load_policy(path)
    for t in range(3):
        drawn = policy(obs[:, t].expand(count, -1, -1), mask[:, t].expand(count, -1, -1))
    share = torch.nn.functional.one_hot(drawn, 5).float().mean(0)
    expected = actor(obs[None], mask[None], actor.initial_memory(1, 1, 3))[0].log_probs[0, 0, -1].exp()
    assert (expected > 0.05).sum() > 3, "something is left to chance"
    torch.testing.assert_close(share, expected, atol=5 * 0.5 / math.sqrt(count), rtol=0)


@pytest.mark.parametrize("algorithm", ["mars", "mars_rnn"])
def test_weights_of_an_agent_s_own_are_its_own(algorithm, tmp_path):
    path = save_team(tmp_path / "policy.pt", algorithm, MASKED, **OWN)
    obs, mask, is_start, actions = played(torch_mars.load_policy(path, greedy=True), envs.make(MASKED, B, seed=3))
    content = files.load_checkpoint(path)
    for name, weight in content["actor"].items():
        if name.startswith("network."):
            assert weight.shape[:2] == (1, 3)
            weight[:, 1] = -weight[:, 1]
    files.save_checkpoint(path, content)
    policy, found = torch_mars.load_policy(path, greedy=True), []
    for t in range(T):
        policy.reset(is_start[:, t])
        found.append(policy(obs[:, t], mask[:, t]))
    is_same = (torch.stack(found, 1) == actions).float().mean((0, 1))
    assert is_same[0] == is_same[2] == 1 and is_same[1] < 0.8


# ---- what a run saves ----


def train(folder, *more):
    small = "--num-envs 4 --rollout-length 8 --sequence-length 4 --hidden-size 8 --eval-episodes 2 --device cpu"
    words = f"{small} --total-steps 64 --num-seeds 2 --seed 7 --actor-lr 0.05 --run-dir {folder}".split()
    assert recurrent.main([*words, *map(str, more)]) == 0
    (run,) = folder.glob("*/*/*")
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two updates of two seeds, on a task with masks and ends one by one; every agent has weights of its own."""
    more = ("--no-shared-policy", "--normalise-obs", "--film-every", 64, "--keep-every", 32, "--method", "maspo")
    more += ("--clip", 0.5)  # with which not all episodes of its greedy policy are as long
    return train(tmp_path_factory.mktemp("runs"), "--env", MASKED, "--env-options", "{max_steps: 9}", *more)


def test_all_that_a_run_leaves_is_a_policy(run, capsys):
    found = []
    for path in (run, run / "policy.pt", run / "checkpoint.pt", run / "policies" / "step_32.pt"):
        policy = torch_mars.load_policy(path, greedy=True, policy_seed=8)
        assert policy.has_memory and policy.algorithm == "maspo_rnn" and policy.env_options == {"max_steps": 9}
        found.append(played(policy, envs.make(policy.task, B, seed=3, **policy.env_options))[-1])
    assert torch.equal(found[0], found[1])
    assert policies.read(run / "checkpoint.pt").args.shared_policy is False
    statistics = files.load_checkpoint(run / "policy.pt")["actor"]["inputs.statistics.count"]
    assert (statistics > 0).all(), "observations were normalised"


@pytest.mark.parametrize("place", [0, 1])
def test_it_is_measured_as_it_plays(place, run):
    """The command's episodes, played by the policy of a training seed in the same environments."""
    trained = policies.read(run)
    found = evaluate.evaluate(trained, 6, seed=3, greedy=True)
    seed = rng.derive(3, "evaluate", trained.seeds[place], 0)
    env, policy = trained.make_env(6, seed=[seed]), policies.Policy(trained, "cpu", True, 0, trained.seeds[place])
    ts, is_over, returns = env.reset(), torch.zeros(6, dtype=torch.bool), torch.zeros(6)
    while not is_over.all():
        ts = env.step(policy(ts.obs, ts.action_mask))
        ends = (ts.terminated | ts.truncated) & ~is_over
        returns[ends], is_over = ts.info["episode_return"][ends], is_over | ends
        policy.reset(ts.terminated | ts.truncated)
    assert found["episode_return"][place] == returns.tolist()


def test_an_episode_of_many_is_filmed_as_it_was_played(run, tmp_path, monkeypatch, capsys):
    """Environments that are over are left out of the batch, and the others remember."""
    playing = play.team(str(run), seed=3, greedy=True)
    recording = film.record(playing.make_env(12), playing.act)
    env, policy = playing.make_env(12), torch_mars.load_policy(run, greedy=True)
    ts, lengths = env.reset(), torch.zeros(12, dtype=torch.int64)
    for t, actions in enumerate(recording.actions):
        found = policy(ts.obs, ts.action_mask)
        goes_on = lengths == t
        assert torch.equal(actions[goes_on], found[goes_on])
        ts = env.step(actions)
        lengths += goes_on & ~(ts.terminated | ts.truncated)
    assert len(lengths.unique()) > 1, "they end one by one"
    *_, episode = film.play(playing.make_env(1), playing.act, 1)
    policy.reset()
    taken, env = [], playing.make_env(1)
    ts = env.reset()
    while not (ts.terminated | ts.truncated):
        taken.append(ts.obs[0])
        ts = env.step(policy(ts.obs, ts.action_mask))
    assert all(torch.equal(own, seen) for own, seen in zip(taken, episode.obs, strict=False)) and len(taken) > 1
    monkeypatch.chdir(tmp_path)
    assert playing.stem == "connector_5x5x3a-maspo_rnn"
    assert play.main([str(run), "--out", "film.png"]) == 0
    assert "MASPO_RNN, best policy, seed" in capsys.readouterr().out


def test_films_are_made_while_it_trains(run, capsys):
    assert [path.name for path in (run / "films").iterdir()] == ["step_64.gif"]
    with Image.open(run / "films" / "step_64.gif") as gif:
        assert 2 <= gif.n_frames <= 10


def test_the_commands_take_it_and_know_its_lesson(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate.main([str(run), "--episodes", "4", "--lesson", "recurrent"]) == 0
    assert capsys.readouterr().out.startswith(f"MASPO_RNN on {MASKED}, best policy: {run / 'policy.pt'}\n")
    assert export.main([str(run), "--format", "torchscript"]) == 0
    assert "wrote connector_5x5x3a-maspo_rnn.pt" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--lesson: mars is 'mars', but the policy is of 'maspo_rnn'"):
        evaluate.main([str(run), "--lesson", "mars"])


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("shared_policy", 1, "shared-policy is 1; it must be true or false"),
        ("shared_policy", True, "size mismatch"),
        ("agent_id", False, "size mismatch"),
        ("normalise_obs", None, "normalise-obs is None; it must be true or false"),
        ("normalise_obs", False, "Unexpected key"),
        ("hidden_size", -8, "hidden_size is -8"),
        ("hidden_size", 60_000, "hidden_size is 60000, but no weight is longer than"),
        ("hidden_size", 9, "size mismatch"),
        ("method", "quux", "method is 'quux'; allowed are mappo, maspo, mars"),
        ("method", ["mars"], r"method is \['mars'\]; did you mean mars"),
        ("gamma", "high", "gamma: 'high' is not a number"),
        ("seed", True, "seed is True"),
    ],
)
def test_strange_settings_are_one_sentence(name, value, message, run, tmp_path):
    content = files.load_checkpoint(run / "policy.pt")
    content["settings"][name] = value
    files.save_checkpoint(tmp_path / "policy.pt", content)
    with pytest.raises(UsageError, match=f"holds no policy that this version of torch_mars can use: .*{message}") as no:
        torch_mars.load_policy(tmp_path / "policy.pt")
    assert "\n" not in str(no.value) and len(str(no.value)) < 500


@pytest.mark.parametrize("algorithm", ["quux_rnn", "mars", "_rnn"])
def test_a_lesson_that_is_none_or_another_is_one_sentence(algorithm, run, tmp_path):
    content = files.load_checkpoint(run / "policy.pt")
    files.save_checkpoint(tmp_path / "policy.pt", {**content, "algorithm": algorithm})
    with pytest.raises(UsageError, match="holds no policy that this version") as no:
        torch_mars.load_policy(tmp_path / "policy.pt")
    if algorithm != "mars":
        assert re.search(
            f"it is of lesson '{algorithm}', whose Actor is not the package's: add --lesson", str(no.value)
        )
