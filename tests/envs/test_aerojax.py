"""AeroJAX from outside: cones and locks in placed situations, games, invariances. Flight: `test_aerojax_flight.py`."""

import math

import pytest
import torch

import torch_mars.envs as envs
from torch_mars.envs.aerojax import env as rules
from torch_mars.envs.aerojax import physics, task, vectors
from torch_mars.envs.aerojax.physics import motion_of
from torch_mars.envs.aerojax.task import (
    AIRCRAFT_FEATURES,
    COLLIDED,
    EGO,
    EGO_FEATURES,
    ENTITY_FEATURES,
    FLYING,
    GROUND,
    LEFT,
    SHOT,
    Entity,
)
from torch_mars.envs.core import fields_of


# that both forms do the same is for `test_aerojax_loops.py`
@pytest.fixture(params=["loops", pytest.param("tensors", marks=pytest.mark.slow)], autouse=True)
def form(request, monkeypatch):
    """Every rule holds in both forms."""
    monkeypatch.setattr("torch_mars.envs.aerojax.env.runs_in_loops", lambda tensor: request.param == "loops")
    return request.param


in_loops_only = pytest.mark.parametrize("form", ["loops"], indirect=True)  # in the other form the same, slowly


# ---- hand-placed situations ----


def place(task="aerojax_2v2", others=(5000.0, 5000.0, 100.0), **overrides):
    """An environment in which nobody sees anybody: level flight east, far apart, well inside a large arena."""
    env = envs.make(task, num_envs=1, half_size=20000.0, ceiling=9000.0, auto_reset=False, **overrides)
    env.reset(seed=0)
    A = env.num_aircraft
    position = torch.tensor([[[-8000.0 + 4000 * i, 5000.0 * (-1) ** i, 3000.0] for i in range(A)]])
    velocity = torch.tensor([120.0, 0.0, 0.0]).expand(1, A, 3)
    env.load_state({"position": position, "velocity": velocity, "detected": torch.zeros(1, A, A)})
    return env


def put(env, field, index, value):
    tensor = getattr(env.state, field).clone()
    tensor[(0, *index) if isinstance(index, tuple) else (0, index)] = torch.as_tensor(value, dtype=tensor.dtype)
    env.load_state({field: tensor})


TRIM = torch.zeros(1, 2, 3) + torch.tensor([0.0, 0.0, 2 * physics.trim(1.0, task.Options())[1] - 1])
OWN = torch.tensor([0.0, 0.0, 3000.0])


def sees(env, offset, bank_deg=0.0, climb_deg=0.0):
    """Of enemy 2 at an offset (forward, right, up of level flight east): times detected of 20, in the weapon cone."""
    bank, climb = math.radians(bank_deg), math.radians(climb_deg)
    forward, right, up = offset
    put(env, "position", 0, OWN)
    put(env, "position", 2, OWN + torch.tensor([forward, -right, up]))
    put(env, "velocity", 0, [120 * math.cos(climb), 0.0, 120 * math.sin(climb)])
    put(env, "lift_dir", 0, [-math.sin(climb) * math.cos(bank), -math.sin(bank), math.cos(climb) * math.cos(bank)])
    put(env, "alpha", 0, 0.0)
    geometry = env._geometry(motion_of(env.state))
    hits = 0
    for _ in range(20):
        detected, in_weapon, rng = env._sense(env.state.rng, geometry, env.state.status == FLYING)
        env.load_state({"rng": rng})
        hits += int(detected[0, 0, 2])
    return hits, bool(in_weapon[0, 0, 2])


