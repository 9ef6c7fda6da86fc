"""Environments of a user's own whose rules do not do what they should: `examples/gather.py` with one mistake each."""

import re
import sys
from pathlib import Path

import gymnasium
import pytest
from loaded_scripts import loaded

from torch_mars import check, envs
from torch_mars.envs.core import BatchedEnv
from torch_mars.envs.workers import ForeignError
from torch_mars.nn.distributions import Policy
from torch_mars.run.cli import UsageError

GATHER = Path(__file__).parents[2] / "examples/gather.py"
ACTIONS = "self.action_space = gymnasium.spaces.Discrete(3)"
SEEN = "return torch.stack([nearest / self.cells, left], 2)"
REWARD = "reward = count.float()[:, None].repeat(1, self.num_agents)"
OVER, COUNT = "~state.fruit.any(1)", "count = eaten.sum(1)"
STARTS = "place, rng = integers(rng, self.num_agents, self.cells)"
PLACE = "place = (state.place + self._step[actions])"
DRAWN = "    def draw_text"
CLASS = "    Options = Options\n"
DISCRETE, NUMBERS = "gymnasium.spaces.Discrete(3)", "(-1, 1, (2,), np.float32)"


def with_rule(name, value):
    """The change that adds another rule."""
    return DRAWN, f"    def {name}(self, state):\n        return {value}\n\n{DRAWN}"


# what is wrong in the class or in `setup` -> what is said when it is made
CLASSES = {
    ('"sum"}', '"summ"}'): "metric 'eaten' is 'summ'; it must be 'sum' or 'last'",
    (CLASS, f"{CLASS}    has_share_reward = False\n"): "it says has_share_reward; did you mean has_shared_reward?",
    (DISCRETE, "gymnasium.spaces.Discrete(3, start=1)"): "it must be a Discrete from 0 on, or a Box",
    (DISCRETE, "gymnasium.spaces.Box(-1, 1, (2, 1))"): "it must be a Discrete from 0 on, or a Box",
    (DISCRETE, "gymnasium.spaces.MultiDiscrete([2, 2])"): "action_space is MultiDiscrete([2 2])",
    (ACTIONS, "pass"): "setup does not set action_space",
    (ACTIONS, f"{ACTIONS}\n        self.count = 1"): "setup puts a value in the place of count()",
    (NUMBERS, "(-1, 1, (2, 1), np.float32)"): "observation_space is Box(-1.0, 1.0, (2, 1)",
    (ACTIONS, f"{ACTIONS}\n        self.max_steps = 0"): "max_steps is 0; it must be 1 or more",
}
# what is wrong in a rule -> what is said as soon as it plays
RULES = {
    (
        SEEN,
        SEEN.replace("left]", "left, left]"),
    ): "observation(state) is float32 [4, 2, 3]; it must be float32",
    (SEEN, f"{SEEN}.double()"): "observation(state) is float64 [4, 2, 2]; it must be float32 [4, 2, 2]",
    (REWARD, "reward = count.float()"): "the reward is float32 [4]; it must be float32 [4, 2]",
    (REWARD, "reward = count.float()[:, None].repeat(1, 3)"): "the reward is float32 [4, 3]; it must be float32 [4, 2]",
    (REWARD, "reward = place.float()"): "say has_shared_reward = False in the class",
    (OVER, "1.0 - state.fruit.any(1).float()"): "terminated is float32 [4]; it must be bool [4]",
    (OVER, "~state.fruit.any(1, keepdim=True)"): "terminated is bool [4, 1]; it must be bool [4]",
    ('{"eaten": count}', "{}"): "returns no metric 'eaten', which the class promises",
    ('{"eaten": count}', "None"): "returns the metrics None; they must be a dict of tensors",
    (', {"eaten": count}', ""): "returns 3 things; it must be State, reward, terminated, metrics",
    ("return state, reward", "return place, reward"): "returns a Tensor; it must be a GatherState",
    with_rule("action_mask", "state.fruit[:, None, :3].repeat(1, 2, 1) & False"): "forbids agent 0 in environment 0",
    with_rule("action_mask", "state.fruit[:, None, :4].repeat(1, 2, 1)"): "action_mask(state) is bool [4, 2, 4]; it",
    with_rule("is_active", "state.fruit.any(1)"): "is_active(state) is bool [4]; it must be bool [4, 2]",
}
# what only shows when an environment is looked at from several sides -> what `check` says
PROMISES = {
    (
        STARTS,
        "place = torch.randint(self.cells, (len(rng), self.num_agents))",
    ): "a start must follow from its rng",
    (COUNT, f"{COUNT} + eaten.sum()"): "go another way than among 6",
    (COUNT, f"self.n = getattr(self, 'n', 0) + 1; {COUNT} * self.n"): "all that lasts must be in the State, nothing",
    (PLACE, "place = state.place.add_(self._step[actions])"): "changes the State that it was given; make a new one",
    (SEEN, SEEN.replace("left]", "9 * left]")): "outside the space, which has -1 to 1 there",
    (SEEN, SEEN.replace("left]", "-9 * left]")): "is -3.75, outside the space, which has -1 to 1 there",
    with_rule("is_active", "state.place > 3"): "an action of an agent that is_active says is out changes it",
}


