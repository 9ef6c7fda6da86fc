"""What makes a comparison fair: the paper's preset, trust regions of equal strength, exact tests, equal weights."""

import importlib.util
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pytest
import scipy.stats
import torch
import yaml

from torch_mars import algos, envs, experiment, plot, tune
from torch_mars.algos import mars
from torch_mars.nn.diagnostics import QUANTILES, over_minibatches, ratio_diagnostics
from torch_mars.protocol import gather, grids, intervals, methods, saved, studies, trainings
from torch_mars.run import settings
from torch_mars.run.cli import UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def only_the_paper_s_methods():
    """Independent ones join when they are asked for: here they leave again."""
    yield
    for name in methods.INDEPENDENT:
        methods.METHODS.pop(name, None)


# ---- the paper's preset ----

TABLE_3 = {"rollout_length": 128, "gamma": 0.99, "gae_lambda": 0.95, "value_coef": 0.5, "max_grad_norm": 0.5}
MAVA = {
    "num_envs": 64, "actor_lr": 2.5e-4, "critic_lr": 2.5e-4, "adam_eps": 1e-5, "epochs": 4, "minibatches": 2,
    "entropy_coef": 0.01, "value_clip": 0.2, "hidden_size": 128, "value_per_agent": False,
    "bootstrap_truncation": False, "critic_gain": 1.0, "independent": False,
}  # fmt: skip


@pytest.mark.parametrize("task", ["paxmen_5a", "jaxnav_7x7x2a", "smax_2s3z", "simple_spread_3ag", "aerojax_2v2"])
@pytest.mark.parametrize("lesson", ["mappo", "maspo", "mars"])
def test_the_preset_is_the_paper_s_table_and_mava_s_defaults_whatever_yaml_says(lesson, task):
    module = algos.lesson(lesson)
    args = settings.parse(module.Args, module.ratio_range, lesson, ["--preset", "paper", "--env", task])
    assert {name: getattr(args, name) for name in TABLE_3 | MAVA} == TABLE_3 | MAVA
    low, high = module.ratio_range(args)
    expected = methods.matched(0.2)
    wanted = (expected["contract"], expected["expand"]) if lesson == "mars" else (0.8, 1.2)
    assert (low, high) == pytest.approx(wanted)
    given = settings.parse(module.Args, module.ratio_range, lesson, ["--preset=paper", "--gamma=0.9", "--env", task])
    assert given.gamma == 0.9 and given.rollout_length == 128


@dataclass
class OwnArgs(settings.RunArgs):
    """Of a user's lesson, which need not have all settings of ours."""

    gamma: float = 0.5
    clip: float = 0.3


def test_a_lesson_of_a_user_s_own_gets_the_preset_s_settings_that_it_has():
    expected = {"num_envs": 64, "gamma": 0.99, "eval_episodes": 32}
    assert settings.preset_settings(OwnArgs, "paper", "my_method") == expected


def test_settings_tuned_with_one_preset_cannot_be_trained_with_another(tmp_path):
    (tmp_path / "own.yaml").write_text("preset: paper")
    line = f"--envs paxmen_4a --run-dir {tmp_path} --budget quick --config {tmp_path}/own.yaml"
    args = experiment.make_parser().parse_args(line.split())
    assert {cell.settings["preset"] for cell in grids.make_grid(args)} == {"paper"}
    with pytest.raises(UsageError, match="--preset is 'ours', but the settings given for MARS on paxmen_4a were made"):
        grids.make_grid(experiment.make_parser().parse_args([*line.split(), "--preset", "ours"]))


def test_methods_of_a_task_are_not_compared_under_different_presets(tmp_path):
    (tmp_path / "paxmen_4a").mkdir()
    (tmp_path / "paxmen_4a" / "mars.yaml").write_text("preset: ours")
    line = f"--envs paxmen_4a --run-dir {tmp_path} --tuned {tmp_path}"
    with pytest.raises(UsageError, match="MARS is trained with --preset ours and MAPPO with paper"):
        grids.make_grid(experiment.make_parser().parse_args(line.split()))


