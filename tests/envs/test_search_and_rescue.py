"""Search & Rescue's rules in situations put in place by hand, its numbers in whole episodes, its pictures."""

import math

import numpy as np
import pytest
import torch
from record_search_and_rescue import seeking

import torch_mars.envs as envs
from torch_mars.envs.search_and_rescue.env import SearchAndRescue
from torch_mars.envs.search_and_rescue.task import other_task

V = 128
CHANNELS = {"searchers": slice(0, V), "found": slice(V, 2 * V), "missing": slice(2 * V, 3 * V)}
SPACING = 0.8 * math.pi / (V - 1)  # rad between rays
AWAY = (0.5, 0.05)  # far from everything that the tests look at


@pytest.fixture(params=["loops", "tensors"], autouse=True)
def form(request, monkeypatch):
    """Every rule holds in both forms."""
    name = "torch_mars.envs.search_and_rescue.env.runs_in_loops"
    monkeypatch.setattr(name, lambda tensor: request.param == "loops")
    return request.param


in_loops_only = pytest.mark.parametrize("form", ["loops"], indirect=True)  # in the other form the same numbers, slowly


def situation(searchers, targets, found=(), velocities=None, step=0, speed=0.005, **options):
    """An environment with searchers (x, y, heading) and targets (x, y), which fly straight on."""
    size = f"{len(searchers)}x{len(targets)}"
    env = envs.make(f"search_and_rescue_{size}", auto_reset=False, **{"target_acc_std": 0.0, **options})
    searchers = torch.tensor(searchers, dtype=torch.float32)
    fields = {
        "searcher_pos": searchers[:, :2],
        "searcher_heading": searchers[:, 2],
        "searcher_speed": torch.full((len(searchers),), speed),
        "target_pos": torch.tensor(targets),
        "target_vel": torch.zeros(len(targets), 2) if velocities is None else torch.tensor(velocities),
        "target_found": torch.tensor([j in found for j in range(len(targets))]),
        "step": torch.tensor(step),
    }
    env.load_state({name: value[None] for name, value in fields.items()})
    return env


def standing(*args, **options):
    """A situation in which searchers stay where they are."""
    return situation(*args, **{"searcher_min_speed": 0.0, "speed": 0.0, **options})


def straight_on(env):
    return torch.zeros(env.num_envs, env.num_agents, 2)


def lit(obs, channel):
    """Runs of rays that read the same, [first, last, reading], of one searcher's obs."""
    runs = []
    for k, reading in enumerate(obs[CHANNELS[channel]].tolist()):
        if runs and runs[-1][1] == k - 1 and runs[-1][2] == reading:
            runs[-1][1] = k
        elif reading != -1:
            runs.append([k, k, reading])
    return runs


def assert_lit(obs, channel, expected):
    runs = lit(obs, channel)
    assert [run[:2] for run in runs] == [list(run[:2]) for run in expected], (channel, runs)
    assert [run[2] for run in runs] == pytest.approx([run[2] for run in expected], abs=1e-6)


# ---- the specification's example, computed with the original ----


