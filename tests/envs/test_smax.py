"""SMAX against recorded battles of the original, and its rules in hand-placed situations."""

import importlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import check
from smax_comparison import FIELDS, assert_same_situation, kinds_of_end, step_like_the_original

import torch_mars.envs as envs
from torch_mars.envs.smax.env import SMAX
from torch_mars.envs.smax.scenarios import NUM_TYPES, SCENARIOS, UNIT_TYPES
from torch_mars.envs.smax.task import DT

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECORDED = sorted(path.stem.removeprefix("smax_") for path in FIXTURES.glob("smax_*.npz"))
UP, RIGHT, DOWN, LEFT, STOP, ATTACK = range(6)
MARINE, MARAUDER, STALKER, ZEALOT, ZERGLING, HYDRALISK = range(6)


@pytest.fixture(params=["loops", "tensors"])
def form(request, monkeypatch):
    """The rules as CPUs take them, and as other devices and torch.compile do."""
    if request.param == "tensors":
        monkeypatch.setattr("torch_mars.envs.smax.env.runs_in_loops", lambda tensor: False)


in_both_forms = pytest.mark.usefixtures("form")


# ---- against the original ----


def battles(scenario, monkeypatch):
    """Plays the recorded battles; at each step: env, the TimeSteps before and after, the record's step and rows."""
    record = np.load(FIXTURES / f"smax_{scenario}.npz")
    record = {name: record[name] for name in record.files}
    env = envs.make(f"smax_{scenario}", num_envs=record["done"].shape[1], auto_reset=False)
    env.reset()
    for t, rows in enumerate(record["is_running"]):
        before, after = ({name: record[name][at] for name in FIELDS} for at in (t, t + 1))
        env.load_state(before)
        seen = env.observe()
        ts = step_like_the_original(env, before, record["action"][t].astype(np.int64), after, rows, monkeypatch)
        yield env, seen, ts, {name: values[t] for name, values in record.items() if name not in ("obs", "state")}, after
        assert_same_situation(env, before, after, rows, f"{scenario} step {t}")


@in_both_forms
@pytest.mark.parametrize("scenario", RECORDED)
def test_every_step_of_recorded_battles(scenario, monkeypatch):
    for t, (_, seen, ts, step, _) in enumerate(battles(scenario, monkeypatch)):
        where, rows = f"step {t}", step["is_running"]
        np.testing.assert_array_equal(seen.action_mask[rows], step["mask"][rows], err_msg=where)
        np.testing.assert_allclose(ts.reward[rows, 0], step["reward"][rows], rtol=0, atol=2e-6, err_msg=where)
        assert (ts.reward == ts.reward[:, :1]).all()
        np.testing.assert_array_equal((ts.terminated | ts.truncated)[rows], step["done"][rows], err_msg=where)
        weights = np.cos(1 + np.arange(seen.obs.shape[2]))
        np.testing.assert_allclose((seen.obs.numpy() @ weights)[rows], step["obs_sum"][rows], rtol=0, atol=1e-4)


@in_both_forms
@pytest.mark.parametrize("scenario", RECORDED)
def test_full_observations_and_global_states_of_recorded_battles(scenario):
    record = np.load(FIXTURES / f"smax_{scenario}.npz")
    env = envs.make(f"smax_{scenario}", num_envs=record["done"].shape[1])
    for obs, state, t in zip(record["obs"], record["state"], (0, 6, 12)):
        rows = record["is_running"][t]
        env.load_state({name: record[name][t] for name in FIELDS})
        seen = env.observe()
        np.testing.assert_allclose(seen.obs[rows], obs[rows], rtol=0, atol=1e-6, err_msg=f"step {t}")
        np.testing.assert_allclose(seen.state[rows], state[rows], rtol=0, atol=1e-6, err_msg=f"step {t}")