@pytest.mark.parametrize("preset", ["ours", "paper"])
@pytest.mark.parametrize("task", ["paxmen_4a", "jaxnav_7x7x2a"])
def test_mars_in_the_ablation_has_its_neighbours_space_and_starts_where_they_do(task, preset):
    mars, neighbour = (
        plan(*words, "--preset", preset) for words in (("mars", task, "--ablation"), ("maspo_asymmetric", task))
    )
    assert np.allclose(sorted(x - 1 for x in mars.space["expand"]), sorted(neighbour.space["clip_high"]))
    assert np.allclose(sorted(1 - x for x in mars.space["contract"]), sorted(neighbour.space["clip_low"]))
    assert np.isclose(mars.defaults["expand"] - 1, neighbour.defaults["clip_high"])
    assert np.isclose(1 - mars.defaults["contract"], neighbour.defaults["clip_low"])


def test_a_default_of_four_digits_is_the_grid_s_own_number():
    space = plan("mars", "paxmen_4a", "--preset", "ours").space
    assert space["expand"] == tuple(methods.matched(s)["expand"] for s in methods.STRENGTHS)


def test_an_unknown_preset_is_refused(capsys):
    with pytest.raises(SystemExit):
        mars.main(["--preset", "papr"])
    assert "--preset is 'papr'; did you mean paper?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, preset",
    [("", "paper"), ("--preset ours", "ours"), ("--budget quick", "ours"), ("--budget quick --preset paper", "paper")],
)
def test_the_paper_s_budget_implies_its_preset(flags, preset, tmp_path):
    args = experiment.make_parser().parse_args(f"--envs smax_2s3z --run-dir {tmp_path} {flags}".split())
    for cell in grids.make_grid(args):
        assert cell.settings["preset"] == preset
        assert cell.settings["actor_lr"] == (2.5e-4 if preset == "paper" else 2e-3)
    plan = studies.Plan(tune.make_parser().parse_args(f"--algo maspo --env smax_2s3z {flags}".split()))
    assert plan.kept["preset"] == preset and plan.defaults["actor_lr"] == (2.5e-4 if preset == "paper" else 2e-3)


def test_ablations_have_mava_s_clip_by_the_preset(tmp_path):
    args = experiment.make_parser().parse_args(f"--envs paxmen_4a --run-dir {tmp_path} --algos ablations".split())
    ranges = [cell.method.module.ratio_range(trainings.resolve(cell.method, cell.given)) for cell in
              grids.make_grid(args)]  # fmt: skip
    multiplicative = (math.exp(-math.atanh(0.2)), math.exp(math.atanh(0.2)))
    assert np.allclose(ranges, [(0.8, 1.2), (0.8, 1.2), multiplicative, (0.8, 1.2)])