def test_the_worked_example():
    env = situation(
        [(0.98, 0.5, 0.1), (0.03, 0.515, 3.0)],
        [(0.006, 0.508), (0.05, 0.45), (0.94, 0.56)],
        found=[2],
        velocities=[(0.003, -0.004), (0.0005, 0), (0, 0)],
        step=99,
    )
    env.load_state({"searcher_speed": [[0.012, 0.019]]})
    obs = env.observe().obs[0]
    for searcher, channel, expected in (
        (0, "searchers", [(36, 72, 0.1305037)]),
        (0, "found", []),
        (0, "missing", [(22, 85, 0.2720291), (89, 111, 0.8602326)]),
        (1, "searchers", [(24, 60, 0.1305037)]),
        (1, "found", []),
        (1, "missing", [(8, 76, 0.2499999)]),
    ):
        assert_lit(obs[searcher], channel, expected)

    ts = env.step(torch.tensor([[[0.5, 1.0], [-2.0, 0.7]]]))
    state = env.state
    for field, expected in (
        (state.searcher_pos, [[0.9949780, 0.5080411], [0.0179951, 0.5309963]]),
        (state.searcher_heading, [0.4926991, 2.2146018]),
        (state.searcher_speed, [0.017, 0.02]),
        (state.target_pos, [[0.0072, 0.5064], [0.0505, 0.45], [0.94, 0.56]]),
        (state.target_vel, [[0.0012, -0.0016], [0.0005, 0], [0, 0]]),
    ):
        np.testing.assert_allclose(field[0], expected, rtol=0, atol=2e-7)
    assert state.target_found[0].tolist() == [True, False, True] and state.step.item() == 100
    assert ts.reward[0].tolist() == pytest.approx([0.7525, 0.0], abs=1e-7)
    for searcher, channel, expected in (
        (0, "searchers", [(21, 76, 0.0812685)]),
        (0, "found", [(44, 127, 0.1233168)]),
        (0, "missing", [(117, 127, 0.8032096)]),
        (1, "searchers", [(0, 4, 0.0812685)]),
        (1, "found", [(23, 46, 0.8321329)]),
        (1, "missing", []),
    ):
        assert_lit(ts.obs[0, searcher], channel, expected)
    np.testing.assert_allclose(ts.obs[0, :, 3 * V :], [[1 / 3, 0.25]] * 2, atol=1e-7)
    assert torch.equal(ts.state, ts.obs.flatten(1)) and ts.state.shape == (1, 2 * 386)
    assert ts.info["targets_found"].item() == 2 and ts.info["found_fraction"].item() == pytest.approx(2 / 3)


# ---- what is seen ----


@pytest.mark.parametrize("heading", [0.0, 1.0, 2.5, 4.0, 6.2])
@pytest.mark.parametrize("turn", [-1.0, -0.3, 0.5, 1.1])  # of the target, from the heading, counterclockwise
def test_what_is_on_the_left_is_seen_by_the_first_rays(heading, turn):
    direction = heading + turn
    env = standing([(0.5, 0.5, heading)], [(0.5 + 0.06 * math.cos(direction), 0.5 + 0.06 * math.sin(direction))])
    ((first, last, reading),) = lit(env.observe().obs[0, 0], "missing")
    half = math.atan2(0.02, 0.06)
    rays = np.linspace(-0.4 * math.pi, 0.4 * math.pi, V)
    expected = np.flatnonzero((rays > -turn - half) & (rays < -turn + half))
    assert [first, last] == [expected[0], expected[-1]]
    assert reading == pytest.approx(0.6, abs=1e-5)


@pytest.mark.parametrize("heading, rays", [(0.0, []), (1.0, [[0, 34, 0.0]]), (3.0, [[0, 127, 0.0]])])
def test_what_is_at_one_s_own_place_lies_in_direction_pi(heading, rays):
    """As Jumanji 1.1.2 has it; the specification's trap 9 says 0."""
    env = standing([(0.3, 0.6, heading), (0.3, 0.6, heading)], [AWAY])
    for obs in env.observe().obs[0]:
        assert lit(obs, "searchers") == rays


def test_searchers_are_seen_at_four_times_the_range_of_targets():
    for distance, sees_searcher, sees_target in ((0.09, True, True), (0.11, True, False), (0.41, False, False)):
        env = standing([(0.1, 0.5, 0.0), (0.1 + distance, 0.5, 0.0)], [(0.1 + distance, 0.5)])
        first, second = env.observe().obs[0]
        assert len(lit(first, "searchers")) == sees_searcher and len(lit(first, "missing")) == sees_target
        assert not lit(second, "searchers"), "what is behind is not seen, nor does a searcher see itself"
        if sees_searcher:
            assert lit(first, "searchers")[0][2] == pytest.approx(distance / 0.4, abs=1e-6)


