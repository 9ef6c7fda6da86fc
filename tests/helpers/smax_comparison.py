"""One step of SMAX held against the same step of the original, and policies that lead to all kinds of battles.

Situations are dictionaries of NumPy arrays [B, ...] under the names of the State's fields.
"""

import numpy as np
import torch

from torch_mars.envs.smax.scenarios import UNIT_TYPES
from torch_mars.envs.smax.task import DT, FIRST_ATTACK, STOP

FIELDS = (
    "unit_positions", "unit_alive", "unit_health", "unit_types", "unit_weapon_cooldowns", "prev_movement_actions",
    "prev_attack_actions", "enemy_default_target", "enemy_last_attacked", "step",
)  # fmt: skip
ATOL = 2e-5  # single precision
CROWD_ATOL = 2e-4  # of positions: the pushes of eight sub-steps enlarge the rounding where centres nearly meet
POLICIES = ("guided", "guided", "guided", "available", "any", "flee")  # of environment i: number i, in turns
ATTACK_RANGE = np.array([kind.attack_range for kind in UNIT_TYPES])


def mixed_actions(fields, mask, rng):
    """int64 [B, N]: environments play by POLICIES in turns; but for the first two, every seventh action is random."""
    num_agents, num_actions = mask.shape[1:]
    available = (rng.random(mask.shape) * mask).argmax(2)
    any_action = rng.integers(num_actions, size=mask.shape[:2])
    guided = guided_actions(fields, num_agents)
    flee = np.where(guided >= FIRST_ATTACK, STOP, (guided + 2) % 4)
    choices = {"guided": guided, "available": available, "any": any_action, "flee": flee}
    names = [POLICIES[i % len(POLICIES)] for i in range(len(mask))]
    actions = np.stack([choices[name][i] for i, name in enumerate(names)])
    is_noisy = (np.arange(len(mask)) % len(POLICIES) > 1)[:, None] & (rng.random(actions.shape) < 1 / 7)
    return np.where(is_noisy, available, actions)


def guided_actions(fields, num_agents):
    """Attack the nearest living enemy if it is in reach, else walk towards it; the dead stop."""
    positions, alive = fields["unit_positions"], fields["unit_alive"]
    way = positions[:, None, num_agents:] - positions[:, :num_agents, None]  # [B, N, E, 2]
    distance = np.where(alive[:, None, num_agents:], np.linalg.norm(way, axis=-1), np.inf)
    nearest = distance.argmin(2)
    x, y = np.take_along_axis(way, nearest[..., None, None], 2)[:, :, 0].transpose(2, 0, 1)
    walk = np.stack([y, x, -y, -x]).argmax(0)
    reach = ATTACK_RANGE[fields["unit_types"][:, :num_agents]]
    return np.where(alive[:, :num_agents], np.where(distance.min(2) < reach, FIRST_ATTACK + nearest, walk), STOP)


def step_like_the_original(env, before, actions, after, rows, monkeypatch):
    """Step `env` from `before`; enemies walk (and, attacking at random, attack) as they do in `after`.

    In `rows`, every choice of the original's enemies must be one that the script can make. Shots draw the middle of
    their range.
    """
    env.load_state(before)
    draw, is_possible = draws_for(env, enemy_actions(after, env.num_agents))
    is_possible = is_possible.T.numpy() | ~rows[:, None]
    assert is_possible.all(), f"enemies that did what the script cannot do: {np.argwhere(~is_possible)}"
    draws, key = env.draw_numbers(env.state.rng)
    by_purpose = dict(zip(env.draws, draws.split(list(env.draws.values()), 1)))
    by_purpose["shot"][:] = 0.5
    for purpose in {"walk", "attack"} & by_purpose.keys():
        by_purpose[purpose][:] = draw.T
    with monkeypatch.context() as patch:
        patch.setattr(env, "draw_numbers", lambda key_before: (draws, key))
        return env.step(torch.as_tensor(actions))


def enemy_actions(after, num_agents):
    """int64 [B, E]: the actions behind the orders of enemies."""
    attack = after["prev_attack_actions"][:, num_agents:].astype(np.int64)
    x, y = after["prev_movement_actions"][:, num_agents:].transpose(2, 0, 1)
    return np.where(attack > 0, attack, np.stack([y, x, -y, -x]).argmax(0))


def draws_for(env, actions):
    """Draws [E, B] with which the script takes these actions, and whether it can: bool [E, B]."""
    wanted = torch.as_tensor(actions).T
    units, kinds = env._line_up(env.state)
    found, is_possible = torch.zeros(wanted.shape), torch.zeros(wanted.shape, dtype=torch.bool)
    for k in range(env.num_agents):  # these draws name every ally once or more
        draw = torch.full(wanted.shape, (k + 0.5) / env.num_agents)
        draws = dict.fromkeys(("walk", "attack") if env.options.attack_mode == "random" else ("walk",), draw)
        does = env._command_enemies(env.state, units, kinds, draws)[0] == wanted
        found, is_possible = torch.where(does, draw, found), is_possible | does
    return found, is_possible


def assert_same_situation(env, before, after, rows, where):
    """The State of `env` equals `after` in some rows; cooldowns of units that fired may differ by their chance."""
    state = {name: getattr(env.state, name).numpy()[rows] for name in FIELDS}
    for name in FIELDS:
        expected = after[name][rows]
        if name == "unit_weapon_cooldowns":
            fired, expected_fired = (now > before[name][rows] for now in (state[name], expected))
            np.testing.assert_array_equal(fired, expected_fired, err_msg=f"{where}: who fired")
            allowance = np.where(fired, 1.5 * DT, 0) + ATOL
            assert (np.abs(state[name] - expected) <= allowance).all(), f"{where}: {name}"
        elif state[name].dtype.kind == "f":
            atol = CROWD_ATOL if name == "unit_positions" else ATOL
            np.testing.assert_allclose(state[name], expected, rtol=0, atol=atol, err_msg=f"{where}: {name}")
        else:
            np.testing.assert_array_equal(state[name], expected, err_msg=f"{where}: {name}")


def kinds_of_end(after, rows, num_agents):
    """How many of the environments in `rows` are at each kind of end."""
    ally, enemy = (after["unit_alive"][rows][:, team].any(1) for team in (slice(num_agents), slice(num_agents, None)))
    names = {"won": ally & ~enemy, "lost": enemy & ~ally, "draw": ~ally & ~enemy, "timeout": ally & enemy}
    return {name: int(count.sum()) for name, count in names.items()}