def test_the_records_hold_kills_wins_losses_and_ends_by_time():
    ends, kills = dict.fromkeys(("won", "lost", "draw", "timeout"), 0), 0
    for scenario in RECORDED:
        record = np.load(FIXTURES / f"smax_{scenario}.npz")
        for t, done in enumerate(record["done"]):
            after = {"unit_alive": record["unit_alive"][t + 1]}
            for name, count in kinds_of_end(after, done, SCENARIOS[scenario].num_allies).items():
                ends[name] += count
            kills += (record["unit_alive"][t] & ~record["unit_alive"][t + 1])[record["is_running"][t]].sum()
    assert kills > 300 and ends["won"] >= 5 and ends["lost"] > 20 and ends["timeout"] > 5 and ends["draw"] >= 1, (
        kills,
        ends,
    )


# ---- hand-placed situations ----


def situation(scenario="2s3z", positions=None, types=None, **fields):
    """One battle with units at given places; everything else as at a start. The enemies have had their first step."""
    options = {name: fields.pop(name) for name in list(fields) if name in envs.make("smax_2s3z").options.__dict__}
    env = envs.make(f"smax_{scenario}", auto_reset=False, **options)
    env.reset()
    loaded = {"enemy_default_target": [[(1.0, 16.0)] * env.num_enemies]}
    if positions is not None:
        loaded["unit_positions"] = [positions]
    if types is not None:
        loaded |= {"unit_types": [types], "unit_health": [[UNIT_TYPES[kind].max_health for kind in types]]}
    loaded |= {name: [value] for name, value in fields.items()}
    if "unit_alive" in fields and "unit_health" not in fields:
        loaded["unit_health"] = env.state.unit_health * torch.tensor(loaded["unit_alive"])
    env.load_state(loaded)
    return env


def far_apart(num_allies, num_enemies):
    """Places out of everybody's sight but the own team's: allies along the lower, enemies along the upper edge."""
    return [(1.5 + 1.5 * i, 2.0) for i in range(num_allies)] + [(1.5 + 1.5 * i, 30.0) for i in range(num_enemies)]


def all_do(env, action):
    return torch.full((1, env.num_agents), action)


def alive_but(*dead):
    return [i not in dead for i in range(10)]