def test_the_range_is_inclusive_and_reads_at_most_1():
    env = standing([(0.25, 0.5, 0.0)], [(0.5, 0.5), AWAY], target_vision_range=0.25)
    assert lit(env.observe().obs[0, 0], "missing")[0][2] == 1.0
    # in single precision, the square of the next number after this range is that of the range
    just_beyond = np.nextafter(np.float32(0.355), np.float32(1))
    env = standing([(0.0, 0.5, 0.0)], [(just_beyond, 0.5), AWAY], target_vision_range=0.355)
    assert lit(env.observe().obs[0, 0], "missing")[0][2] == 1.0


def test_channels_hide_nothing_of_each_other_and_the_nearest_of_a_channel_shows():
    env = standing([(0.5, 0.5, 0.0), (0.53, 0.5, 0.0)], [(0.55, 0.5), (0.57, 0.5), (0.58, 0.5), AWAY], found=[1])
    obs = env.observe().obs[0, 0]
    middle = V // 2
    assert obs[middle].item() == pytest.approx(0.03 / 0.4, abs=1e-6)
    assert obs[V + middle].item() == pytest.approx(0.7, abs=1e-5)
    assert obs[2 * V + middle].item() == pytest.approx(0.5, abs=1e-5), "not the one behind, at 0.8"


def test_a_rim_in_the_cone_is_seen_though_the_centre_is_outside():
    """At 80 degrees to the right, 8 beyond the cone, 18 wide: the last rays; not found at the distance of a find."""
    angle = math.radians(-80)
    place = (0.5 + 0.06 * math.cos(angle), 0.5 + 0.06 * math.sin(angle))
    ((first, last, _),) = lit(standing([(0.5, 0.5, 0.0)], [place, AWAY]).observe().obs[0, 0], "missing")
    assert last == V - 1 and first > 100
    near = (0.5 + 0.015 * math.cos(angle), 0.5 + 0.015 * math.sin(angle))
    env = standing([(0.5, 0.5, 0.0)], [near, AWAY])
    assert lit(env.observe().obs[0, 0], "missing") and env.step(straight_on(env)).reward.item() == 0


@pytest.mark.parametrize("place", [(0.02, 0.5), (0.98, 0.5), (0.5, 0.01), (0.5, 0.99), (0.01, 0.99), (1.0, 1.0)])
def test_views_and_finds_reach_across_the_edges(place):
    """The same as in the middle, moved."""
    x, y = place
    around = [(0.03, 0.02), (0.01, 0.005), (-0.05, 0.03), (-0.03, -0.03)]

    def beside(x, y):
        env = standing([(x, y, 0.7)], [((x + dx) % 1, (y + dy) % 1) for dx, dy in around])
        return env.observe().obs, env.step(straight_on(env))

    (seen, ts), (expected, expected_ts) = beside(x, y), beside(0.4, 0.6)
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)
    assert torch.equal(ts.reward, expected_ts.reward) and ts.reward.item() == 1


def test_nobody_minds_being_at_one_place():
    for heading, is_ahead in ((0.3, False), (6.0, False), (3.0, True)):
        env = standing([(0.5, 0.5, heading), (0.5, 0.5, heading)], [(0.5, 0.5), AWAY])
        ts = env.observe()
        assert ts.obs.isfinite().all() and bool(lit(ts.obs[0, 0], "missing")) == is_ahead
        ts = env.step(straight_on(env))
        assert ts.obs.isfinite().all() and ts.reward[0].tolist() == [is_ahead / 2] * 2, "a direction of pi"


def test_a_ray_along_an_edge_of_an_entity_misses_it():
    """What is as far as it is wide to either side is half a right angle wide; in Jumanji 1.1.2, too, to the bit."""
    size, options = 1 / 64, {"num_vision": 3, "view_angle": 0.25}
    for nearer, expected in ((0.0, [-1, 0.15625, -1]), (1e-5, [pytest.approx(0.15615, abs=1e-6)] * 3)):
        place = (0.5 + size - nearer, 0.5)
        env = standing([(0.5, 0.5, 0.0)], [place, AWAY], target_contact_range=size, **options)
        assert env.observe().obs[0, 0, 6:9].tolist() == expected


