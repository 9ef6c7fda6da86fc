"""The three lessons: what they share, their parts against worked examples, seeds side by side, determinism."""

import difflib
import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch
from share_lessons import shared, with_shared_part_of

import torch_mars.envs as envs
from torch_mars.algos import mars, recurrent
from torch_mars.envs import rng
from torch_mars.nn import layers
from torch_mars.nn.inputs import Unchanged
from torch_mars.nn.layers import Linear
from torch_mars.nn.optimizers import Adam
from torch_mars.run import cli, settings

ALGORITHMS = ("mappo", "maspo", "mars")
with_algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS)


def lesson(algorithm):
    return importlib.import_module(f"torch_mars.algos.{algorithm}")


def double(values):
    return torch.tensor(values, dtype=torch.float64)


# ---- the files ----


def text_of(algorithm):
    return Path(lesson(algorithm).__file__).read_text()


@pytest.mark.parametrize("other", ["mappo", "maspo"])
def test_lessons_differ_only_in_the_objective_and_its_arguments(other):
    common = shared(text_of("mars"))
    assert not list(difflib.unified_diff(common.splitlines(), shared(text_of(other)).splitlines(), lineterm=""))
    assert with_shared_part_of(text_of("mars"), text_of(other)) == text_of(other)
    lines = difflib.ndiff(text_of("mars").splitlines(), text_of(other).splitlines())
    assert sum(line.startswith(("- ", "+ ")) for line in lines) <= 60


def test_the_shared_part_is_written_into_another_lesson_and_nothing_else():
    changed = text_of("mars").replace("# ---- networks ----", "# ---- nets ----")
    written = with_shared_part_of(changed, text_of("mappo"))
    assert written == text_of("mappo").replace("# ---- networks ----", "# ---- nets ----")


@pytest.mark.parametrize("part", ["Learner.__init__", "collect", "iteration", "train"])
def test_what_the_recurrent_lesson_has_of_the_others_is_theirs(part):
    """An edit of mars.py that is written into the two others is to be made there, too."""

    def code(lesson):
        name, _, method = part.partition(".")
        found = getattr(lesson, name)
        lines = inspect.getsource(getattr(found, method) if method else found).splitlines()
        return [line.split("  #")[0] for line in lines if '"""' not in line]

    changed = {line.strip("+- ") for line in difflib.ndiff(code(mars), code(recurrent)) if line[0] in "+-"}
    own = {"rollout = Rollout(args, env, learner.actor)"}  # earlier, as it holds memories
    own |= {'parts = {"learner": learner, "env": run.whole(env), "best": best}'}
    own |= {'parts = {"learner": learner, "env": run.whole(env), "best": best, "memory": run.whole(rollout, axis=1)}'}
    assert changed - {""} == (own if part == "train" else set())


@with_algorithms
def test_a_lesson_has_less_than_500_lines_in_the_order_of_a_lesson(algorithm):
    text = text_of(algorithm)
    assert len(text.splitlines()) < 500
    order = [
        "class Args",
        "def policy_objective",
        "class Actor",
        "def collect",
        "def compute_gae",
        "def update",
        "def main",
    ]
    places = [text.index(f"\n{part}") for part in order]
    assert places == sorted(places)


@with_algorithms
def test_no_lesson_asks_which_algorithm_it_is(algorithm):
    assert not re.search(r"\bif .*(ALGORITHM|algo)\b", Path(lesson(algorithm).__file__).read_text())


# ---- advantages, value loss, normalisation: worked examples ----

REWARD = [1, 0, -0.5, 2, 0.25, 1.5]
VALUE = [0.5, 0.4, 0.3, 0.2, 0.1, 0.6, 0.7]
DEFAULT_ADVANTAGE = [0.0914963, -0.8554, -0.8, 2.040075, 0.15, 1.593]


def gae(reward):
    is_done = torch.tensor([False, False, True, False, True, False])
    return mars.compute_gae(double([reward]), double([VALUE]), is_done[None], 0.99, 0.95)[0]


def test_advantages_cut_at_every_end():
    torch.testing.assert_close(gae(REWARD), double(DEFAULT_ADVANTAGE), rtol=1e-6, atol=1e-7)


class FixedCritic:
    """Stands for a Learner whose value of a state is the state's only number."""

    def __init__(self):
        self.critic = Unchanged()
        self.critic.returns = Unchanged()