@in_both_forms
@pytest.mark.parametrize(
    "action, way", [(UP, (0, 1)), (RIGHT, (1, 0)), (DOWN, (0, -1)), (LEFT, (-1, 0)), (STOP, (0, 0))]
)
def test_a_step_walks_half_a_second(action, way):
    places = far_apart(5, 5)
    places[0] = (16.0, 16.0)
    env = situation(positions=places)
    env.step(all_do(env, action))
    expected = [16 + d * UNIT_TYPES[STALKER].speed / 2 for d in way]
    assert env.state.unit_positions[0, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert env.state.prev_movement_actions[0, 0].tolist() == pytest.approx(way, abs=1e-7)


@in_both_forms
@pytest.mark.parametrize(
    "place, action, lives",
    [
        *(((0.0, 16.0), action, lives) for action, lives in ((UP, False), (DOWN, True), (LEFT, False), (STOP, False))),
        *(((16.0, 0.0), action, lives) for action, lives in ((LEFT, True), (RIGHT, False), (UP, True), (DOWN, False))),
    ],
)
def test_who_was_put_on_the_edge_lives_where_the_original_s_directions_lead_off_it(place, action, lives):
    """Its up is (-1.3e-8, 0.99999994), its left (-0.99999994, 1.3e-8), turned from diagonals in float32."""
    places = far_apart(5, 5)
    places[0] = place
    env = situation(positions=places)
    env.step(all_do(env, action))
    assert env.state.unit_alive[0, 0] == lives


@in_both_forms
def test_the_border_kills_allies_and_enemies_and_pays_for_enemies():
    places = far_apart(5, 5)
    places[4], places[5] = (0.1, 8.0), (31.9, 30.0)
    env = situation(positions=places, enemy_default_target=[(40.0, 30.0)] * 5)
    action = torch.tensor([[STOP, STOP, STOP, STOP, LEFT]])
    ts = env.step(action)
    assert env.state.unit_alive[0].tolist() == alive_but(4, 5)
    assert env.state.unit_positions[0, 4, 0] == 0 and env.state.unit_positions[0, 5, 0] == 32
    assert ts.reward[0].tolist() == pytest.approx([1 / 5] * 5)
    env = situation(positions=places, enemy_default_target=[(40.0, 30.0)] * 5, walls_cause_death=False)
    ts = env.step(action)
    assert env.state.unit_alive.all() and (ts.reward == 0).all()


@in_both_forms
def test_a_shot_hits_once_a_step_and_only_within_reach():
    places = far_apart(5, 5)
    places[0], places[5] = (10.0, 16.0), (15.9, 16.0)  # stalkers shoot at 6, from centre to centre
    env = situation(positions=places, enemy_shoots=False)
    ts = env.step(all_do(env, ATTACK))
    assert env.state.unit_health[0, 5] == 160 - 13
    assert ts.reward[0, 0].item() == pytest.approx(13 / 160 / 5)
    assert env.state.unit_weapon_cooldowns[0, 0].item() == pytest.approx(1.87 - 7 * DT, abs=2 * DT)
    assert env.state.unit_weapon_cooldowns[0, 1].item() == pytest.approx(-8 * DT)
    env.step(all_do(env, ATTACK))
    assert env.state.unit_health[0, 5] == 160 - 13  # reloading

    places[5] = (16.0, 16.0)  # exactly out of reach; then the enemy comes, and the shot falls in a later sub-step
    env = situation(positions=places, enemy_shoots=False)
    assert not env.observe().action_mask[0, 0, ATTACK]
    env.step(all_do(env, ATTACK))
    assert env.state.unit_health[0, 5] == 160 - 13
    assert env.state.unit_weapon_cooldowns[0, 0].item() == pytest.approx(1.87 - 6 * DT, abs=2 * DT)


@in_both_forms
def test_units_that_shoot_each_other_dead_make_a_draw_without_bonus():
    places = far_apart(5, 5)
    places[0], places[5] = (15.0, 16.0), (17.0, 16.0)
    health = [1.0 if i in (0, 5) else 0.0 for i in range(10)]
    alive = [h > 0 for h in health]
    env = situation(positions=places, unit_health=health, unit_alive=alive)
    ts = env.step(all_do(env, ATTACK))
    assert not env.state.unit_alive.any() and ts.terminated.all() and not ts.truncated.any()
    assert ts.reward[0, 0].item() == pytest.approx(1 / 160 / 5)
    assert ts.info["draw"].item() == 1 and not ts.info["won_episode"].any()
    assert ts.info["won"].item() == ts.info["lost"].item() == ts.info["timeout"].item() == 0


@in_both_forms
@pytest.mark.parametrize("self_play, winner_reward, loser_reward", [(False, 1 + 1 / 160 / 5, 0.0), (True, 1.0, -1.0)])
def test_a_won_and_a_lost_battle(self_play, winner_reward, loser_reward):
    places = far_apart(5, 5)
    places[0], places[5] = (15.0, 16.0), (17.0, 16.0)
    for loser, reward in ((5, winner_reward), (0, loser_reward)):
        alive = [i in (0, 5) for i in range(10)]
        health = [(1.0 if i == loser else 100.0) if alive[i] else 0.0 for i in range(10)]
        cooldown = [0.0 if i != loser else 9.0 for i in range(10)]
        env = situation(
            positions=places, unit_health=health, unit_alive=alive, unit_weapon_cooldowns=cooldown,
            use_self_play_reward=self_play,
        )  # fmt: skip
        ts = env.step(all_do(env, ATTACK))
        assert ts.terminated.all() and ts.reward[0].tolist() == pytest.approx([reward] * 5)
        assert ts.info["won_episode"].item() == (loser == 5) and ts.info["lost"].item() == (loser == 0)
        assert ts.info["allies_alive"].item() == (loser == 5) and ts.info["enemies_alive"].item() == (loser == 0)


@in_both_forms
def test_damage_beyond_death_is_lost():
    places = [(10.0 + 0.8 * i, 14.0) for i in range(5)] + [(12.0, 16.0)] + far_apart(0, 4)
    env = situation(scenario="2s3z", types=[HYDRALISK] * 10, positions=places, enemy_shoots=False)
    env.load_state({"unit_health": [[80.0] * 5 + [20.0] + [80.0] * 4]})
    ts = env.step(all_do(env, ATTACK))
    assert env.state.unit_health[0, 5] == 0 and ts.reward[0, 0].item() == pytest.approx(20 / 80 / 5)


@in_both_forms
def test_overlapping_units_push_each_other_apart_and_the_dead_do_not():
    places = far_apart(5, 5)
    places[0], places[1] = (16.0, 16.0), (16.5, 16.0)
    env = situation(positions=places)
    env.step(all_do(env, STOP))
    x = env.state.unit_positions[0, :2, 0]
    assert (x[1] - x[0]).item() == pytest.approx(1.25, abs=1e-3) and x.mean().item() == pytest.approx(16.25, abs=1e-5)
    env = situation(positions=places, unit_alive=alive_but(1), unit_health=[160, 0, *[150] * 8])
    env.step(all_do(env, STOP))
    assert env.state.unit_positions[0, :2, 0].tolist() == [16.0, 16.5]


@in_both_forms
def test_an_enemy_keeps_its_target_while_it_is_in_reach():
    places = far_apart(5, 5)
    places[5], places[0], places[1] = (16.0, 16.0), (20.0, 16.0), (19.0, 16.0)
    for last, expected in ((-1, 3), (4, 4), (0, 3)):  # m counts the allies backwards: 4 is ally 0, 3 the nearer ally 1
        env = situation(positions=places, enemy_last_attacked=[last, -1, -1, -1, -1])
        env.step(all_do(env, STOP))
        assert env.state.enemy_last_attacked[0].tolist() == [expected, -1, -1, -1, -1], last
        assert env.state.prev_attack_actions[0, 5:].tolist() == [ATTACK + expected, 0, 0, 0, 0]
        assert env.state.unit_health[0, 4 - expected] == 160 - 13


@in_both_forms
def test_an_enemy_walks_to_each_visible_ally_equally_often():
    places = far_apart(5, 5)
    places[5], places[0], places[1], places[2] = (16.0, 16.0), (23.5, 16.0), (16.0, 8.5), (8.5, 16.5)
    count = 6000
    env = envs.make("smax_2s3z", num_envs=count)
    env.reset()
    env.load_state({"unit_positions": np.tile(np.float32(places), (count, 1, 1))})
    env.step(torch.full((count, 5), STOP))
    x, y = env.state.prev_movement_actions[:, 5].round().unbind(1)
    for share in ((x == 1), (y == -1), (x == -1)):
        assert share.float().mean().item() == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / count))