def test_other_numbers_of_rays_and_wider_cones():
    options = {"num_vision": 9, "view_angle": 0.5, "target_vision_range": 0.2}
    env = standing([(0.5, 0.5, 0.0)], [(0.5, 0.6), (0.5, 0.4)], found=[1], **options)
    obs = env.observe().obs[0, 0]
    assert obs.shape == (29,) and env.state_size == 29
    assert obs[9:18].tolist() == pytest.approx([-1] * 8 + [0.5]) and obs[18:27].tolist() == pytest.approx(
        [0.5] + [-1] * 8
    )
    blind = standing([(0.5, 0.5, 0.0)], [(0.53, 0.5), AWAY], num_vision=1, view_angle=0.0)
    assert blind.observe().obs[0, 0].tolist() == pytest.approx([-1, -1, 0.3, 1, 0], abs=1e-5)


# ---- the step ----


@pytest.mark.parametrize("finders", [1, 2, 3])
def test_finders_share_a_target(finders):
    places = [(0.5 - 0.01 * math.cos(a), 0.5 - 0.01 * math.sin(a), a) for a in (0.0, 2.0, 4.0)[:finders]]
    env = standing([*places, (0.9, 0.9, 0.0)], [(0.5, 0.5), (0.2, 0.2)], step=100)
    ts = env.step(straight_on(env))
    assert ts.reward[0].tolist() == pytest.approx([0.75 / finders] * finders + [0])
    assert env.step(straight_on(env)).reward.eq(0).all(), "found once only"


def test_one_searcher_finds_several_at_once_and_not_behind_or_out_of_reach():
    targets = [(0.515, 0.5), (0.51, 0.51), (0.49, 0.5), (0.521, 0.5)]
    env = standing([(0.5, 0.5, 0.0)], targets)
    assert env.step(straight_on(env)).reward.item() == 2
    assert env.state.target_found[0].tolist() == [True, True, False, False]


def test_contact_is_inclusive():
    env = standing([(0.5, 0.5, 0.0)], [(0.625, 0.5), AWAY], target_contact_range=0.125)
    assert env.step(straight_on(env)).reward.item() == 1


@pytest.mark.parametrize("step, paid", [(0, 1.0), (200, 0.5), (399, 1 / 400)])
def test_finds_pay_less_the_later(step, paid):
    env = standing([(0.5, 0.5, 0.0)], [(0.51, 0.5), AWAY], step=step)
    ts = env.step(straight_on(env))
    assert ts.reward.item() == pytest.approx(paid)
    assert ts.truncated.item() == (step == 399) and not ts.terminated.item()


def test_the_last_find_ends_the_episode_at_the_time_limit_too():
    for step in (10, 399):
        env = standing([(0.5, 0.5, 0.0)], [(0.51, 0.5), AWAY], found=[1], step=step)
        ts = env.step(straight_on(env))
        assert ts.terminated.item() and not ts.truncated.item()
        assert ts.info["found_fraction"].item() == 1 and ts.obs[0, 0, -2].item() == 0


def test_the_new_heading_and_speed_move_a_searcher():
    env = situation([(0.5, 0.5, 0.0)], [AWAY], speed=0.01)
    env.step(torch.tensor([[[1.0, 1.0]]]))
    ahead = 0.015 * math.sqrt(0.5)
    np.testing.assert_allclose(env.state.searcher_pos[0, 0], [0.5 + ahead, 0.5 + ahead], atol=1e-7)
    env.step(torch.tensor([[[-1.0, 1.0]]]))
    env.step(torch.tensor([[[-3.0, 9.0]]]))
    assert env.state.searcher_speed.item() == pytest.approx(0.02)
    assert env.state.searcher_heading.item() == pytest.approx(1.75 * math.pi, abs=1e-6)
    for _ in range(9):
        env.step(torch.tensor([[[0.0, -1.0]]]))
    assert env.state.searcher_speed.item() == pytest.approx(0.005)