@pytest.mark.parametrize(
    "offset, bank, climb, in_weapon",
    [
        ((500, 0, 0), 0, 0, True),
        ((599, 0, 0), 0, 0, True),
        ((601, 0, 0), 0, 0, False),  # too far
        ((-500, 0, 0), 0, 0, False),  # behind
        ((400, 400 * math.tan(math.radians(29)), 0), 0, 0, True),  # the weapon is 60 degrees wide ...
        ((400, 400 * math.tan(math.radians(31)), 0), 0, 0, False),
        ((400, 0, 400 * math.tan(math.radians(19))), 0, 0, True),  # ... and 40 high
        ((400, 0, 400 * math.tan(math.radians(21))), 0, 0, False),
        ((400, 0, -400 * math.tan(math.radians(21))), 0, 0, False),
        ((400, 0, 400 * math.tan(math.radians(25))), 90, 0, True),  # banked, its width stands upright
        ((400, 400 * math.tan(math.radians(25)), 0), 90, 0, False),
        ((0, 0, 500), 0, 0, False),
        ((0, 0, 500), 0, 90, True),  # climbing vertically it looks up
    ],
)
def test_the_weapon_cone_turns_with_roll_and_pitch(offset, bank, climb, in_weapon):
    env = place()
    hits, is_in = sees(env, offset, bank, climb)
    assert is_in == in_weapon
    if in_weapon:
        assert hits == 20  # the weapon cone always detects


@pytest.mark.parametrize(
    "offset, certain",
    [((-390, 0, 0), True), ((-410, 0, 0), False), ((0, 0, 399), True), ((1300, 0, 0), False)],
)
def test_the_very_close_is_always_seen_and_the_far_or_hidden_never(offset, certain):
    assert sees(place(), offset)[0] == (20 if certain else 0)


def test_cones_look_along_the_nose_not_the_path():
    env = place()
    offset = (400, 0, 400 * math.tan(math.radians(30)))
    assert not sees(env, offset)[1]
    put(env, "alpha", 0, math.radians(20))  # the nose 20 degrees above the path
    _, in_weapon, _ = env._sense(env.state.rng, env._geometry(motion_of(env.state)), env.state.status == FLYING)
    assert in_weapon[0, 0, 2]


def test_detection_is_random_with_distance():
    """1 - (d / R)^2, for the default type at 900 of 1200 m and the far-sighted at 900 of 1697 m."""
    for kind, expected in ((0, 1 - 0.75**2), (2, 1 - 0.75**2 / 2)):
        count = 20_000
        env = envs.make("aerojax_2v2", num_envs=count, ally_types=(kind, 0))
        env.reset()
        position = torch.zeros(count, 4, 3) + torch.tensor([0.0, 0.0, 1500.0])
        position[:, 1, 1], position[:, 3, 1] = 1900.0, -1900.0
        position[:, 2, 0] = 900.0
        level = torch.tensor([120.0, 0.0, 0.0]).expand(count, 4, 3)
        env.load_state({"position": position, "velocity": level, "alpha": torch.zeros(count, 4)})
        detected, _, _ = env._sense(env.state.rng, env._geometry(motion_of(env.state)), env.state.status == FLYING)
        share = detected[:, 0, 2].float().mean().item()
        assert share == pytest.approx(expected, abs=5 * (expected * (1 - expected) / count) ** 0.5)


def test_allies_tell_one_another_within_range_one_hop():
    env = place("aerojax_3v3")
    put(env, "detected", (2, 4), True)  # ally 2 sees enemy 4
    enemies = slice(EGO_FEATURES, EGO_FEATURES + ENTITY_FEATURES * 3)

    def known(ally, distance_01, distance_12):
        put(env, "position", 0, [0.0, 0.0, 3000.0])
        put(env, "position", 1, [0.0, distance_01, 3000.0])
        put(env, "position", 2, [0.0, distance_01 + distance_12, 3000.0])
        return int((Entity(*env.observe().obs[0, ally, enemies].view(3, -1).T).team == -1).sum())

    assert known(1, 1500.0, 1900.0) == 1
    assert known(1, 1500.0, 2100.0) == 0
    assert known(0, 1500.0, 1900.0) == 0  # no second hop
    assert known(2, 1500.0, 1900.0) == 1
    put(env, "status", 2, SHOT)
    assert known(1, 1500.0, 1900.0) == 0  # the dead say nothing


