"""SMAX beside the original (JaxMARL 0.2.0), step by step, over whole battles in every scenario; extra [parity]."""

import functools

import numpy as np
import pytest
import torch
from smax_comparison import (
    ATOL,
    FIELDS,
    assert_same_situation,
    kinds_of_end,
    mixed_actions,
    step_like_the_original,
)

import torch_mars.envs as envs
from torch_mars.envs.smax.scenarios import SCENARIOS, UNIT_TYPES
from torch_mars.envs.smax.task import DT

pytest.importorskip("jaxmarl", reason="the original SMAX is JaxMARL's: pip install torch_mars[parity]")
pytestmark = pytest.mark.parity
OPTIONS = (
    {"see_enemy_actions": False},
    {"walls_cause_death": False},
    {"attack_mode": "random"},
    {"enemy_shoots": False},
    {"use_self_play_reward": True, "won_battle_bonus": 2.5},
    {"max_steps": 7},
)


@pytest.fixture(params=["loops", "tensors"], autouse=True)
def form(request, monkeypatch):
    """The rules as CPUs take them, and as other devices and torch.compile do."""
    if request.param == "tensors":
        monkeypatch.setattr("torch_mars.envs.smax.env.runs_in_loops", lambda tensor: False)


@functools.cache
def original_of(scenario, *options):
    """Compiled once for both forms."""
    from record_smax import Original

    return Original(scenario, **dict(options))


def pair(scenario, num_envs, **options):
    """The original and ours."""
    env = envs.make(f"smax_{scenario}", num_envs=num_envs, auto_reset=False, **options)
    return original_of(scenario, *options.items()), env


def compare(original, env, before, actions, rows, seed, monkeypatch, where):
    """One step of both from `before`, and what is seen after it. The original's next situation, and who ended."""
    after, reward, done = original.step(seed, before, actions)
    ts = step_like_the_original(env, before, actions, after, rows, monkeypatch)
    assert_same_situation(env, before, after, rows, where)
    np.testing.assert_allclose(ts.reward[rows, 0], reward[rows], rtol=0, atol=2e-6, err_msg=where)
    np.testing.assert_array_equal((ts.terminated | ts.truncated)[rows], done[rows], err_msg=where)
    env.load_state(after)  # with the original's cooldowns
    seen, (obs, state, mask) = env.observe(), original.perceive(after)
    np.testing.assert_allclose(seen.obs, obs, rtol=0, atol=2e-6, err_msg=where)
    np.testing.assert_allclose(seen.state, state, rtol=0, atol=1e-5, err_msg=where)
    if seen.action_mask is not None:
        np.testing.assert_array_equal(seen.action_mask, mask, err_msg=where)
    return after, done


def play_whole_battles(original, env, seed, monkeypatch):
    """All environments to their end; how they ended."""
    rng = np.random.default_rng(seed)
    before = original.reset(seed, env.num_envs)
    mask = original.perceive(before)[2]
    is_running, ends, t = np.ones(env.num_envs, bool), dict.fromkeys(("won", "lost", "draw", "timeout"), 0), 0
    while is_running.any():
        actions = mixed_actions(before, mask, rng)
        where = f"seed {seed} step {t}"
        before, done = compare(original, env, before, actions, is_running, 1000 * seed + t, monkeypatch, where)
        mask = env.observe().action_mask.numpy()
        for name, count in kinds_of_end(before, is_running & done, env.num_agents).items():
            ends[name] += count
        is_running, t = is_running & ~done, t + 1
    assert sum(ends.values()) == env.num_envs
    return ends


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whole_battles(scenario, monkeypatch):
    play_whole_battles(*pair(scenario, 12), 1, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_many_whole_battles(scenario, monkeypatch):
    original, env = pair(scenario, 120)
    ends = play_whole_battles(original, env, 2, monkeypatch)
    assert ends["lost"] and (ends["won"] or "vs" in scenario), ends


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: next(iter(options)))
def test_whole_battles_under_options(options, monkeypatch):
    play_whole_battles(*pair("smacv2_5_units", 24, **options), 3, monkeypatch)