def test_targets_move_before_finds_and_found_ones_go_on():
    env = standing([(0.5, 0.5, 0.0)], [(0.5215, 0.5), (0.1, 0.999)], velocities=[(-0.002, 0), (0, 0.002)], found=[1])
    assert env.step(straight_on(env)).reward.item() == 1
    np.testing.assert_allclose(env.state.target_pos[0], [[0.5195, 0.5], [0.1, 0.001]], atol=1e-6)


def test_the_size_of_a_velocity_is_limited_not_its_components():
    velocities = [(0.003, 0.004), (0.0019, 0.0019), (0.0014, -0.0014), (0.0, 0.0), (3e30, -3e30)]
    env = standing([(0.5, 0.5, 0.0)], [AWAY] * 5, velocities=velocities)
    env.step(straight_on(env))
    at_most = 0.002 * math.sqrt(0.5)
    expected = [(0.0012, 0.0016), (at_most, at_most), (0.0014, -0.0014), (0, 0)]
    np.testing.assert_allclose(env.state.target_vel[0, :4], expected, rtol=1e-6)
    assert env.state.target_vel.isfinite().all() and env.state.target_pos.isfinite().all()


def test_a_remainder_may_round_up_to_the_whole():
    """-1e-9 mod 1 is 1 in single precision, here as in the original; 1 and 0 are one place."""
    env = standing([(0.0, 0.5, math.pi)], [(0.0, 0.5)], velocities=[(-1e-9, 0.0)])
    ts = env.step(straight_on(env))
    assert env.state.target_pos[0, 0, 0].item() == 1.0
    assert ts.reward.item() == 1 and ts.obs[0, 0, V : 2 * V].max().item() == 0
    env.load_state(env.state_dict())


def test_actions_are_clipped_and_nan_counts_as_0(monkeypatch):
    monkeypatch.setattr(SearchAndRescue, "takes_any_action", True)  # where nobody looks, as on a GPU
    env = situation([(0.5, 0.5, 1.0)] * 3, [AWAY], speed=0.01)
    env.step(torch.tensor([[[math.nan, math.nan], [math.inf, math.inf], [-1e9, -2.0]]]))
    np.testing.assert_allclose(env.state.searcher_heading[0], [1, 1 + math.pi / 4, 1 - math.pi / 4], atol=1e-6)
    np.testing.assert_allclose(env.state.searcher_speed[0], [0.01, 0.015, 0.005], atol=1e-8)


def test_a_shared_reward_is_the_team_s_sum_to_everyone():
    own, shared = (
        envs.make("search_and_rescue_8x40", 64, seed=3, target_contact_range=0.1, shared_reward=s)
        for s in (False, True)
    )
    assert shared.has_shared_reward and not own.has_shared_reward
    own.reset(), shared.reset()
    generator = torch.Generator().manual_seed(0)
    total = 0
    for _ in range(30):
        actions = 2 * torch.rand(64, 8, 2, generator=generator) - 1
        one, other = own.step(actions), shared.step(actions)
        torch.testing.assert_close(one.reward.sum(1, keepdim=True).expand(-1, 8), other.reward)
        torch.testing.assert_close(8 * one.info["episode_return"], other.info["episode_return"])
        total += other.reward.sum()
    assert total > 64


# ---- chance, and numbers of whole episodes (specification, section 14) ----


def episodes(task, count, seed, act):
    """infos of `count` episodes, one each."""
    env = envs.make(task, count, seed=seed, auto_reset=False)
    ts, infos = env.reset(), {}
    was_over = torch.zeros(count, dtype=torch.bool)
    while not was_over.all():
        ts = env.step(act(env, ts))
        is_over = (ts.terminated | ts.truncated) & ~was_over
        for name, value in {**ts.info, "cleared": ts.terminated}.items():
            infos.setdefault(name, torch.zeros(count))[is_over] = value[is_over].float()
        was_over |= is_over
    return infos