@in_both_forms
def test_an_enemy_that_attacks_at_random_draws_among_those_in_reach():
    places = far_apart(5, 5)
    places[5], places[0], places[1], places[2] = (16.0, 16.0), (20.0, 16.0), (16.0, 12.5), (8.5, 16.5)
    count = 4000
    env = envs.make("smax_2s3z", num_envs=count, attack_mode="random")
    env.reset()
    env.load_state({"unit_positions": np.tile(np.float32(places), (count, 1, 1))})
    env.step(torch.full((count, 5), STOP))
    share = torch.bincount(env.state.enemy_last_attacked[:, 0], minlength=5) / count
    assert share[[0, 1, 2]].sum() == 0 and share[3].item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(count))


@in_both_forms
def test_an_enemy_with_nobody_in_sight_crosses_the_field():
    places = far_apart(5, 5)
    env = situation(positions=places, enemy_default_target=[(0.0, 0.0)] * 5)
    env.step(all_do(env, STOP))
    opposite = [(32 - x, 32 - y) for x, y in places[5:]]
    np.testing.assert_allclose(env.state.enemy_default_target[0], opposite)
    ways = [[1, 0] if x < 2 else [0, -1] for x, _ in places[5:]]
    np.testing.assert_allclose(env.state.prev_movement_actions[0, 5:], ways, atol=1e-7)
    env.step(all_do(env, STOP))
    np.testing.assert_allclose(env.state.enemy_default_target[0], opposite)  # stays