def example_rollout(bootstrap):
    args = mars.Args(env="paxmen_4a", num_envs=1, rollout_length=6, bootstrap_truncation=bootstrap)
    env = envs.make("paxmen_4a")
    env.reset()
    rollout = mars.Rollout(args, env, mars.Actor(env, mars.Args(hidden_size=8), [torch.Generator()]))
    rollout.reward = double(REWARD).view(1, 6, 1, 1)
    rollout.state = double(VALUE).view(1, 7, 1, 1)
    rollout.is_done = torch.tensor([False, False, True, False, True, False]).view(1, 6, 1)
    rollout.is_truncated = torch.tensor([False, False, False, False, True, False]).view(1, 6, 1)
    rollout.final_state = torch.full((1, 6, 1, 1), 0.9, dtype=torch.float64) if bootstrap else None
    return rollout, args


@pytest.mark.parametrize("bootstrap", [False, True])
def test_a_time_limit_is_bootstrapped_only_on_request(bootstrap):
    rollout, args = example_rollout(bootstrap)
    advantage, value, target = mars.advantages(rollout, FixedCritic(), args)
    expected = list(DEFAULT_ADVANTAGE)
    if bootstrap:
        expected[3], expected[4] = 2.8780605, 1.041
    torch.testing.assert_close(advantage.flatten(), double(expected), rtol=1e-6, atol=1e-7)
    assert value.flatten().tolist() == VALUE[:-1] and torch.equal(target, advantage + value)


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("module", [mars, recurrent], ids=["mars", "recurrent"])
def test_what_a_time_limit_cut_off_is_what_was_seen_before_the_next_start(module, independent):
    few = {"num_envs": 3, "rollout_length": 16, "hidden_size": 8}
    args = module.Args(env="paxmen_4a", bootstrap_truncation=True, independent=independent, **few)
    env, again = (envs.make("paxmen_4a", 3, seed=1, max_steps=5) for _ in range(2))
    env.reset(), again.reset()
    learner = module.Learner(args, env, [0])
    rollout = module.Rollout(args, env, learner.actor)
    module.collect(rollout, env, learner)
    for t in range(16):
        ts = again.step(rollout.action[0, t])
        assert torch.equal(rollout.final_state[0, t], ts.final_obs if independent else ts.final_state)
    assert rollout.is_truncated.any()


def test_what_is_seen_is_kept_once_where_the_state_is_the_observations():
    args = mars.Args(env="simple_spread_3ag", num_envs=2, rollout_length=3, num_seeds=2, hidden_size=8)
    env = envs.make(args.env, 4, seed=[0, 1])
    env.reset()
    learner = mars.Learner(args, env, [0, 1])
    rollout = mars.Rollout(args, env, learner.actor)
    mars.collect(rollout, env, learner)
    assert rollout.state.data_ptr() == rollout.obs.data_ptr() and rollout.obs.shape == (2, 4, 2, 3, 18)
    assert (
        torch.equal(rollout.state[:, -1].flatten(0, 1), env.observe().state) and rollout.state.abs().sum((2, 3)).all()
    )


@with_algorithms
@pytest.mark.parametrize("values", [1, 3])
def test_each_agent_has_its_own_advantage_where_rewards_are_its_own(algorithm, values):
    """The one value of the team's state is every agent's baseline, or each agent has its own."""
    module = lesson(algorithm)
    settings = {"num_envs": 4, "rollout_length": 30, "hidden_size": 8, "value_per_agent": values == 3}
    args = module.Args(env="simple_spread_3ag", **settings)
    env = envs.make(args.env, 4)
    env.reset()
    learner = module.Learner(args, env, [0])
    rollout = module.Rollout(args, env, learner.actor)
    module.collect(rollout, env, learner)
    advantage, value, target = module.advantages(rollout, learner, args)
    assert advantage.shape == (1, 30, 4, 3) and value.shape == (1, 30, 4, values)
    baseline = learner.critic(rollout.state).detach().expand(1, 31, 4, 3)
    for i in range(3):
        alone = module.compute_gae(
            rollout.reward[..., i], baseline[..., i], rollout.is_done, args.gamma, args.gae_lambda
        )
        torch.testing.assert_close(advantage[..., i], alone)
    assert (advantage[..., 0] != advantage[..., 1]).any(), "nobody touched anybody: the rewards were all the same"
    before = weights(learner)
    module.update(rollout, advantage, value, target, learner, args)
    assert (weights(learner) != before).any()