@pytest.mark.parametrize(
    "size, count, mean, spread, found, found_spread",
    [
        ("2x20", 1024, 1.353, 0.59, 5.11, 1.93),
        ("4x40", 512, 2.453, 0.54, 17.72, 3.21),
        ("8x40", 256, 2.088, 0.278, 27.81, 2.88),
    ],
)
@in_loops_only
def test_random_play_returns_what_the_original_does(size, count, mean, spread, found, found_spread):
    generator = torch.Generator().manual_seed(1)
    infos = episodes(
        f"search_and_rescue_{size}",
        count,
        0,
        lambda env, ts: 2 * torch.rand(*ts.reward.shape, 2, generator=generator) - 1,
    )
    deviation = 4 * (1 / 1024 + 1 / count) ** 0.5
    returns, targets_found = infos["episode_return"], infos["targets_found"]
    assert returns.mean().item() == pytest.approx(mean, abs=deviation * spread)
    assert returns.std().item() == pytest.approx(spread, rel=0.2)
    assert targets_found.mean().item() == pytest.approx(found, abs=deviation * found_spread)
    assert (infos["episode_length"] == 400).all() and not infos["cleared"].any()


@pytest.mark.parametrize("size, at_least, found, longest", [("2x20", 6.5, 18.5, 385), ("8x40", 4.4, 39.9, 150)])
@in_loops_only
def test_seeking_finds_what_there_is(size, at_least, found, longest):
    """A hand-written team; the specification's got 6.92 and 4.56."""
    generator = np.random.default_rng(0)
    infos = episodes(f"search_and_rescue_{size}", 48, 1, lambda env, ts: seeking(ts.obs, generator))
    assert infos["episode_return"].mean() > at_least and infos["targets_found"].mean() > found
    assert infos["episode_length"].mean() < longest


@in_loops_only
def test_a_start_is_uniform_and_at_rest():
    env = envs.make("search_and_rescue_4x40", 4096, seed=0)
    env.reset()
    state = env.state
    shares = torch.cat(
        [
            state.searcher_pos.flatten(1),
            state.searcher_heading / (2 * math.pi),
            (state.searcher_speed - 0.005) / 0.015,
            state.target_pos.flatten(1),
        ],
        1,
    )
    assert (shares >= 0).all() and (shares < 1 + 1e-6).all()
    for k in range(shares.shape[1]):
        counts = torch.histc(shares[:, k], 10, 0, 1)
        assert ((counts - 409.6) ** 2 / 409.6).sum() < 40, f"number {k}"  # chi squared of 9: beyond once in 1e5
    correlation = torch.corrcoef(shares.T) - torch.eye(shares.shape[1])
    assert correlation.abs().max() < 6 / 4096**0.5
    assert not state.target_vel.any() and not state.target_found.any() and not state.step.any()


@in_loops_only
def test_velocities_of_targets_walk_at_random():
    """From rest the noise is standard normal and of everything else independent."""
    env = envs.make("search_and_rescue_2x20", 512, seed=2)
    env.reset()
    steps = []
    for _ in range(12):
        before = env.state.target_vel
        env.step(torch.zeros(512, 2, 2))
        steps.append((env.state.target_vel - before) / 1e-4)
    z = torch.stack(steps, 1).flatten(2).double()  # [B, 12, 2 T]
    normal = torch.distributions.Normal(0.0, 1.0)
    size = z.numel()
    assert z.mean().abs() < 5 / size**0.5 and z.var().item() == pytest.approx(1, abs=5 * (2 / size) ** 0.5)
    places = z.flatten().sort().values
    steps_of = torch.arange(1, size + 1) / size
    assert (normal.cdf(places) - steps_of).abs().max() < 2.3 / size**0.5  # Kolmogorov and Smirnov: once in 1e4
    for columns in (z[:, 0], z[:, :, 0], z.permute(1, 2, 0).reshape(-1, 512)[:, :100]):
        correlation = torch.corrcoef(columns.T) - torch.eye(columns.shape[1])
        assert correlation.abs().max() < 6 / len(columns) ** 0.5


