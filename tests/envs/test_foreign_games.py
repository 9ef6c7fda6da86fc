"""Real games of PettingZoo, in an environment of their own: trained, measured, filmed, compared with a plain loop."""

import json
import subprocess

import pytest
from own_environment import python_with

pytestmark = pytest.mark.slow
SMALL = "--num-envs 8 --rollout-length 32 --total-steps 768 --eval-episodes 4 --checkpoint-every 1"
GAMES = {
    "mpe2.simple_spread_v3": "{N: 3, continuous_actions: false, max_cycles: 25}",
    "mpe2.simple_reference_v3": "{continuous_actions: true}",
    "pettingzoo.sisl.pursuit_v5": "{max_cycles: 50}",
    "pettingzoo.sisl.multiwalker_v9": "{max_cycles: 50}",
    "padded_tag": "{max_cycles: 25}",
}
PADDED_TAG = """
import supersuit
from mpe2 import simple_tag_v3

def parallel_env(**kwargs):
    return supersuit.pad_observations_v0(simple_tag_v3.parallel_env(**kwargs))
"""
LOOP = """
import numpy as np, torch, torch_mars.envs as envs
from mpe2 import simple_spread_v3
from torch_mars.envs import rng

B, T = 6, 60
actions = torch.randint(0, 5, (T, B, 3), generator=torch.Generator().manual_seed(0))
env = envs.make("pettingzoo:mpe2.simple_spread_v3", B, seed=9, continuous_actions=False)
first, steps = env.reset(), [env.step(a) for a in actions]
for b, key in enumerate(rng.keys(9, B)):
    game = simple_spread_v3.parallel_env(continuous_actions=False)

    def begin():
        global key
        seed, key = rng.integers(key, 1, 2**31 - 1)
        return np.stack(list(game.reset(seed=seed.item())[0].values()))

    assert np.array_equal(first.obs[b], begin())
    for t in range(T):
        obs, rewards, _, truncations, _ = game.step(dict(zip(game.agents, actions[t, b].tolist())))
        obs, ts = np.stack(list(obs.values())), steps[t]
        assert np.array_equal(ts.final_obs[b], obs) and np.array_equal(ts.final_state[b], game.state()), (b, t)
        assert ts.reward[b].tolist() == np.float32(list(rewards.values())).tolist(), (b, t)
        assert ts.truncated[b] == all(truncations.values()) == (t % 25 == 24) and not ts.terminated[b], (b, t)
        assert np.array_equal(ts.obs[b], obs if game.agents else begin()), (b, t)
print("equal")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """With the games installed."""
    folder = tmp_path_factory.mktemp("games") / "venv"
    return python_with(folder, "mpe2>=1.1", "pettingzoo[sisl]>=1.25", "pymunk>=6.2", "supersuit>=3.11")


@pytest.fixture
def call(python, tmp_path):
    """A command's output, called in an empty folder."""
    (tmp_path / "padded_tag.py").write_text(PADDED_TAG)

    def run(*words):
        done = subprocess.run([python, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("game", GAMES)
def test_a_game_is_trained(call, tmp_path, game):
    """Measured and filmed, too, where it is one whose agents leave early."""
    task = ["--env", f"pettingzoo:{game}"]
    call("-m", "torch_mars.algos.mars", *task, "--env-options", GAMES[game], *SMALL.split())
    (run,) = tmp_path.glob(f"runs/pettingzoo.{game}/mars/*")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines if line["kind"] == "update"] == [1, 2, 3]
    if game != "pettingzoo.sisl.multiwalker_v9":
        return
    measured = json.loads(call("-m", "torch_mars.evaluate", str(run), *task, "--episodes", "4", "--json"))
    assert len(measured["metrics"]["episode_return"]["seeds"]["0"]["episodes"]) == 4
    call("-m", "torch_mars.play", str(run), *task, "--out", "film.gif")
    assert (tmp_path / "film.gif").stat().st_size > 20_000  # a picture of the game


def test_a_batch_of_simple_spread_is_as_many_plain_loops(call):
    assert call("-c", LOOP) == "equal\n"