@with_algorithms
def test_values_per_agent_regress_on_each_agent_s_own_return(algorithm):
    """Paid 0, 1 and 2 a step, agents are worth 0, 10 and 20 in episodes of 10 steps without discount."""
    module = lesson(algorithm)
    args = module.Args(
        env="simple_spread_3ag", num_envs=8, rollout_length=10, value_per_agent=True, gamma=1, gae_lambda=1,
        critic_lr=0.01, value_clip=100, epochs=200, minibatches=1, max_grad_norm=100,
    )  # fmt: skip
    env = envs.make(args.env, 8)
    env.reset()
    learner = module.Learner(args, env, [0])
    rollout = module.Rollout(args, env, learner.actor)
    module.collect(rollout, env, learner)
    rollout.reward[:] = torch.arange(3.0)
    rollout.is_done[:, -1] = True
    module.update(rollout, *module.advantages(rollout, learner, args), learner, args)
    at_start = learner.critic(rollout.state)[0, 0].mean(0)
    torch.testing.assert_close(at_start, torch.tensor([0.0, 10.0, 20.0]), atol=1.5, rtol=0)


def test_values_per_agent_are_refused_where_the_team_is_paid_as_one():
    with pytest.raises(cli.UsageError, match="--value-per-agent is True; paxmen_4a pays all agents alike"):
        settings.check(mars.Args(env="paxmen_4a", eval_every=1, device="cpu", value_per_agent=True))


def test_advantages_are_normalised_with_the_population_deviation():
    normalised = mars.normalise(double(DEFAULT_ADVANTAGE).view(1, 6, 1)).flatten()
    expected = [-0.252688362, -1.112240295, -1.061950546, 1.51614798, -0.199581207, 1.11031243]
    torch.testing.assert_close(normalised, double(expected), rtol=1e-7, atol=1e-8)


def test_advantages_are_normalised_for_each_seed_by_itself():
    values = torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 10, 100]).view(
        3, 1, 1
    )
    normalised = mars.normalise(values)
    for seed in range(3):
        torch.testing.assert_close(normalised[seed], mars.normalise(values[seed : seed + 1])[0])
        assert normalised[seed].std(correction=0) == pytest.approx(1, abs=1e-5)


def test_the_value_loss_takes_the_larger_of_both_errors():
    value, target = double([0.9, 0.6, 0.1, 0.9]), double([1, 1, 1, 0.2])
    loss = mars.value_loss(value, double([0.5] * 4), target, 0.2)
    torch.testing.assert_close(2 * loss, double([0.09, 0.16, 0.81, 0.49]))
    assert loss.mean().item() == pytest.approx(0.19375)


# ---- policies ----


def test_tanh_normal_log_prob_with_its_tails():
    log_std = double([0.0])
    rows = [
        (0.0, 0.0, -0.553867268), (0.5, 0.0, -0.579294368), (0.5, 0.3, -0.330681204), (-0.9, 0.3, -2.152267630),
        (0.9989, 0.3, -6.803160482), (0.999, 0.3, -8.378272223), (1.0, 0.3, -8.378272223), (-1.0, 0.3, -13.259391230),
        (1.0, 2.0, 1.558483752),
    ]  # fmt: skip
    for action, mean, expected in rows:
        policy = mars.TanhNormal(double([mean]), log_std)
        assert policy.std.item() == pytest.approx(0.694147181, rel=1e-8)
        assert policy.log_prob(double([action])).item() == pytest.approx(expected, rel=1e-8)
        single = mars.TanhNormal(torch.tensor([mean]), torch.tensor([0.0])).log_prob(torch.tensor([action]))
        assert single.item() == pytest.approx(expected, rel=3e-4, abs=1e-5)


def test_tanh_normal_density_integrates_to_one():
    policy = mars.TanhNormal(double([0.7]), double([0.3]))
    action = torch.linspace(-1, 1, 2_000_001, dtype=torch.float64)[:, None]
    assert torch.trapezoid(policy.log_prob(action).exp(), action[:, 0]).item() == pytest.approx(1, abs=1e-4)