@in_both_forms
def test_masks():
    places = far_apart(5, 5)
    places[0], places[5], places[6], places[7] = (16.0, 16.0), (20.0, 16.0), (16.0, 21.9), (22.1, 16.0)
    env = situation(positions=places, unit_alive=alive_but(1, 6))
    mask = env.observe().action_mask[0]
    assert mask[0].tolist() == [True] * 5 + [True] + [False] * 4  # 6 is dead, 7 out of reach
    assert mask[1].tolist() == [False] * 4 + [True] + [False] * 5
    ts = env.step(torch.tensor([[ATTACK + 2, RIGHT, STOP, STOP, STOP]]))  # legal all the same, but without effect
    assert env.state.unit_positions[0, 0].tolist() == [16, 16] and env.state.prev_attack_actions[0, 0] == ATTACK + 2
    assert env.state.prev_movement_actions[0, 1].tolist() == pytest.approx([1, 0], abs=1e-7)
    assert env.state.unit_positions[0, 1].tolist() == list(places[1]) and (ts.obs[0, 1] == 0).all()


@in_both_forms
def test_what_an_ally_sees():
    places = far_apart(5, 5)
    places[0], places[5], places[6] = (16.0, 16.0), (21.0, 18.0), (25.99, 16.0)
    env = situation(
        positions=places,
        unit_weapon_cooldowns=[0.935, 0, 0, 0, 0, 9.0, -3.0, 0, 0, 0],
        unit_health=[80.0, *[150.0] * 4, 40.0, 160.0, *[150.0] * 3],
        prev_attack_actions=[0] * 5 + [9] + [0] * 4,
        prev_movement_actions=[(0, 0)] * 6 + [(0, -1)] + [(0, 0)] * 3,
    )
    obs = env.observe().obs[0, 0]
    others = obs[:117].view(9, 13)
    assert others[4].tolist() == pytest.approx([0.25, 0.5, 0.2, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0])
    assert others[5].tolist() == pytest.approx([1, 0.999, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0], abs=1e-6)
    assert (others[[0, 1, 2, 3, 6, 7, 8]] == 0).all()
    assert obs[117:].tolist() == pytest.approx([0.5, 0.5, 0.5, 0.5, 0, 0, 1, 0, 0, 0])
    orders = {"prev_attack_actions": [0] * 5 + [9] + [0] * 4, "prev_movement_actions": [(0, 0)] * 6 + [(0, -1)] * 4}
    hidden = situation(positions=places, see_enemy_actions=False, **orders).observe().obs[0, 0, :117].view(9, 13)
    assert (hidden[4:6, 3:6] == 0).all() and (hidden[4:6, 0] > 0).all()  # in sight, but nobody knows what it is up to


@in_both_forms
def test_the_global_state_lists_units_teams_and_types():
    env = situation(unit_alive=alive_but(3), unit_weapon_cooldowns=[-4.0] * 10)
    state = env.observe().state[0]
    units = state[:100].view(10, 10)
    assert units[0].tolist() == pytest.approx([1, *env.state.unit_positions[0, 0].tolist(), -4, 0, 0, 1, 0, 0, 0])
    assert (units[3] == 0).all() and (units[4] != 0).any()
    assert state[100:].tolist() == [0] * 5 + [1] * 5 + [2, 2, 3, 3, 3] * 2