def test_entities_come_nearest_first_in_the_ego_frame():
    env = place("aerojax_3v3")
    put(env, "position", 0, OWN)
    for enemy, forward in ((3, 900.0), (4, 300.0), (5, 600.0)):
        put(env, "position", enemy, OWN + torch.tensor([forward, -100.0, 50.0]))
        put(env, "detected", (0, enemy), True)
    put(env, "alpha", 0, 0.0)
    put(env, "lock_steps", (0, 5), 5)
    enemies, allies = env.observe().obs[0, 0, EGO_FEATURES:].split([ENTITY_FEATURES * 3, ENTITY_FEATURES * 2])
    seen = Entity(*enemies.view(3, -1).T)
    assert seen.team.tolist() == [-1] * 3
    assert seen.ahead.tolist() == pytest.approx([300 / 1200, 600 / 1200, 900 / 1200])
    assert seen.right.tolist() == pytest.approx([100 / 1200] * 3)
    assert seen.up.tolist() == pytest.approx([50 / 1200] * 3)
    assert seen.flies_ahead.tolist() == pytest.approx([1.0] * 3)  # it flies my way
    assert seen.lock.tolist() == pytest.approx([0, 0.5, 0])
    assert (allies == 0).all()  # none within range


def chase(env, shooters=(0,)):
    """Enemy 2 flies straight on, the shooters right behind it; enemy 3 far away."""
    put(env, "position", 2, OWN + torch.tensor([300.0, 0.0, 0.0]))
    for k in shooters:
        put(env, "position", k, OWN + torch.tensor([0.0, 30.0 * k, 0.0]))


def test_ten_unbroken_steps_shoot_one_aircraft_down_and_eight_with_two():
    for shooters, steps, healths in (((0,), 10, {3: 1.0, 4: 0.962, 9: 0.172}), ((0, 1), 8, {})):
        env = place(opponent="passive")
        chase(env, shooters)
        for t in range(1, steps + 1):
            ts = env.step(TRIM)
            if t in healths:
                assert env.state.health[0, 2].item() == pytest.approx(healths[t], abs=1e-5)
            assert env.state.lock_steps[0, 0, 2] == (t if t < steps else 0)
            assert ts.info["kills"].item() == (t == steps)
            if 4 <= t < steps:
                assert env.state.under_fire[0].tolist() == [False, False, True, False]
        assert env.state.status[0].tolist() == [FLYING, FLYING, SHOT, FLYING]
        assert env.state.health[0, 2] == 0 and not env.state.under_fire[0, 2]
        assert ts.reward[0].tolist() == pytest.approx([0.5, 0.5])


def test_losing_the_cone_resets_the_lock_and_health_heals():
    env = place(opponent="passive")
    chase(env)
    for _ in range(6):
        env.step(TRIM)
    put(env, "position", 0, [-8000.0, 0.0, 3000.0])
    before = env.state.health[0, 2].item()
    env.step(TRIM)
    assert env.state.lock_steps[0, 0, 2] == 0
    assert env.state.health[0, 2].item() == pytest.approx(before + 0.002, abs=1e-6)


def test_two_aircraft_can_shoot_each_other_down():
    env = place(opponent="passive", collision_range=1.0)
    put(env, "position", 0, OWN)
    put(env, "position", 2, OWN + torch.tensor([560.0, 0.0, 0.0]))
    put(env, "velocity", 2, [-120.0, 0.0, 0.0])
    put(env, "lock_steps", (0, 2), 9)
    put(env, "lock_steps", (2, 0), 9)
    put(env, "health", 0, 0.1)
    put(env, "health", 2, 0.1)
    ts = env.step(TRIM)
    assert env.state.status[0].tolist() == [SHOT, FLYING, SHOT, FLYING]
    assert ts.info["kills"].item() == ts.info["losses"].item() == 1
    assert ts.reward[0, 0].item() == pytest.approx(1 / 2 - 0.25 / 2)
    assert not env.state.detected[0, 0].any() and not env.state.detected[0, :, 0].any()
    assert (ts.obs[0, 0] == 0).all() and (ts.state[0, :AIRCRAFT_FEATURES] == 0).all() and (ts.obs[0, 1] != 0).any()