def test_tanh_normal_entropy_is_the_mean_negative_log_density():
    noise = rng.normal(rng.keys(0, 1), 400_000)[0].double().view(-1, 1)
    policy = mars.TanhNormal(double([0.2]), double([-1.0]))
    assert policy.entropy(noise).mean().item() == pytest.approx(
        -policy.log_prob(policy.sample(noise)).mean().item(), abs=0.01
    )
    start = mars.TanhNormal(double([0.0]), double([0.0]))
    assert (start.entropy(double([0.0]))).item() == pytest.approx(1.053867268)  # at u = 0 the tanh adds nothing


def test_tanh_normal_extremes_have_finite_gradients():
    mean = torch.tensor([0.0, 50.0, -50.0], requires_grad=True)
    log_std = torch.tensor([0.0, -20.0, 3.0], requires_grad=True)
    for action in (1.0, -1.0, 0.99899, 0.0):
        policy = mars.TanhNormal(mean[:, None], log_std[:, None])
        policy.log_prob(torch.full((3, 1), action)).sum().backward()
    assert mean.grad.isfinite().all() and log_std.grad.isfinite().all()


def test_categorical_samples_follow_the_probabilities_and_the_mask():
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
    mask = torch.tensor([True, False, True, True])
    policy = mars.Categorical(logits.expand(200_000, 4), mask)
    actions = policy.sample(rng.uniform(rng.keys(1, 1), 200_000)[0][0])
    share = torch.bincount(actions, minlength=4) / 200_000
    expected = torch.where(mask, logits, -torch.inf).softmax(0)
    assert share[1] == 0
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / 200_000).sqrt() + 1e-9).all()
    almost_one = torch.full((4,), 1 - 2.0**-24)
    last_forbidden = mars.Categorical(logits.expand(4, 4), torch.tensor([True, True, True, False]))
    assert (last_forbidden.sample(almost_one) == 2).all()
    assert (last_forbidden.mode() == 2).all()


def test_a_single_allowed_action_has_no_entropy_and_no_gradient():
    logits = torch.randn(5, requires_grad=True)
    policy = mars.Categorical(logits, torch.tensor([False, False, True, False, False]))
    log_prob, entropy = policy.log_prob(torch.tensor(2)), policy.entropy()
    assert log_prob.item() == 0 and entropy.item() == pytest.approx(0, abs=1e-7)
    (log_prob + entropy).backward()
    assert logits.grad.abs().max() < 1e-6


def test_the_entropy_of_a_fair_draw_is_the_logarithm_of_its_actions():
    mask = torch.tensor([[True, True, True, True], [True, False, True, False]])
    entropy = mars.Categorical(torch.zeros(2, 4), mask).entropy()
    torch.testing.assert_close(entropy, torch.tensor([4.0, 2.0]).log())


def test_weights_start_orthogonal_with_their_gain():
    layer = Linear(6, 4, 0.5, [torch.Generator().manual_seed(p) for p in range(2)])
    for weight in layer.weight.detach():
        torch.testing.assert_close(weight @ weight.T, torch.eye(4) / 4, atol=1e-6, rtol=0)
    assert not layer.bias.any() and not torch.equal(*layer.weight)


@pytest.mark.parametrize("by_onednn", [False, layers.HAS_ONEDNN])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("inputs, outputs", [(5, 12), (12, 5)])
def test_a_layer_is_that_of_float64_whichever_library_multiplies(by_onednn, seeds, inputs, outputs, monkeypatch):
    """A machine trains with one choice of libraries: here both, with rows as a portion of a minibatch has them."""
    monkeypatch.setattr(layers, "SEEDS_BY_ONEDNN", by_onednn)
    monkeypatch.setattr(layers, "LONG_BY_ONEDNN", by_onednn)
    layer = Linear(inputs, outputs, 1.0, [torch.Generator().manual_seed(p) for p in range(seeds)], relu=True)
    torch.nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(7))
    rows = torch.randn(seeds, 40, inputs, generator=torch.Generator().manual_seed(8))[:, 10:30].requires_grad_()
    given = [rows, layer.weight, layer.bias]
    x, weight, bias = (tensor.detach().double().requires_grad_() for tensor in given)

    y, exact = layer(rows), torch.relu(x @ weight.mT + bias)
    torch.testing.assert_close(y.double(), exact, atol=1e-5, rtol=0)
    torch.testing.assert_close(layers.product(*given).double(), x @ weight.mT + bias, atol=1e-5, rtol=0)
    for gradient, wanted in zip(
        torch.autograd.grad(y.sin().sum(), given), torch.autograd.grad(exact.sin().sum(), [x, weight, bias])
    ):
        torch.testing.assert_close(gradient.double(), wanted, atol=1e-5, rtol=0)