@in_both_forms
def test_the_time_limit_is_one_step_later_than_max_steps():
    env = situation(positions=far_apart(5, 5), step=99)
    assert not env.step(all_do(env, STOP)).truncated.any()
    ts = env.step(all_do(env, STOP))
    assert ts.truncated.all() and not ts.terminated.any() and ts.info["timeout"].item() == 1
    assert envs.make("smax_2s3z").max_steps == 101


@in_both_forms
def test_continuous_actions_walk_attack_the_nearest_and_repeat():
    places = far_apart(5, 5)
    places[0], places[1], places[2] = (10.0, 16.0), (20.0, 16.0), (14.0, 10.0)
    places[5], places[6] = (14.0, 16.0), (20.0, 11.0)
    env = situation(positions=places, prev_attack_actions=[0, 0, 9] + [0] * 7, action_type="continuous")
    assert env.observe().action_mask is None
    walk, nearest, repeat = [0.0, 1.0, 0.5, 0.25], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]
    env.step(torch.tensor([[walk, nearest, repeat, walk, walk]]))
    assert env.state.prev_attack_actions[0, :5].tolist() == [0, 6, 9, 0, 0]
    assert env.state.prev_movement_actions[0, :3].flatten().tolist() == pytest.approx([0, 0.5, 0, 0, 0, 0], abs=1e-6)
    env = situation(positions=places, unit_alive=alive_but(6), action_type="continuous")
    env.step(torch.tensor([[nearest] * 5]))
    assert env.state.prev_attack_actions[0, :2].tolist() == [5, 6]  # the nearest one, though it is dead


def test_teams_that_face_each_other_start_within_2_of_their_places():
    """Uniformly, so with a deviation of 4 / sqrt(12) along each axis; a little more, as crowded units are pushed."""
    env = envs.make("smax_3s_vs_5z", num_envs=2000, seed=1)
    env.reset()
    for units, x in ((slice(0, 3), 8), (slice(3, 8), 24)):
        away = env.state.unit_positions[:, units] - torch.tensor([x, 16.0])
        assert away.mean((0, 1)).abs().max() < 0.1
        assert ((away.std((0, 1)) > 1.15) & (away.std((0, 1)) < 1.3)).all()


# ---- whole tasks ----


@pytest.mark.parametrize(
    "scenario, sizes",
    [
        ("2s3z", (5, 127, 120, 10)),
        ("3s5z", (8, 205, 192, 13)),
        ("3s_vs_5z", (3, 101, 96, 10)),
        ("6h_vs_8z", (6, 179, 168, 13)),
        ("5m_vs_6m", (5, 140, 132, 11)),
        ("10m_vs_11m", (10, 270, 252, 16)),
        ("3s5z_vs_3s6z", (8, 218, 204, 14)),
        ("27m_vs_30m", (27, 738, 684, 35)),
        ("smacv2_5_units", (5, 127, 120, 10)),
        ("smacv2_10_units", (10, 257, 240, 15)),
        ("smacv2_20_units", (20, 517, 480, 25)),
    ],
)
def test_sizes_are_those_of_the_specification(scenario, sizes):
    env = envs.make(f"smax_{scenario}")
    assert (env.num_agents, env.observation_size, env.state_size, env.action_space.n) == sizes
    if SCENARIOS[scenario].types:
        assert len(SCENARIOS[scenario].types) == env.num_units