def deviations_script():
    spec = importlib.util.spec_from_file_location("deviations", ROOT / "docs" / "deviations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_deviations_is_complete(tmp_path, monkeypatch):
    script = deviations_script()
    assert (ROOT / "docs" / "deviations.md").read_text() == script.page(), "run python docs/deviations.py"
    for path in settings.YAML_DIRECTORY.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    content = yaml.safe_load((tmp_path / "connector.yaml").read_text())
    content["family"]["gae_lambda"] = 0.123
    content["tasks"] = {"connector_7x7x5a": {"epochs": 17}}
    (tmp_path / "connector.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(settings, "YAML_DIRECTORY", tmp_path)
    page = script.page()
    assert "| `gae_lambda` | 0.123 | 0.95 | paper | Connector |" in page
    assert "| `epochs` | 17 | 4 | Mava | connector_7x7x5a |" in page
    for lesson in algos.LESSONS:  # nothing that differs is left out
        module = algos.lesson(lesson)
        for task in envs.TASKS:
            ours, paper = (
                settings.resolve(module.Args, module.ratio_range, lesson, {"env": task, "preset": p, "device": "cpu"})
                for p in settings.PRESETS
            )
            for name in vars(ours).keys() - {"preset", "total_steps", "eval_every"}:
                assert getattr(ours, name) == getattr(paper, name) or f"| `{name}` | " in page, (task, name)


# ---- matched strength ----


def slope_of_force(lesson, sign, **trust_region):
    """Of dJ / dlog r at r = 1, by central differences in float64."""
    module = algos.lesson(lesson)
    args, forces = module.Args(**trust_region), []
    for log_ratio in (-1e-4, 1e-4):
        log_ratio = torch.tensor(log_ratio, dtype=torch.float64, requires_grad=True)
        module.policy_objective(log_ratio, torch.tensor(sign, dtype=torch.float64), args).backward()
        forces.append(log_ratio.grad.item())
    return (forces[1] - forces[0]) / 2e-4


@pytest.mark.parametrize("s", methods.STRENGTHS)
def test_equal_strengths_pull_back_alike_over_both_signs(s):
    regions = methods.matched(s)
    maspo = {sign: slope_of_force("maspo", sign, clip=regions["clip"]) for sign in (1.0, -1.0)}
    inverse = {"expand": regions["expand"], "contract": regions["contract"]}
    own = {sign: slope_of_force("mars", sign, **inverse) for sign in (1.0, -1.0)}
    assert (maspo[1.0] + maspo[-1.0]) / 2 == pytest.approx(-1 / s, rel=1e-5)
    assert (own[1.0] + own[-1.0]) / 2 == pytest.approx(-1 / s, rel=1e-5)
    assert [maspo[1.0], maspo[-1.0]] == pytest.approx([1 - 1 / s, -1 - 1 / s], rel=1e-5)
    assert [own[1.0], own[-1.0]] == pytest.approx([-1 / s] * 2, rel=1e-5)  # symmetric: each sign has the mean
    assert methods.strength(regions["expand"]) == pytest.approx(s)


def test_strengths_that_people_use_and_others():
    assert [round(methods.strength(expand), 3) for expand in (1.5, 2.0, 4.0)] == [0.385, 0.6, 0.882]
    for wrong in (0.0, 1.0, -1, math.nan):
        with pytest.raises(ValueError, match="it must be between 0 and 1"):
            methods.matched(wrong)


# ---- what tuning searches ----


def plan(name, task="smax_2s3z", *more):
    return studies.Plan(tune.make_parser().parse_args(["--algo", name, "--env", task, "--device", "cpu", *more]))


@pytest.mark.parametrize("preset", ["ours", "paper"])
@pytest.mark.parametrize("task", ["smax_2s3z", "jaxnav_7x7x2a", "aerojax_2v2", "paxmen_5a", "search_and_rescue_2x20"])
def test_spaces_contain_the_defaults_and_are_alike_but_for_the_trust_region(task, preset):
    plans = {name: plan(name, task, "--preset", preset) for name in (*methods.MAIN, "imars", "mars_additive")}
    shared = [{name: one.space[name] for name in methods.SHARED_SPACE} for one in plans.values()]
    assert all(space == shared[0] for space in shared)
    for name, one in plans.items():
        assert one.defaults and all(value in one.space[key] for key, value in one.defaults.items()), name
        region = next(setting for setting in ("expand", "additive_clip", "clip") if setting in one.space)
        strengths = [methods.strength(v) if region == "expand" else v for v in one.space[region]]
        assert {round(s, 9) for s in strengths} >= set(methods.STRENGTHS), name
    targets = plans["mars"].space
    assert sorted(1 / value for value in targets["contract"]) == pytest.approx(sorted(targets["expand"]))


def test_the_defaults_are_trial_0(tmp_path):
    one = plan("mars", "paxmen_4a", "--preset", "ours", "--out", str(tmp_path), "--budget", "smoke")
    study = studies.open_study(one)
    trial, parameters = studies.next_trial(study, one)
    assert trial.number == 0 and parameters == one.defaults
    assert parameters["expand"] == methods.matched(0.4)["expand"]
    assert parameters["contract"] == methods.matched(0.4)["contract"]
    assert parameters["actor_lr"] == 5e-4 and parameters["epochs"] == 4
    study.tell(trial, 1.0)
    _, others = studies.next_trial(study, one)
    assert others != one.defaults
    studies.open_study(one)  # again: the defaults do not come twice
    waiting = [t for t in study.get_trials() if t.state == optuna.trial.TrialState.WAITING]
    assert not waiting


def test_the_paper_s_space_stays_as_it_is():
    one = plan("mars", "smax_2s3z", "--space", "paper")
    assert one.space == methods.PAPER_SPACE | {"expand": methods.EXPANDS, "contract": methods.CONTRACTS}
    assert one.best.parts[-3:] == ("paper-paper", "smax_2s3z", "mars.yaml")


def test_experiment_finds_what_was_tuned_in_any_space(tmp_path):
    for flags, folder in (([], "quick"), (["--space", "paper", "--wide"], "quick-paper-wide")):
        one = plan("mars", "smax_2s3z", "--budget", "quick", "--out", str(tmp_path), *flags)
        one.best.parent.mkdir(parents=True)
        one.best.write_text(f"actor_lr: {one.space['actor_lr'][-1]}\n")
        found = grids.tuned(str(tmp_path / folder), "smax_2s3z", methods.named("mars"))
        assert found == {"actor_lr": one.space["actor_lr"][-1]}


# ---- permutation test ----


def scipys(x, y):
    return scipy.stats.permutation_test(
        (x, y), lambda a, b, axis: a.mean(axis) - b.mean(axis), vectorized=True, n_resamples=np.inf
    ).pvalue


def test_permutation_p_is_scipy_s_on_all_cases_of_3_against_3():
    """All orders of six different scores, and of some that are equal."""
    import itertools

    for scores in ([1.0, 2, 4, 8, 16, 32], [0.1, 0.1, 0.2, 0.3, 0.3, 0.3]):
        for chosen in itertools.combinations(range(6), 3):
            x = np.array([scores[i] for i in chosen])
            y = np.array([scores[i] for i in range(6) if i not in chosen])
            assert intervals.permutation_p([x], [y]) == pytest.approx(scipys(x, y), abs=1e-9), (x, y)


@pytest.mark.parametrize("sizes", [(5, 5), (3, 6), (10, 4), (10, 10)])
def test_permutation_p_is_scipy_s_for_other_numbers_of_seeds(sizes):
    generator = np.random.default_rng(0)
    for shift in (0.0, 1.0, 3.0):
        x, y = generator.normal(shift, size=sizes[0]), generator.normal(size=sizes[1])
        assert intervals.permutation_p([x], [y]) == pytest.approx(scipys(x, y), abs=1e-9)


def test_over_tasks_seeds_change_sides_within_each():
    """Two tasks of 3 against 3, all 400 exchanges by hand; of many tasks a sample, close to the truth."""
    import itertools

    tasks = [(np.array([3.0, 4, 5]), np.array([1.0, 2, 6])), (np.array([0.5, 0.7, 0.9]), np.array([0.1, 0.6, 0.2]))]
    differences = []
    for x, y in tasks:
        both = np.concatenate([x, y])
        sums = [both[list(chosen)].sum() for chosen in itertools.combinations(range(6), 3)]
        differences.append([(2 * s - both.sum()) / 3 for s in sums])
    means = np.add.outer(*map(np.array, differences)).ravel() / 2
    observed = np.mean([x.mean() - y.mean() for x, y in tasks])
    expected = 2 * min((means >= observed - 1e-12).mean(), (means <= observed + 1e-12).mean())
    x, y = zip(*tasks)
    assert intervals.permutation_p(x, y) == pytest.approx(expected)
    assert intervals.permutation_p(x, y, ["a", "b"]) == pytest.approx(expected)  # two environments of one task each
    twice = intervals.permutation_p(x * 3, y * 3)
    assert intervals.permutation_p(x * 3, y * 3) == twice < expected  # sampled, but always alike


# ---- environments count alike ----


def test_p_weighs_environments_not_tasks():
    """Two tasks of one environment and one of another, two seeds against two: all 216 exchanges by hand."""
    x = [np.array([3.0, 4]), np.array([2.0, 5]), np.array([0.0, 1])]
    y = [np.array([1.0, 2]), np.array([1.0, 3]), np.array([0.5, 2])]
    differences = []
    for a, b in zip(x, y):
        both = np.concatenate([a, b])
        differences.append([both[list(i)].sum() - both.sum() / 2 for i in itertools.combinations(range(4), 2)])
    for groups, weights in ((None, (1 / 3, 1 / 3, 1 / 3)), (["a", "a", "b"], (1 / 4, 1 / 4, 1 / 2))):
        found = [np.dot(weights, chosen) for chosen in itertools.product(*differences)]
        observed = np.dot(weights, [a.mean() - b.mean() for a, b in zip(x, y)])
        above, below = np.mean(np.array(found) >= observed - 1e-9), np.mean(np.array(found) <= observed + 1e-9)
        assert intervals.permutation_p(x, y, groups) == pytest.approx(min(1, 2 * min(above, below)))
    assert intervals.permutation_p(x, y) != intervals.permutation_p(x, y, groups)


def test_aggregates_weigh_environments_not_tasks():
    x = [np.array([1.0, 1, 1, 1])] * 3 + [np.array([0.0, 0, 0, 0])]
    y = [np.array([0.5] * 4)] * 4
    groups = ["a", "a", "a", "b"]
    assert intervals.overall_iqm(x) == 1.0 and intervals.overall_iqm(x, groups) == 0.5
    assert intervals.probability_of_improvement(x, y) == 0.75
    assert intervals.probability_of_improvement(x, y, groups) == 0.5
    low, high = intervals.iqm_interval(x, 100, groups=groups)
    assert low == high == 0.5 and intervals.improvement_interval(x, y, 100, groups=groups) == (0.5, 0.5)


# ---- diagnostics ----


def test_diagnostics_are_the_shares_and_quantiles_of_the_minibatches():
    log_ratio = torch.linspace(-1, 1, 1001, dtype=torch.float64).view(1, 1001, 1)
    force = (log_ratio.abs() > 0.25).double()
    one = ratio_diagnostics(log_ratio, (0.8, 1.2), force)
    norms = {"actor_grad_norm": torch.ones(2, 1), "critic_grad_norm": torch.ones(2, 1)}
    found = over_minibatches({**{name: value.expand(2, 1) for name, value in one.items()}, **norms})
    assert found["frac_no_force"].item() == pytest.approx((log_ratio.abs() <= 0.25).double().mean().item())
    for name, q in QUANTILES.items():
        assert found[name].item() == pytest.approx(np.exp(np.quantile(log_ratio.numpy(), q)), rel=2e-3)
    assert found["ratio_min"] < found["ratio_q001"] < found["ratio_q01"] < found["ratio_q50"] < found["ratio_q999"]


def test_divergence_and_the_share_outside_of_three_ratios():
    """1/2, 1 and 2: r - 1 - log r is log 2 - 1/2, 0 and 1 - log 2; two of them are outside, one on either side."""
    one = ratio_diagnostics(torch.tensor([0.5, 1.0, 2.0]).log().view(1, 3, 1), (0.8, 1.2))
    assert one["approx_kl"].item() == pytest.approx(1 / 6)
    assert one["frac_outside"].item() == pytest.approx(2 / 3)
    assert "frac_no_force" not in one  # who does not say the force learns nothing of it


def test_extremes_of_an_update_are_those_of_its_minibatches():
    """Of two, with ratios from 1/4 to 1, and from 1/2 to 3."""
    parts = [
        ratio_diagnostics(torch.tensor([[[low], [high]]]).log(), (0.8, 1.2)) for low, high in ((0.25, 1), (0.5, 3))
    ]
    norms = dict.fromkeys(("actor_grad_norm", "critic_grad_norm"), torch.ones(2, 1))
    found = over_minibatches({**{name: torch.stack([part[name] for part in parts]) for name in parts[0]}, **norms})
    expected = {"ratio_max": 3, "ratio_min": 0.25, "ratio_max_mean": 2, "ratio_min_mean": 0.375}
    expected |= {"max_abs_log_ratio": math.log(4), "first_max_abs_log_ratio": math.log(4)}
    assert {name: found[name].item() for name in expected} == pytest.approx(expected)


def test_a_norm_is_that_of_the_steps_that_were_taken():
    one = ratio_diagnostics(torch.zeros(2, 8, 1), (0.8, 1.2), torch.ones(2, 8, 1))
    seen = {name: value.expand(3, 2) for name, value in one.items()}
    actor = torch.tensor([[1.0, torch.nan], [torch.inf, torch.nan], [3.0, torch.nan]])
    found = over_minibatches({**seen, "actor_grad_norm": actor, "critic_grad_norm": torch.ones(3, 2)})
    assert found["actor_grad_norm"][0] == 2 and found["actor_grad_norm"][1].isnan()
    assert found["skipped_steps"].tolist() == [1, 3] and found["critic_grad_norm"].tolist() == [1, 1]


TINY = "--env paxmen_4a --num-envs 8 --rollout-length 16 --hidden-size 16 --eval-episodes 2 --device cpu".split()


def train(folder, lesson, *more):
    arguments = [*TINY, "--total-steps", "512", "--num-seeds", "2", "--run-dir", str(folder), *more]
    assert algos.lesson(lesson).main(arguments) == 0


def test_clipping_leaves_samples_without_force_and_the_others_none(tmp_path, capsys):
    for lesson, more in (("mappo", ["--clip", "0.01"]), ("maspo", []), ("mars", [])):
        train(tmp_path, lesson, "--actor-lr", "0.01", *more)
    found = {run.algorithm: run.updates_of(gather.MECHANISM) for run in saved.find_runs([tmp_path])}
    assert all(found["mappo"][seed][:, 1].mean() > 0.1 for seed in (0, 1))
    assert all((found[lesson][seed][:, 1] == 0).all() for lesson in ("maspo", "mars") for seed in (0, 1))
    assert plot.main([str(tmp_path), "--diagnostics", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "diagnostics_paxmen_4a.png").stat().st_size > 10_000
    capsys.readouterr()
    with pytest.raises(UsageError, match="none of these runs logged"):
        plot.main([str(tmp_path / "out" / "evaluations.json"), "--diagnostics", "--out", str(tmp_path / "again")])


# ---- one target or two ----


def test_mars_with_one_target_is_called_so(tmp_path):
    train(tmp_path / "one", "mars")
    train(tmp_path / "two", "mars", "--contract", "0.5")
    for name, label in (("one", "MARS, 1/r*"), ("two", "MARS")):
        assert plot.main([str(tmp_path / name), "--out", str(tmp_path / "out" / name)]) == 0
        assert f"| {label} |" in (tmp_path / "out" / name / "table1.md").read_text()
    again = tmp_path / "again"  # without the runs
    assert plot.main([str(tmp_path / "out" / "one" / "evaluations.json"), "--out", str(again)]) == 0
    assert "| MARS, 1/r* |" in (again / "table1.md").read_text()
    assert methods.METHODS["mars"].label == "MARS"


# ---- independent critics ----


@pytest.mark.parametrize("lesson, name", [("mappo", "ippo"), ("maspo", "ispo"), ("mars", "imars")])
def test_independent_critics_are_methods_of_their_own(lesson, name, tmp_path):
    train(tmp_path, lesson, "--independent", "--bootstrap-truncation")
    train(tmp_path, "mars")
    (run,) = [run for run in saved.find_runs([tmp_path]) if run.settings["independent"]]
    assert run.method is methods.INDEPENDENT[name] and run.method.label == name.upper()
    assert plot.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert f"| {name.upper()} |" in (tmp_path / "out" / "table1.md").read_text()
    args = experiment.make_parser().parse_args(f"--envs paxmen_4a --run-dir {tmp_path} --algos independent".split())
    assert [cell.method.name for cell in grids.make_grid(args)] == ["ippo", "ispo", "imars"]
    assert [method.name for method in methods.listed("all")] == [*methods.MAIN, *methods.ABLATIONS]


@pytest.mark.parametrize("task", ["paxmen_4a", "jaxnav_7x7x2a", "smax_2s3z"])
def test_an_independent_critic_sees_one_agent_s_observation(task):
    args = mars.Args(env=task, num_envs=3, rollout_length=5, hidden_size=16, num_seeds=2, independent=True,
                     bootstrap_truncation=True, minibatches=1, epochs=1, device="cpu")  # fmt: skip
    env = envs.make(task, 6, "cpu", [0, 1])
    env.reset()
    learner = mars.Learner(args, env, [0, 1])
    rollout = mars.Rollout(args, env, learner.actor)
    mars.collect(rollout, env, learner)
    assert rollout.state.data_ptr() == rollout.obs.data_ptr()  # nothing else is kept
    advantage, value, target = mars.advantages(rollout, learner, args)
    assert advantage.shape == value.shape == (2, 5, 3, env.num_agents)
    changed = rollout.obs.clone()
    changed[..., 0, :] += 1.0
    moved = (learner.critic(changed) - learner.critic(rollout.obs)).abs()
    assert (moved[..., 0] > 0).all() and (moved[..., 1:] == 0).all()
    numbers = mars.update(rollout, advantage, value, target, learner, args)
    assert all(values.isfinite().all() for values in numbers.values())