# ---- training ----


def trainer(algorithm="mars", seeds=(0,), **settings):
    """One function that does an update and returns its diagnostics, and the learner and environments behind it."""
    module = lesson(algorithm)
    settings = {"num_envs": 8, "rollout_length": 16, "hidden_size": 16, "device": "cpu", **settings}
    args = module.Args(num_seeds=len(seeds), **settings)
    env_seeds = [rng.derive(s, "environment") for s in seeds]
    env = envs.make(args.env, len(seeds) * args.num_envs, "cpu", env_seeds)
    env.reset()
    learner = module.Learner(args, env, list(seeds))
    rollout = module.Rollout(args, env, learner.actor)

    def one_update():
        (env.state, learner.key), numbers = module.iteration((env.state, learner.key), env, rollout, learner, args)
        return numbers

    return one_update, learner, env


def weights(learner, seed=0):
    parameters = [*learner.actor.parameters(), *learner.critic.parameters()]
    return torch.cat([p[seed].detach().flatten() for p in parameters])


def train(updates=3, **kwargs):
    one_update, learner, _ = trainer(**kwargs)
    for _ in range(updates):
        one_update()
    return learner


@with_algorithms
def test_the_first_minibatch_has_ratio_one(algorithm):
    one_update, _, _ = trainer(algorithm, seeds=(0, 1), actor_lr=0.01)
    for _ in range(4):
        diagnostics = one_update()
        assert diagnostics["first_max_abs_log_ratio"].max() < 1e-5
        assert diagnostics["max_abs_log_ratio"].min() > 1e-3