def test_ground_arena_ceiling_and_collision():
    for index, position, velocity, status in (
        (0, [0.0, 0.0, 10.0], [80.0, 0.0, -80.0], GROUND),
        (1, [19990.0, 0.0, 3000.0], [120.0, 0.0, 0.0], LEFT),
        (0, [0.0, -19990.0, 3000.0], [0.0, -120.0, 0.0], LEFT),
        (1, [0.0, 0.0, 8995.0], [80.0, 0.0, 80.0], LEFT),
        (0, [19990.0, 0.0, 1.0], [120.0, 0.0, -60.0], GROUND),  # the ground is looked at first
    ):
        env = place(opponent="passive")
        put(env, "position", index, position)
        put(env, "velocity", index, velocity)
        speed = math.hypot(*velocity)
        up = [-velocity[2] * velocity[0] / speed, -velocity[2] * velocity[1] / speed, speed - velocity[2] ** 2 / speed]
        put(env, "lift_dir", index, torch.tensor(up) / torch.tensor(up).norm())
        ts = env.step(TRIM)
        assert env.state.status[0, index] == status
        assert ts.reward[0, 0].item() == pytest.approx(-0.125)
        frozen = {name: tensor[0, index].clone() for name, tensor in fields_of(env.state).items() if tensor.dim() > 2}
        env.step(TRIM)
        assert all(torch.equal(getattr(env.state, name)[0, index], value) for name, value in frozen.items())


def test_crossing_paths_collide_between_steps():
    env = place(opponent="passive")
    put(env, "position", 0, OWN)
    put(env, "position", 1, OWN + torch.tensor([24.0, 12.0, 0.0]))
    put(env, "velocity", 1, [-120.0, 0.0, 0.0])  # they pass within the step at 12 m
    env.step(TRIM)
    assert env.state.status[0].tolist() == [COLLIDED, COLLIDED, FLYING, FLYING]
    env = place(opponent="passive")
    put(env, "position", 0, OWN)
    put(env, "position", 1, OWN + torch.tensor([24.0, 18.0, 0.0]))
    put(env, "velocity", 1, [-120.0, 0.0, 0.0])
    env.step(TRIM)
    assert (env.state.status == FLYING).all()


@pytest.mark.parametrize(
    "lost, won, result, reward",
    [
        ((2, 3), True, "won", 2.0),
        ((0, 1), True, "lost", -0.25),
        ((0, 1, 2, 3), True, "draw", 0.75),
        ((3,), False, None, 0.5),
    ],
)
def test_ends_by_elimination(lost, won, result, reward):
    env = place(opponent="passive")
    for k in lost:
        put(env, "position", k, [0.0, 25000.0 + 100 * k, 3000.0])
    ts = env.step(TRIM)
    assert ts.terminated.item() == won and not ts.truncated.item()
    assert ts.reward[0].tolist() == pytest.approx([reward] * 2)
    assert [name for name in ("won", "lost", "draw") if ts.info[name].item()] == ([result] if result else [])


@pytest.mark.parametrize("lost, result, reward", [((), "draw", 0.0), ((3,), "won", 1.5), ((0,), "lost", -0.125)])
def test_ends_by_time_pay_the_win_too(lost, result, reward):
    env = place(opponent="passive")
    env.load_state({"step": [499]})
    for k in lost:
        put(env, "position", k, [0.0, 25000.0, 3000.0])
    ts = env.step(TRIM)
    assert ts.truncated.item() and not ts.terminated.item()
    assert ts.info[result].item() and ts.reward[0, 0].item() == pytest.approx(reward)


def test_actions_may_be_anything():
    env = place(opponent="passive")
    wild, tame = env.state_dict(), TRIM.clone()
    tame[0, 0], tame[0, 1] = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([0.0, 1.0, -1.0])
    env.step(tame)
    expected = env.state_dict()
    env.load_state(wild)
    inf, nan = math.inf, math.nan
    env.step(torch.tensor([[[inf, -inf, nan], [nan, 7.0, -3.0]]]))
    assert all(torch.equal(expected[name], value) for name, value in env.state_dict().items())


# ---- invariances ----