# ---- names, options, States, pictures ----


@pytest.mark.parametrize("name", ["02x20", "2x020", "0x20", "2x0", "2x20\n", "\u0662x20", "2x20x3", "-2x20", "2X20"])
@in_loops_only
def test_a_size_has_one_name(name):
    assert other_task("search_and_rescue_3x7") == {"num_searchers": 3, "num_targets": 7}
    assert other_task(f"search_and_rescue_{name}") is None
    with pytest.raises(ValueError, match="unknown task"):
        envs.make(f"search_and_rescue_{name}")


@pytest.mark.parametrize(
    "option, message",
    [
        ({"max_steps": 0}, "max_steps is 0; it must be 1 or more"),
        ({"num_vision": 0}, "num_vision is 0; it must be 1 or more"),
        ({"num_targets": 0}, "num_targets is 0; it must be 1 or more"),
        ({"view_angle": 1.1}, "view_angle is 1.1; it must be between 0 and 1"),
        ({"target_vision_range": 0.0}, "target_vision_range is 0.0; it must be between 1e-06 and 1"),
        ({"searcher_max_speed": 0.001}, "searcher_max_speed is 0.001; it must be between 0.005 and 1"),
        ({"target_acc_std": -1.0}, "target_acc_std is -1.0; it must be between 0 and 1"),
        ({"shared_reward": 1}, "shared_reward is 1; it must be true or false"),
    ],
)
@in_loops_only
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        envs.make("search_and_rescue_2x20", **option)


@pytest.mark.parametrize(
    "field, wrong, message",
    [
        ("searcher_pos", 1.0000001, "searcher_pos holds 1.0000001; it must be between 0 and 1"),
        ("searcher_pos", 1.01, "searcher_pos holds 1.01; it must be between 0 and 1"),
        ("target_pos", -0.5, "target_pos holds -0.5; it must be between 0 and 1"),
        ("target_pos", math.nan, "target_pos holds nan; it must be between 0 and 1"),
        ("searcher_heading", 6.3, "searcher_heading holds 6.3; it must be between 0 and 6.28"),
        ("searcher_speed", math.inf, "searcher_speed holds inf; it must be finite"),
        ("target_vel", math.nan, "target_vel holds nan; it must be finite"),
        ("step", -1, "step holds -1; it must be 0 or more"),
    ],
)
@in_loops_only
def test_situations_that_cannot_be_are_refused(field, wrong, message):
    env = envs.make("search_and_rescue_2x20", 3, auto_reset=False)
    env.reset()
    before = env.state_dict()
    value = before[field].clone()
    value[1] = wrong
    with pytest.raises(ValueError, match=message):
        env.load_state({field: value})
    assert all(torch.equal(tensor, before[name]) for name, tensor in env.state_dict().items())
    with pytest.raises(ValueError, match=message):
        env.engine().load_state({field: value[1]})


@in_loops_only
def test_a_picture_of_any_state():
    env = envs.make("search_and_rescue_8x40", 2, seed=4)
    ts = env.reset()
    for _ in range(40):
        ts = env.step(seeking(ts.obs, np.random.default_rng(0)))
    plain, rays, contact = (
        env.draw(env.state, 1, **options) for options in ({}, {"show_rays": True}, {"show_contact": True})
    )
    for picture in (plain, rays, contact):
        assert picture.dtype == np.uint8 and picture.shape == (588, 560, 3)
    assert not np.array_equal(plain, rays) and not np.array_equal(plain, contact)
    seen = env.draw_observation(ts.obs[1, 0], 0)
    assert seen.dtype == np.uint8 and seen.shape[0] == seen.shape[1]


@in_loops_only
def test_a_picture_shows_both_sides_of_an_edge():
    """A searcher on the right edge is drawn beyond the left one, too."""
    env, other = (standing([(x, 0.5, 0.0)], [AWAY]) for x in (0.999, 0.8))
    left = [e.draw(e.state)[40:, :48] for e in (env, other)]
    assert not np.array_equal(*left)