def returns_lengths_wins(scenario, guided, count):
    """Means over first episodes of `count` environments, of random allowed actions or of the guided policy."""
    from smax_comparison import guided_actions

    env = envs.make(f"smax_{scenario}", num_envs=count, seed=11, auto_reset=False)
    ts, is_running = env.reset(), torch.ones(count, dtype=torch.bool)
    generator = torch.Generator().manual_seed(3)
    figures = torch.zeros(3, count)
    while is_running.any():
        if guided:
            actions = torch.as_tensor(
                guided_actions({n: getattr(env.state, n).numpy() for n in FIELDS}, env.num_agents)
            )
        else:
            actions = (torch.rand(ts.action_mask.shape, generator=generator) * ts.action_mask).argmax(2)
        ts = env.step(actions)
        ends = is_running & (ts.terminated | ts.truncated)
        now = torch.stack([ts.info["episode_return"], ts.info["episode_length"].float(), ts.info["won"]])
        figures, is_running = torch.where(ends, now, figures), is_running & ~ends
    return figures.mean(1).tolist()


# of the original, 2,048 episodes each: mean return, length, share of wins; and the standard errors of return and length
RANDOM = {
    "2s3z": (0.2068, 53.68, 0.0, 0.0012, 0.20),
    "27m_vs_30m": (0.1943, 24.21, 0.0, 0.0007, 0.08),
    "smacv2_10_units": (0.2787, 36.96, 0.0, 0.0038, 0.28),
    "3s_vs_5z": (0.2174, 42.95, 0.0, 0.0019, 0.29),
}
GUIDED = {
    "2s3z": (1.4767, 71.87, 0.548, 0.0091, 0.23),
    "10m_vs_11m": (0.7203, 15.62, 0.024, 0.0049, 0.04),
    "6h_vs_8z": (0.5895, 25.42, 0.0, 0.0009, 0.04),
    "smacv2_5_units": (1.4277, 36.05, 0.549, 0.0142, 0.30),
    "smacv2_20_units": (1.4863, 45.34, 0.596, 0.0140, 0.30),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario, guided, expected",
    [*((name, False, row) for name, row in RANDOM.items()), *((name, True, row) for name, row in GUIDED.items())],
)
def test_play_returns_what_the_original_does(scenario, guided, expected):
    mean_return, length, wins, return_error, length_error = expected
    measured = returns_lengths_wins(scenario, guided, 2048)
    assert measured[0] == pytest.approx(mean_return, abs=4 * math.sqrt(2) * return_error)
    assert measured[1] == pytest.approx(length, abs=4 * math.sqrt(2) * length_error)
    assert measured[2] == pytest.approx(wins, abs=4 * math.sqrt(2 * 0.25 / 2048))


def test_starts_of_smacv2_are_mirrored_or_surrounded():
    env = envs.make("smax_smacv2_5_units", num_envs=4000, seed=1)
    env.reset()
    x, y = env.state.unit_positions.unbind(2)
    ally_y, enemy_y = y[:, :5], y[:, 5:]
    is_mirrored = ((ally_y - enemy_y).abs().amax(1) < 0.5) & ((x[:, :5] + x[:, 5:] - 32).abs().amax(1) < 0.5)
    reach = (env.state.unit_positions - 16).abs().amax(2)
    allies_inside, enemies_inside = (reach[:, team].amax(1) < 3 for team in (slice(5), slice(5, None)))
    assert (is_mirrored | allies_inside | enemies_inside).float().mean() > 0.97  # pushes may spoil the picture
    assert is_mirrored.float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert (allies_inside & ~is_mirrored).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (enemies_inside & ~is_mirrored).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(env.state.unit_types[:, :5], env.state.unit_types[:, 5:])
    share = torch.bincount(env.state.unit_types.flatten(), minlength=6) / env.state.unit_types.numel()
    assert (share - 1 / 6).abs().max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("action_type", ["discrete", "continuous"])