def moved(state, angle, shift):
    """Everything turned about the vertical and shifted level."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    fields = {name: value @ turn for name, value in state.items() if name in ("position", "velocity", "lift_dir")}
    fields["position"] = fields["position"] + torch.tensor([*shift, 0.0])
    return {**state, **fields}


def fight(task="aerojax_5v5", num_envs=8, steps=40, **overrides):
    env = envs.make(task, num_envs=num_envs, seed=4, auto_reset=False, **overrides)
    env.reset()
    for _ in range(steps):
        env.step(env.heuristic_actions())
    return env


def test_a_fight_looks_the_same_wherever_and_whichever_way_it_goes():
    """In an arena without near walls; only the four wall distances may differ."""
    env = fight(half_size=1e6, steps=0)
    env.load_state({"position": env.state.position / 500})  # starts scale with the arena
    env.load_state({"position": env.state.position + torch.tensor([0.0, 0.0, 1500.0])})
    other = fight(half_size=1e6, steps=0)
    other.load_state(moved(env.state_dict(), 1.1, (300.0, -700.0)))
    generator = torch.Generator().manual_seed(0)
    kept = [i for i in range(env.observation_size) if not (i < EGO_FEATURES and EGO[i].startswith("wall_"))]
    for t in range(6):
        actions = torch.rand(8, 5, 3, generator=generator) * 2 - 1
        left, right = env.step(actions), other.step(actions)
        torch.testing.assert_close(left.obs[..., kept], right.obs[..., kept], atol=2e-3, rtol=1e-3, msg=f"step {t}")


@pytest.mark.parametrize("form", ["loops", "tensors"], indirect=True)
@pytest.mark.parametrize("gap, sine", [(0.1, 5e-5), (0.02, 1e-5), (0.5, 2e-4), (20.0, 1e-2)])
def test_a_wall_alongside_is_as_far_as_it_is(form, gap, sine):
    """Where the way ahead nearly keeps to the wall, a rounded place is many metres off."""
    env = fight(num_envs=1, steps=0)
    half = env.options.half_size
    position, velocity = env.state.position.clone(), env.state.velocity.clone()
    position[0, 0] = torch.tensor([half - gap, 0.0, 1500.0])
    velocity[0, 0] = 120 * torch.tensor([sine, math.sqrt(1 - sine**2), 0.0])
    env.load_state({"position": position, "velocity": velocity})
    x, dx, dy = (value.double().item() for value in (position[0, 0, 0], *velocity[0, 0, :2] / 120))
    expected = min((half - x) / dx, half / dy) / half
    found = env.observe().obs[0, 0, EGO.index("wall_ahead")].item()
    assert found == pytest.approx(expected, abs=1e-5)


@in_loops_only
@pytest.mark.parametrize("skill", [math.nan, -1, 7, "a", True])
def test_the_pilot_s_skill_is_a_share(form, skill):
    with pytest.raises(ValueError, match="skill is .*; it must be a number from 0 to 1"):
        fight(num_envs=1, steps=0).heuristic_actions(skill)


def test_agents_may_be_renumbered():
    env = fight(num_envs=16)
    order = torch.tensor([3, 0, 4, 1, 2])
    whole = torch.cat([order, torch.arange(5, 10)])
    renumbered = {}
    for name, value in env.state_dict().items():
        if name in ("rng", "step", "totals"):
            renumbered[name] = value
        else:
            renumbered[name] = value[:, whole][:, :, whole] if name in ("lock_steps", "detected") else value[:, whole]
    other = fight(num_envs=16, steps=0)
    other.load_state(renumbered)
    torch.testing.assert_close(other.observe().obs, env.observe().obs[:, order], atol=1e-5, rtol=1e-5)
    # the allies' controls follow, but for who climbs when two friends dodge one another
    left, right = env.heuristic_actions(), other.heuristic_actions()
    same = (left[:, order] - right).abs().amax(2) < 1e-3
    assert same.float().mean() > 0.95


def test_the_dead_have_no_influence():
    env = fight(num_envs=4)
    status = env.state.status.clone()
    status[:, 1] = status[:, 7] = SHOT
    env.load_state({"status": status})
    before = env.heuristic_actions()[:, [0, 2, 3, 4]], env.observe().obs
    position = env.state.position.clone()
    position[:, 1] = position[:, 0] + 5
    position[:, 7] = position[:, 2] + 5
    env.load_state({"position": position})
    assert torch.equal(env.heuristic_actions()[:, [0, 2, 3, 4]], before[0])
    assert torch.equal(env.observe().obs, before[1])


# ---- games ----


def play(env, policy, steps=500):
    """Totals of the first episode of every environment."""
    env.reset()
    is_over = torch.zeros(env.num_envs, dtype=torch.bool)
    names = ("won", "lost", "draw", "episode_kills", "episode_losses", "episode_ally_ground", "episode_length")
    totals = {name: torch.zeros(env.num_envs) for name in (*names, "episode_return")}
    for _ in range(steps):
        ts = env.step(policy(env))
        ends = (ts.terminated | ts.truncated) & ~is_over
        for name, values in totals.items():
            values.copy_(torch.where(ends, ts.info[name].float(), values))
        is_over |= ends
        if is_over.all():
            break
    assert is_over.all()
    return {name: values.mean().item() for name, values in totals.items()}


@in_loops_only
def test_pilot_against_pilot_is_balanced_and_decided_by_shots():
    env = envs.make("aerojax_2v2", num_envs=256, seed=0)
    result = play(env, lambda env: env.heuristic_actions())
    assert result["won"] == pytest.approx(result["lost"], abs=4 * (0.9 / 256) ** 0.5)
    assert result["won"] == pytest.approx(0.455, abs=4 * 0.031) and result["draw"] < 0.25
    assert result["episode_kills"] == pytest.approx(1.42, abs=0.2)
    assert result["episode_ally_ground"] < 0.02
    assert result["episode_length"] == pytest.approx(152, abs=20)


def test_random_play_loses():
    env = envs.make("aerojax_2v2", num_envs=128, seed=0)
    generator = torch.Generator().manual_seed(0)
    result = play(env, lambda env: torch.rand(128, 2, 3, generator=generator) * 2 - 1)
    assert result["lost"] > 0.98 and result["episode_kills"] == pytest.approx(0.04, abs=0.08)
    assert result["episode_return"] == pytest.approx(-0.23, abs=0.05)


@in_loops_only
def test_a_better_pilot_wins_and_a_passive_one_only_flies():
    env = envs.make("aerojax_2v2", num_envs=128, seed=0)
    assert play(env, lambda env: env.heuristic_actions(1.0))["won"] > 0.6
    passive = envs.make("aerojax_2v2", num_envs=16, seed=0, opponent="passive", auto_reset=False)
    passive.reset()
    circling = TRIM.expand(16, 2, 3)
    for _ in range(200):
        ts = passive.step(circling)
    assert ts.info["enemies_alive"].float().mean() == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "task, games, won, lost, length",
    [
        ("aerojax_2v2", 512, 0.455, 0.420, 152),
        ("aerojax_3v3", 512, 0.455, 0.490, 147),
        ("aerojax_5v5", 256, 0.484, 0.484, 128),
        ("aerojax_8v8", 192, 0.526, 0.427, 140),
        ("aerojax_5v5_mixed", 128, 0.484, 0.500, 180),
    ],
)
def test_games_of_every_size_end_as_in_the_prototype(task, games, won, lost, length):
    result = play(envs.make(task, num_envs=games, seed=1), lambda env: env.heuristic_actions())
    error = 4 * (2 * 0.25 / games) ** 0.5  # of the difference of two shares
    assert result["won"] == pytest.approx(won, abs=error) and result["lost"] == pytest.approx(lost, abs=error)
    assert result["episode_length"] == pytest.approx(length, rel=0.12)


@pytest.mark.parametrize("steps", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_extreme_actions_never_give_nan(steps):
    env = envs.make("aerojax_3v3", num_envs=64, seed=0)
    env.reset()
    generator = torch.Generator().manual_seed(0)
    for t in range(steps):
        ts = env.step((torch.randint(0, 3, (64, 3, 3), generator=generator) - 1).float())
        for tensor in (ts.obs, ts.state, ts.reward, ts.final_obs):
            assert tensor.isfinite().all(), t
        for name, tensor in fields_of(env.state).items():
            assert tensor.isfinite().all(), (t, name)
        assert (env.state.velocity.norm(dim=2) > 19.9).all()
        assert (vectors.dot(vectors.split(env.state.velocity), vectors.split(env.state.lift_dir)).abs() < 0.05).all()


# ---- options and pictures ----


@in_loops_only
@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"n_allies": 0}, "n_allies is 0; it must be 1 or more"),
        ({"ally_types": (0, 9)}, "ally_types is .*; it must be 2 numbers from 0 to 4"),
        ({"opponent": "angry"}, "opponent is 'angry'; allowed are 'heuristic' and 'passive'"),
        ({"opponent_skill": 2}, "opponent_skill is 2; it must be between 0 and 1"),
        ({"view_h": 200.0}, "view_h is 200.0; it must be more than 0 and less than 180 degrees"),
        *(({name: 0.0}, f"{name} is 0.0; it must be more than 0") for name in ("cl_alpha", "max_thrust", "n_max")),
        ({"alpha_min": 30.0}, "alpha_min is 30.0; it must be at most alpha_max, which is 24.0"),
        ({"weapon_rnge": 3}, "unknown option 'weapon_rnge'; did you mean weapon_range"),
        *(({name: 3}, f"unknown option '{name}'") for name in ("gain_turn", "v_cruise", "avoid_max", "GAIN_TURN")),
    ],
)
def test_bad_options_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        envs.make("aerojax_2v2", **overrides)


@in_loops_only
@pytest.mark.parametrize(
    "task, O, S", [("2v2", 54, 61), ("3v3", 78, 91), ("5v5", 126, 151), ("8v8", 198, 241), ("16v16", 198, 481)]
)
def test_sizes_are_those_of_the_specification(task, O, S):  # noqa: E741
    env = envs.make(f"aerojax_{task}")
    assert (env.observation_size, env.state_size) == (O, S)
    assert envs.make("aerojax_2v2", n_enemies=1, n_allies=1).reset().obs.shape == (1, 1, 30)


@in_loops_only
@pytest.mark.parametrize("names, count", [(task.EGO, 18), (task.ENTITY, 12), (task.AIRCRAFT, 15)])
def test_every_number_that_is_seen_has_a_name_and_an_explanation(names, count):
    assert len(set(names)) == len(names) == count
    assert not [name for name in names if f"`{name}`" not in rules.__doc__]


def test_numbers_of_a_start_stand_where_their_names_say():
    env = envs.make("aerojax_5v5_mixed", seed=2)
    ts = env.reset()
    ego = task.Ego(*ts.obs[0, 0, :EGO_FEATURES].tolist())
    aircraft = task.Aircraft(*ts.state[0, :AIRCRAFT_FEATURES].tolist())
    position, velocity = env.state.position[0, 0].tolist(), env.state.velocity[0, 0].tolist()
    assert (ego.alive, ego.health, ego.time_left, ego.under_fire, ego.type) == (1, 1, 1, 0, 0.25)
    assert (ego.height, ego.speed) == pytest.approx((position[2] / 3000, 1.2))
    assert (ego.climb, ego.right_wing_down) == pytest.approx((0, 0), abs=1e-6) and ego.upright > 0.99
    assert ego.nose_up == pytest.approx(math.sin(env.state.alpha[0, 0]), abs=1e-6)
    assert ego.wall_ahead > 1 > ego.wall_behind  # in the west, flying east
    assert (aircraft.x, aircraft.y, aircraft.z) == pytest.approx((position[0] / 2000, position[1] / 2000, ego.height))
    seen = (aircraft.velocity_x, aircraft.velocity_y, aircraft.velocity_z)
    assert seen == pytest.approx([v / 100 for v in velocity], abs=1e-6)
    assert (aircraft.lift_x, aircraft.lift_y, aircraft.lift_z) == (0, 0, 1)
    same = ("alive", "alpha", "throttle", "health", "type")
    assert [getattr(aircraft, name) for name in same] == [getattr(ego, name) for name in same]


@in_loops_only
def test_a_picture_with_trails():
    env = envs.make("aerojax_8v8", num_envs=2, seed=3, auto_reset=False)
    env.reset()
    trail = []
    for _ in range(60):
        trail.append(env.state)
        env.step(env.heuristic_actions())
    plain, trails = env.draw(env.state, 1), env.draw(env.state, 1, trail)
    assert plain.shape == trails.shape and plain.shape[0] >= 512 and plain.dtype == "uint8"
    assert (plain != trails).any() and (plain != env.draw(env.state, 0)).any()


def test_a_team_without_radio_and_weapons_flies_on_and_is_drawn():
    env = envs.make("aerojax_2v2", seed=1, comm_range=0, weapon_range=0)
    ts = env.reset()
    for _ in range(5):
        ts = env.step(env.heuristic_actions())
    assert ts.obs.isfinite().all() and env.draw_observation(ts.obs[0, 0], 0).dtype == "uint8"