def test_continuous_actions_without_chance(monkeypatch):
    original, env = pair("smacv2_5_units", 24, action_type="continuous")
    rng = np.random.default_rng(0)
    before = original.reset(0, 24)
    for t in range(40):
        actions = rng.random((24, 5, 4), dtype=np.float32)
        actions[..., :2] = actions[..., :2] < (0.7, 0.4)
        before, _ = compare(original, env, before, actions, np.ones(24, bool), t, monkeypatch, f"step {t}")


def test_continuous_actions_in_distribution():
    """How often an ally walks, attacks the nearest, repeats its attack: from one situation 4,000 times."""
    count = 4000
    original, env = pair("2s3z", count, action_type="continuous")
    before = {name: np.repeat(value, count, 0) for name, value in original.reset(0, 1).items()}
    before["prev_attack_actions"][:, :5] = 9
    actions = np.tile(np.float32([0.3, 0.6, 0.9, 0.1]), (count, 5, 1))
    after, _, _ = original.step(1, before, actions)
    env.reset()
    env.load_state(before)
    env.step(torch.as_tensor(actions))
    for attacks in (after["prev_attack_actions"][:, :5], env.state.prev_attack_actions[:, :5].numpy()):
        shares = [(attacks == 0).mean(), (attacks == 9).mean()]
        np.testing.assert_allclose(shares, [0.6, 0.4 * 0.7], atol=0.02)


def test_cooldowns_after_a_shot_in_distribution():
    """From one situation, in which everybody fires at once, 4,000 times: quantiles of the numbers drawn."""
    count = 4000
    original, env = pair("5m_vs_6m", count)
    before = {name: np.repeat(value, count, 0) for name, value in original.reset(0, 1).items()}
    before["unit_positions"] = before["unit_positions"] * np.float32(0.1) + np.float32(14)
    after, _, _ = original.step(1, before, np.full((count, 5), 5))
    env.reset()
    env.load_state(before)
    env.step(torch.full((count, 5), 5))
    marine = UNIT_TYPES[0].cooldown - 7 * DT  # fired in the first sub-step
    for cooldowns in (after["unit_weapon_cooldowns"], env.state.unit_weapon_cooldowns.numpy()):
        drawn = (cooldowns - marine).flatten()
        assert drawn.min() > -DT - 1e-6 and drawn.max() < 2 * DT + 1e-6
        np.testing.assert_allclose(np.quantile(drawn, (0.1, 0.5, 0.9)), DT * np.array([-0.7, 0.5, 1.7]), atol=0.003)


@pytest.mark.parametrize("scenario", ["2s3z", "smacv2_5_units", "smacv2_20_units"])
def test_starts_in_distribution(scenario):
    """Means, spreads and quantiles of places, types and who begins outside, over 8,000 battles each."""
    count = 8000
    original, env = pair(scenario, count)
    theirs = original.reset(5, count)
    env.reset(seed=5)
    ours = {name: getattr(env.state, name).numpy() for name in FIELDS}
    for name in FIELDS:
        assert theirs[name].shape == ours[name].shape, name
    error = 1 / np.sqrt(count)
    places = [fields["unit_positions"] for fields in (theirs, ours)]
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):  # one unit of each team: others of a team are alike
        at = [np.quantile(p[:, [0, -1]], quantile, axis=0) for p in places]
        below = [(p[:, [0, -1]] < at[0]).mean(0) for p in places]
        np.testing.assert_allclose(below[0], below[1], atol=4 * error)
    nearest = [np.quantile(np.linalg.norm(p[:, 0] - p[:, 1], axis=1), (0.1, 0.5, 0.9)) for p in places]
    np.testing.assert_allclose(nearest[0], nearest[1], rtol=0.06)
    outside = [((p <= 0) | (p >= 32)).any((1, 2)).mean() for p in places]
    np.testing.assert_allclose(outside[0], outside[1], atol=3 * error)
    types = [[(fields["unit_types"] == kind).mean(0) for kind in range(6)] for fields in (theirs, ours)]
    np.testing.assert_allclose(types[0], types[1], atol=3 * error)
    for fields in (theirs, ours):
        if SCENARIOS[scenario].types is None:
            half = fields["unit_types"].shape[1] // 2
            np.testing.assert_array_equal(fields["unit_types"][:, :half], fields["unit_types"][:, half:])
    for name in FIELDS[1:]:
        if name not in ("unit_types", "unit_health"):
            np.testing.assert_allclose(theirs[name], ours[name], atol=ATOL, err_msg=name)