def gather_with(path, change):
    """A file with the class, with one text in the place of another."""
    text = GATHER.read_text()
    assert change[0] in text
    text = text.replace(*change).replace('envs.register("gather_3", Gather, {"num_agents": 3})\n', "")
    path.write_text(text)
    return path


def played(path):
    with loaded(path) as module:
        env = envs.make(module.Gather, 4)
        env.reset()
        env.step(env.sample_actions())


@pytest.mark.parametrize("change", CLASSES, ids=CLASSES.values())
def test_a_class_that_says_something_impossible_is_not_made(change, tmp_path):
    path = gather_with(tmp_path / "wrong.py", change)
    with loaded(path) as module, pytest.raises(ValueError, match=f"^Gather: .*{re.escape(CLASSES[change])}"):
        envs.make(module.Gather, 4)


def test_a_class_may_have_methods_and_constants_of_its_own(tmp_path):
    """Also a helper whose name is near to something that a class may say."""
    more = f"{CLASS}    colour = 3\n\n    def metric(self):\n        return 0\n\n"
    with loaded(gather_with(tmp_path / "own.py", (CLASS, more))) as module:
        assert envs.make(module.Gather, 4).reset().obs.shape == (4, 2, 2)


@pytest.mark.parametrize("change", RULES, ids=RULES.values())
def test_a_rule_that_makes_something_else_is_told_when_it_plays(change, tmp_path):
    path = gather_with(tmp_path / "wrong.py", change)
    with pytest.raises(ForeignError, match=f"^Gather: .*{re.escape(RULES[change])}"):
        played(path)


@pytest.mark.parametrize("change", PROMISES, ids=PROMISES.values())
def test_what_only_shows_from_several_sides_is_found_by_check(change, tmp_path):
    path = gather_with(tmp_path / "wrong.py", change)
    with loaded(path) as module, pytest.raises(ForeignError, match=f"^Gather: .*{re.escape(PROMISES[change])}"):
        envs.check(module.Gather)


def test_what_is_right_is_told(tmp_path, monkeypatch, capsys):
    path = gather_with(tmp_path / "right_gather.py", (DISCRETE, DISCRETE))
    assert check.main([f"{path}:Gather"]) == 0
    monkeypatch.delitem(sys.modules, "right_gather")
    assert capsys.readouterr().out.count("ok  ") == 5


@pytest.mark.parametrize("task", [tasks[0] for tasks in envs.ENVIRONMENTS.values()])
def test_the_package_s_environments_keep_their_promises(task):
    held = envs.check(task, 25, **({"max_steps": 10} if task != "aerojax_2v2" else {}))
    assert len(held) >= 5


def test_what_cannot_be_checked_says_why():
    with pytest.raises(UsageError, match="did you mean paxmen_4a"):
        check.main(["paxmen_4"])


def test_a_policy_needs_bounds():
    with pytest.raises(UsageError, match="a policy can be trained where a Box has bounds on all sides"):
        Policy(gymnasium.spaces.Box(-float("inf"), 1.0, (2,)), 1)


def test_names_of_the_base_class_are_all_that_are_said():
    """Those that a typing error is compared with."""
    from torch_mars.envs import rules

    assert {*rules.SAID, "Options", *rules.SIZES} == set(BatchedEnv.__annotations__)