def test_compiled_steps_equal_plain_ones(action_type):
    """By torch.compile's own backend."""
    env = envs.make("smax_smacv2_5_units", num_envs=6, seed=2, action_type=action_type)
    ts = env.reset()
    transition = torch.compile(env.transition, fullgraph=True)
    perceive = torch.compile(env.perceive, fullgraph=True)
    for t in range(3):
        if action_type == "discrete":
            actions = (torch.rand(ts.action_mask.shape) * ts.action_mask).argmax(2)
        else:
            actions = torch.rand(6, 5, 4)
        state, reward, _, _ = transition(env.state, actions)
        views = perceive(state)
        ts = env.step(actions)
        torch.testing.assert_close(reward, ts.reward)
        torch.testing.assert_close(views[0], ts.final_obs, rtol=0, atol=1e-5, msg=f"step {t}")
        torch.testing.assert_close(views[1], ts.final_state, rtol=0, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["mappo", "maspo", "mars"])
def test_lessons_respect_the_masks_and_report_the_win_rate(algorithm, monkeypatch, tmp_path, capsys):
    """No forbidden action in collection or evaluation; the update's first log ratio is 0 only under the same masks."""
    step, taken = SMAX.step, []

    def checked_step(env, actions):
        is_allowed = env.observe().action_mask.gather(2, actions[..., None])
        assert is_allowed.all(), f"forbidden: environment, agent {(~is_allowed).nonzero()[0, :2].tolist()}"
        taken.append(actions.numel())
        return step(env, actions)

    monkeypatch.setattr(SMAX, "step", checked_step)
    lesson = importlib.import_module(f"torch_mars.algos.{algorithm}")
    settings = "--env smax_2s3z --num-envs 8 --rollout-length 64 --total-steps 1024 --hidden-size 16 --eval-episodes 2"
    assert lesson.main([*settings.split(), "--device", "cpu", "--run-dir", str(tmp_path)]) == 0
    assert sum(taken) > 2 * 64 * 8 * 5
    (path,) = tmp_path.rglob("metrics.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    updates, evaluations = ([r for r in records if r["kind"] == kind] for kind in ("update", "evaluation"))
    assert max(r["first_max_abs_log_ratio"] for r in updates) < 1e-4
    assert all(0 <= r["won"] <= 1 for r in updates if r["episodes"]) and any(r["episodes"] for r in updates)
    assert all(len(r["won"]) == 2 for r in evaluations) and evaluations
    assert re.search(r"final  [0-9.]+, won [0-9]+%", capsys.readouterr().out)


@pytest.mark.parametrize("scenario", ["2s3z", "27m_vs_30m", "smacv2_10_units"])
def test_a_picture_of_any_state(scenario):
    env = envs.make(f"smax_{scenario}", num_envs=2, seed=5)
    ts = env.reset()
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        ts = env.step((torch.rand(ts.action_mask.shape, generator=generator) * ts.action_mask).argmax(2))
    pictures = [env.draw(env.state, index) for index in range(2)]
    check(pictures)
    assert not np.array_equal(pictures[0], env.draw(env.state, 0, show_ranges=True))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scenario": "2s4z"}, "scenario is '2s4z'; did you mean 2s3z"),
        ({"max_steps": 0}, "max_steps is 0; it must be 1 or more"),
        ({"attack_mode": "nearest"}, "attack_mode is 'nearest'; allowed are 'closest' and 'random'"),
        ({"action_type": "box"}, "action_type is 'box'; allowed are 'discrete' and 'continuous'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        envs.make("smax_2s3z", **options)


@pytest.mark.parametrize("field, value", [("unit_types", NUM_TYPES), ("unit_types", -1), ("prev_attack_actions", 40)])
def test_situations_outside_the_tables_are_refused_and_change_nothing(field, value):
    env = envs.make("smax_2s3z", num_envs=2)
    env.reset()
    wrong = env.state_dict()[field]
    wrong[1, 3] = value
    with pytest.raises(ValueError, match=f"{field} holds {value}"):
        env.load_state({field: wrong})
    assert not torch.equal(env.state_dict()[field], wrong)