def test_equal_seeds_give_equal_numbers_and_others_do_not():
    first, second, other = (weights(train(seeds=(s,))) for s in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_seed_trained_beside_others_is_the_seed_trained_alone():
    together = train(seeds=(3, 4, 5), updates=2)
    for place, seed in enumerate((3, 4, 5)):
        torch.testing.assert_close(
            weights(together, place), weights(train(seeds=(seed,), updates=2)), atol=1e-4, rtol=1e-3
        )


def test_seeds_side_by_side_do_not_influence_one_another():
    """Another policy and other situations for seed 1 leave every number of seeds 0 and 2 as it was, bit for bit."""
    undisturbed = train(seeds=(0, 1, 2))
    one_update, learner, env = trainer(seeds=(0, 1, 2))
    with torch.no_grad():
        for p in [*learner.actor.parameters(), *learner.critic.parameters()]:
            p[1] += 3.0
    fields = env.state_dict()
    fields["rng"][8:16] += 12345
    fields["dot_active"][8:16, ::2] = False
    env.load_state(fields)
    for _ in range(3):
        diagnostics = one_update()
    for seed in (0, 2):
        assert torch.equal(weights(learner, seed), weights(undisturbed, seed))
    assert not torch.allclose(weights(learner, 1), weights(undisturbed, 1))
    assert all(values.shape == (3,) for values in diagnostics.values())


def test_gradients_are_clipped_per_seed_and_non_finite_ones_skipped():
    """Beside PyTorch's Adam for one seed at a time, with PyTorch's clipping."""
    start = torch.randn(3, 4), torch.randn(3, 1, 2)
    parameters = [torch.nn.Parameter(x.clone()) for x in start]
    adam = Adam(parameters, lr=0.1, eps=1e-5)
    alone = [[torch.nn.Parameter(x[p].clone()) for x in start] for p in range(3)]
    theirs = [torch.optim.Adam(of_seed, lr=0.1, eps=1e-5) for of_seed in alone]
    for step in range(6):
        gradients = [scale * torch.randn_like(x) for scale, x in zip((1.0, 0.01), start)]
        gradients[0][1] *= 0.01  # which needs no clipping
        if step in (2, 3):
            gradients[0][0, 2] = float("nan") if step == 2 else float("inf")
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient.clone()
        norm = adam.apply_gradients(0.5)
        for p in range(3):
            for parameter, gradient in zip(alone[p], gradients):
                parameter.grad = gradient[p].clone()
            expected = torch.nn.utils.clip_grad_norm_(alone[p], 0.5)
            if not expected.isfinite():
                assert not norm[p].isfinite()
                before = [x.detach().clone() for x in alone[p]]
                for x in alone[p]:
                    x.grad = torch.zeros_like(x)
                theirs[p].step()
                for x, old in zip(alone[p], before):
                    x.data.copy_(old)  # no weight moves, though momentum would
                continue
            assert norm[p].item() == pytest.approx(expected.item(), rel=1e-5)
            theirs[p].step()
        for parameter, *of_seeds in zip(parameters, *alone):
            assert parameter.grad is None
            torch.testing.assert_close(parameter.detach(), torch.stack(of_seeds).detach(), rtol=1e-5, atol=1e-6)


def test_adam_says_what_pytorchs_says_and_takes_it_over():
    parameters, others = ([torch.nn.Parameter(torch.ones(2, 3))] for _ in range(2))
    adam, theirs = Adam(parameters, 0.1, 1e-5), torch.optim.Adam(others, 0.1, eps=1e-5)
    for x in (*parameters, *others):
        x.grad = torch.full_like(x, 0.01)
    adam.apply_gradients(9.0)
    theirs.step()
    ours, expected = adam.state_dict(), theirs.state_dict()
    assert ours["state"].keys() == expected["state"].keys()
    for name, tensor in expected["state"][0].items():
        torch.testing.assert_close(ours["state"][0][name], tensor)
    assert ours["param_groups"][0].items() <= expected["param_groups"][0].items()
    other = Adam(others, 0.1, 1e-5)
    other.load_state_dict(expected)
    assert torch.equal(other.state_dict()["state"][0]["exp_avg"], expected["state"][0]["exp_avg"])
    with pytest.raises(ValueError, match="lr of the optimizer is 0.1; it must be 0.2"):
        Adam(others, 0.2, 1e-5).load_state_dict(expected)


def test_truncation_bootstrap_changes_training_only_through_time_limits():
    short = {"env_options": {}, "rollout_length": 8}  # no episode ends within three rollouts of 8 steps
    plain, bootstrapped = (weights(train(bootstrap_truncation=b, **short)) for b in (False, True))
    assert torch.equal(plain, bootstrapped)


@pytest.mark.parametrize("module", [mars, recurrent], ids=["mars", "recurrent"])
def test_an_evaluation_keeps_nothing_for_gradients(module, monkeypatch):
    """A memory would lead back to the first step of an episode."""
    args = module.Args(env="paxmen_4a", num_seeds=1, hidden_size=8)
    env = envs.make("paxmen_4a", 2, max_steps=3)
    actor, step, asked = module.Actor(env, args, [torch.Generator()]), env.step, []

    def watched(actions):
        asked.append(torch.is_grad_enabled())
        return step(actions)

    monkeypatch.setattr(env, "step", watched)
    module.evaluate(env, actor, [0], args)
    assert asked == [False] * 3


@pytest.mark.parametrize(
    "algorithm, settings",
    [("mars", {}), *(pytest.param(name, {}, marks=pytest.mark.slow) for name in ("mappo", "maspo"))],
)
def test_a_short_run_clearly_beats_random_play(algorithm, settings):
    """Three seeds, 33,000 steps of a 4-agent board with a high learning rate, one-sided t-test against random play."""
    module = lesson(algorithm)
    seeds = [0, 1, 2]
    one_update, learner, env = trainer(
        algorithm, tuple(seeds), env="paxmen_4a", num_envs=32, rollout_length=64, hidden_size=64,
        actor_lr=2e-3, critic_lr=2e-3, bootstrap_truncation=True, value_clip=5.0, **settings,
    )  # fmt: skip
    args = module.Args(env="paxmen_4a", num_seeds=3)
    eval_env = envs.make("paxmen_4a", 3 * 64)
    before = torch.tensor(module.evaluate(eval_env, learner.actor, seeds, args)["episode_return"]).mean(1)
    for _ in range(40):
        one_update()
    after = torch.tensor(module.evaluate(eval_env, learner.actor, seeds, args)["episode_return"]).mean(1)
    gain = after - before
    t_value = gain.mean() / (gain.std() / 3**0.5)
    assert t_value > 2.92, f"gains of seeds 0, 1, 2: {gain.tolist()}"  # 95%, two degrees of freedom
    assert gain.mean() > 0.5
