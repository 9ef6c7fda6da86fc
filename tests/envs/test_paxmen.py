"""PaxMen against recorded episodes of the original, and its rules in hand-placed situations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import check

import torch_mars.envs as envs
from torch_mars.envs.paxmen.layouts import ARMS, L, M, S, board

FIXTURES = Path(__file__).parents[1] / "fixtures"
STATE_FIELDS = ("layout", "agent_pos", "dot_pos", "dot_active", "step")
TEAMS = (4, 5, 6)
RIGHT, LEFT, EAT = 2, 3, 4


@pytest.mark.parametrize("num_agents", TEAMS)
def test_episodes_equal_the_recorded_ones(num_agents):
    """Every step of 16 whole episodes; dots drawn by the original after a cleared board are loaded, not compared."""
    record = np.load(FIXTURES / f"paxmen_{num_agents}a.npz")
    steps, episodes = record["done"].shape
    env = envs.make(f"paxmen_{num_agents}a", num_envs=episodes, auto_reset=False)
    env.load_state({field: record[field][0] for field in STATE_FIELDS})
    boards_cleared = shared_bites = 0
    for t in range(steps):
        where = f"step {t}"
        ts = env.observe()
        np.testing.assert_array_equal(ts.obs, record["obs"][t], err_msg=where)
        np.testing.assert_array_equal(ts.state, record["state"][t], err_msg=where)
        active = env.state.dot_active
        ts = env.step(torch.as_tensor(record["action"][t].astype(np.int64)))
        np.testing.assert_allclose(ts.reward, record["reward"][t], atol=2e-6, err_msg=where)
        np.testing.assert_array_equal(ts.truncated, record["done"][t], err_msg=where)
        assert not ts.terminated.any()
        for field in ("layout", "agent_pos", "dot_active", "step"):
            np.testing.assert_array_equal(getattr(env.state, field), record[field][t + 1], err_msg=f"{where} {field}")
        cleared = (~active | env.state.dot_active).all(1) & ~active.all(1)
        same = ~cleared.numpy()
        np.testing.assert_array_equal(env.state.dot_pos[same], record["dot_pos"][t + 1][same], err_msg=where)
        boards_cleared += int(cleared.sum())
        share = ts.reward[:, 0] + 0.025 * num_agents
        shared_bites += int(((share - 0.025) % 1 > 0.01).sum())
        env.load_state({"dot_pos": record["dot_pos"][t + 1]})
    assert boards_cleared > 20 and shared_bites > 20  # the record holds what this test is about


@pytest.mark.parametrize("num_agents", TEAMS)
def test_boards_have_the_sizes_of_the_specification(num_agents):
    sizes = {4: (41, 101), 5: (43, 140), 6: (45, 187)}
    tables = board(num_agents)
    assert (tables.grid_size, tables.num_cells) == sizes[num_agents]
    for layout, arms in enumerate(ARMS[num_agents]):
        assert sum(length for _, _, length in arms) == 8 * num_agents
        assert {length for _, _, length in arms} <= {S, M, L}
        positions = set(map(tuple, tables.floor[layout]))
        assert len(positions) == tables.num_cells, "cells overlap"
        reached, frontier = set(), [tuple(tables.hub[0])]
        while frontier:
            row, col = frontier.pop()
            if (row, col) in positions and (row, col) not in reached:
                reached.add((row, col))
                frontier += [(row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)]
        assert reached == positions, "some cell cannot be reached from the hub"


def one_situation(**fields):
    """One 4-agent environment, layout 0; everything not given is as drawn."""
    env = envs.make("paxmen_4a", auto_reset=False)
    env.reset()
    env.load_state({"layout": [0], **{name: [value] for name, value in fields.items()}})
    return env


def north_room_with_dots(active=()):
    """Dots of room i at the first three cells of it; those named are active."""
    dots = board(4).rooms[0][:, :3].reshape(-1, 2)
    is_active = np.zeros(12, dtype=bool)
    is_active[list(active)] = True
    return dots, is_active


@pytest.mark.parametrize("eaters", [1, 2, 3, 4])
def test_a_shared_dot_pays_each_eater_its_part(eaters):
    dots, is_active = north_room_with_dots(active=(0, 11))
    hub = board(4).hub
    positions = np.array([dots[0]] * eaters + [hub[0]] * (4 - eaters))
    env = one_situation(agent_pos=positions, dot_pos=dots, dot_active=is_active)
    ts = env.step(torch.full((1, 4), EAT))
    assert ts.reward[0].tolist() == pytest.approx([1.0 - 0.025 * (4 - eaters)] * 4)
    assert env.state.dot_active[0].tolist() == [i == 11 for i in range(12)]
    assert ts.info["dots_eaten"].item() == 1 and ts.info["boards_cleared"].item() == 0


def test_only_the_eat_action_on_an_active_dot_eats():
    dots, is_active = north_room_with_dots(active=(0,))
    env = one_situation(agent_pos=np.array([dots[0], dots[1], dots[3], dots[4]]), dot_pos=dots, dot_active=is_active)
    ts = env.step(torch.tensor([[RIGHT, EAT, EAT, EAT]]))
    assert ts.reward[0].tolist() == pytest.approx([-0.1] * 4)
    assert env.state.dot_active[0, 0]


def test_the_last_dot_brings_a_new_board_in_the_same_step():
    dots, is_active = north_room_with_dots(active=(5,))
    hub = board(4).hub
    env = one_situation(agent_pos=np.array([dots[5], hub[0], hub[1], hub[2]]), dot_pos=dots, dot_active=is_active)
    ts = env.step(torch.full((1, 4), EAT))
    assert env.state.dot_active.all()
    assert ts.info["boards_cleared"].item() == 1
    rooms = board(4).rooms[0]
    for dot, position in enumerate(env.state.dot_pos[0].tolist()):
        assert position in rooms[dot // 3].tolist()
    assert len({tuple(p) for p in env.state.dot_pos[0].tolist()}) == 12
    assert (ts.state == 1).sum() >= 11  # the observation already shows them


def test_a_room_counts_once_a_board_for_the_first_of_its_dots():
    dots, is_active = north_room_with_dots(active=range(12))
    hub = board(4).hub
    env = one_situation(dot_pos=dots, dot_active=is_active)
    for dot, rooms in ((0, 1), (1, 1), (2, 1), (3, 2)):  # dots 0 to 2 lie in room 0
        env.load_state({"agent_pos": [[dots[dot], *hub[:3]]]})
        ts = env.step(torch.full((1, 4), EAT))
        assert ts.info["rooms_eaten_in"].item() == rooms and ts.info["dots_eaten"].item() == dot + 1


def test_walls_stop_agents_and_agents_do_not():
    hub = board(4).hub.reshape(3, 3, 2)
    env = one_situation(agent_pos=np.array([hub[0, 0], hub[0, 1], hub[0, 2], hub[1, 1]]))
    env.step(torch.tensor([[LEFT, LEFT, 0, 0]]))
    expected = [hub[0, 0], hub[0, 0], hub[0, 2], hub[0, 1]]  # wall west of 0; 1 joins 0; wall north of 2; 3 moves up
    assert env.state.agent_pos[0].tolist() == [p.tolist() for p in expected]


def test_an_agent_sees_others_but_not_itself():
    hub = board(4).hub.reshape(3, 3, 2)
    env = one_situation(agent_pos=np.array([hub[1, 1], hub[1, 1], hub[0, 0], hub[2, 2]]))
    obs = env.observe().obs[0].view(4, 5, 5)
    assert obs[0, 2, 2] == pytest.approx(0.1) and obs[1, 2, 2] == pytest.approx(0.1)  # they share a cell
    assert obs[2, 2, 2] == 0 and obs[2, 3, 3] == pytest.approx(0.1)
    assert obs[0, 1, 1] == pytest.approx(0.1) and obs[0, 3, 3] == pytest.approx(0.1)


@pytest.mark.parametrize("num_agents", TEAMS)
def test_compiled_loops_do_what_the_tensor_operations_do(num_agents, monkeypatch):
    """CPU runs loops, other devices tensor operations: equal bit for bit over two episodes. Agents are put onto dots at
    times, two of them together, so that dots are shared and boards cleared."""
    count = 60
    loops, tensors = (envs.make(f"paxmen_{num_agents}a", count, seed=3) for _ in range(2))
    generator = torch.Generator().manual_seed(num_agents)
    boards_cleared = shared_bites = ends = 0
    loops.reset(), tensors.reset()
    for t in range(2 * loops.max_steps):
        actions = torch.randint(5, (num_agents, count), generator=generator).T  # of any memory order
        _, dots_before, boards_before, _ = loops.state.totals.T
        left = loops.step(actions)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("torch_mars.envs.paxmen.env.runs_in_loops", lambda tensor: False)
            right = tensors.step(actions)
        assert_equal_fields(loops.state, tensors.state, f"step {t}")
        assert_equal_fields(left, right, f"step {t}")
        dots_eaten = left.info["dots_eaten"] - dots_before
        eaters = num_agents - (dots_eaten - left.reward[:, 0]) / 0.025
        shared_bites += int((eaters > dots_eaten + 0.5).sum())
        boards_cleared += int((left.info["boards_cleared"] - boards_before).sum())
        ends += int(left.truncated.sum())
        if t % 2:
            dots = torch.randint(3 * num_agents, (count, num_agents), generator=generator)
            dots[:, 1] = dots[:, 0]  # together
            agent_pos = loops.state.dot_pos[torch.arange(count)[:, None], dots]
            for env in (loops, tensors):
                env.load_state({"agent_pos": agent_pos})
    assert boards_cleared > 20 and shared_bites > 20 and ends == 2 * count  # what this test is about did happen


def assert_equal_fields(left, right, where):
    """Two dataclasses or dictionaries of tensors: the same bits."""
    left, right = (x if isinstance(x, dict) else vars(x) for x in (left, right))
    assert left.keys() == right.keys()
    for name, expected in right.items():
        if isinstance(expected, dict):
            assert_equal_fields(left[name], expected, f"{where}: {name}")
        elif expected is not None:
            assert (left[name].dtype, left[name].shape) == (expected.dtype, expected.shape), f"{where}: {name}"
            assert left[name].numpy().tobytes() == expected.numpy().tobytes(), f"{where}: {name}"


@pytest.mark.parametrize("position", [(0, 0), (-1, 5), (10**9, 3), (20, 45)])
def test_an_agent_off_the_floor_is_an_error(position):
    with pytest.raises(ValueError, match="off the floor"):
        one_situation(agent_pos=np.array([position] * 4))
    env = one_situation()
    env.state.agent_pos[:] = torch.tensor(position)  # past the check of what comes from outside
    with pytest.raises(ValueError, match="off the floor"):
        env.observe()
    with pytest.raises(ValueError, match="off the floor"):
        env.step(torch.full((1, 4), EAT))


@pytest.mark.parametrize("num_agents, expected", [(4, -9.3), (5, -13.7), (6, -18.6)])
def test_random_play_returns_what_the_original_does(num_agents, expected):
    env = envs.make(f"paxmen_{num_agents}a", num_envs=2048, seed=0)
    env.reset()
    generator = torch.Generator().manual_seed(0)
    for _ in range(env.max_steps):
        ts = env.step(torch.randint(0, 5, (2048, num_agents), generator=generator))
    assert ts.truncated.all() and (ts.info["episode_length"] == env.max_steps).all()
    assert ts.info["episode_return"].mean().item() == pytest.approx(expected, abs=0.15)


def test_starts_are_uniform():
    env = envs.make("paxmen_5a", num_envs=20_000, seed=0)
    env.reset()
    count = env.num_envs
    layouts = torch.bincount(env.state.layout, minlength=4) / count
    assert (layouts - 0.25).abs().max() < 5 * (0.25 * 0.75 / count) ** 0.5
    hub = board(5).hub
    cell = ((env.state.agent_pos - torch.as_tensor(hub[0])) * torch.tensor([5, 1])).sum(-1)
    assert all(len(set(row)) == 5 for row in cell.tolist())
    for agent in range(5):
        share = torch.bincount(cell[:, agent], minlength=25) / count
        assert (share - 1 / 25).abs().max() < 5 * (0.04 * 0.96 / count) ** 0.5
    rooms = torch.as_tensor(board(5).rooms)[env.state.layout]
    is_dot = (rooms[:, :, :, None] == env.state.dot_pos.view(count, 5, 1, 3, 2)).all(-1)
    assert (is_dot.sum((2, 3)) == 3).all()
    assert (is_dot.any(3).float().mean(0) - 0.2).abs().max() < 5 * (0.2 * 0.8 / count) ** 0.5


@pytest.mark.parametrize("num_agents", TEAMS)
def test_a_picture_of_any_state(num_agents):
    env = envs.make(f"paxmen_{num_agents}a", num_envs=3, seed=5)
    env.reset()
    env.step(torch.randint(0, 5, (3, num_agents), generator=torch.Generator().manual_seed(0)))
    pictures = [env.draw(env.state, index) for index in range(3)]
    check(pictures)
    assert not np.array_equal(pictures[0], env.draw(env.state, 0, show_windows=False))


@pytest.mark.parametrize("num_agents", [3, 7])
def test_other_team_sizes_are_refused(num_agents):
    with pytest.raises(ValueError, match="4, 5 and 6"):
        envs.make("paxmen_5a", num_agents=num_agents)
