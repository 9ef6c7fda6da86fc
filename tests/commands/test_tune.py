"""The search: spaces, protocol, pruning, going on after a kill, workers. Trainings are made up, the study is real."""

import dataclasses
import sys

import optuna
import pytest
import yaml
from made_up_results import FakeTraining, Killed
from studies import NARROW, fails, study_of

from torch_mars import tune
from torch_mars.protocol import methods, studies
from torch_mars.run import settings


@pytest.fixture
def trained(monkeypatch, tmp_path):
    return FakeTraining.replace_in(studies, monkeypatch, tmp_path)


# ---- what is searched ----

EPSILONS = [0.05, 0.1, 0.2, 0.3, 0.5]
TARGETS = [1.05, 1.1, 1.2, 1.3, 1.5, 2.0]
SPACES = {  # the specification's table
    "mappo": ({"clip": EPSILONS}, 40),
    "maspo": ({"clip": EPSILONS}, 40),
    "mappo_asymmetric": ({"clip_low": EPSILONS, "clip_high": EPSILONS}, 80),
    "maspo_asymmetric": ({"clip_low": EPSILONS, "clip_high": EPSILONS}, 80),
    "mars": ({"expand": TARGETS, "contract": [1 / target for target in TARGETS]}, 80),
    "mars_multiplicative": ({"expand": TARGETS}, 40),
    "mars_additive": ({"additive_clip": EPSILONS}, 40),
}
SHARED = {
    "actor_lr": [1e-4, 2.5e-4, 5e-4],
    "critic_lr": [1e-4, 2.5e-4, 5e-4],
    "entropy_coef": [0, 1e-5, 1e-2],
    "value_clip": [0.05, 0.1, 0.2],
    "minibatches": [2, 4, 8],
    "epochs": [2, 4, 8],
}


@pytest.mark.parametrize("name", SPACES)
def test_spaces_and_numbers_of_trials_are_the_specification_s(name):
    own, trials = SPACES[name]
    method = methods.METHODS[name]
    space = studies.search_space(method, is_wide=False, is_ablation=False)
    assert {key: list(values) for key, values in space.items()} == SHARED | own
    assert method.trials == trials
    wide = studies.search_space(method, is_wide=True, is_ablation=False)
    assert wide["actor_lr"] == wide["critic_lr"] == (1e-4, 2.5e-4, 5e-4, 1e-3)
    plan = studies.Plan(tune.make_parser().parse_args(["--algo", name, "--env", "aerojax_8v8"]))
    assert (plan.trials, plan.seeds, plan.fixed["total_steps"]) == (trials, [0, 1, 2, 3, 4], 120_000_000)
    plan.device = "cpu"
    plan.check()  # every candidate can be trained with


def test_in_the_ablation_the_three_methods_have_the_same_space():
    space = studies.search_space(methods.METHODS["mars"], is_wide=False, is_ablation=True)
    assert [round(target - 1, 9) for target in space["expand"]] == EPSILONS
    assert [round(1 - target, 9) for target in space["contract"]] == EPSILONS


@pytest.mark.parametrize("budget, steps", [("paper", 40_000_000), ("quick", 2_000_000), ("smoke", 1024)])
def test_budgets(budget, steps):
    plan = studies.Plan(tune.make_parser().parse_args(["--algo", "mappo", "--env", "paxmen_6a", "--budget", budget]))
    assert plan.fixed["total_steps"] == steps


# ---- the protocol ----


def test_a_trial_is_the_mean_over_fixed_seeds_of_the_last_fifth(trained, monkeypatch, capsys):
    FakeTraining.leave(lambda settings: -5.0 if settings["seed"] == 0 else -4.0, monkeypatch)
    assert tune.main([*NARROW, "--trials", "1", "--seeds", "3"]) == 0
    assert [settings["seed"] for _, settings in trained] == [0, 1, 2]
    study, plan = study_of("--seeds", "3")
    (trial,) = studies.finished_trials(study)
    # eight evaluations on a line from -10 to the end: the last two count
    scores = [end - (end + 10) / 7 / 2 for end in (-5.0, -4.0, -4.0)]
    assert trial.value == pytest.approx(sum(scores) / 3)
    assert trial.intermediate_values[1] == pytest.approx(sum(scores[:2]) / 2)

    said = capsys.readouterr().out
    assert f"python -m torch_mars.algos.mars --config {plan.best}" in said
    module = plan.method.module
    args = settings.parse(module.Args, module.ratio_range, "mars", ["--config", str(plan.best), "--total-steps", "2k"])
    assert args.env == "paxmen_4a" and all(getattr(args, name) == value for name, value in trial.params.items())
    assert "total_steps" not in yaml.safe_load(plan.best.read_text())  # those of tuning are not those of the final runs
    assert (plan.folder / "study.png").stat().st_size > 10_000
    assert (plan.folder / "trials.csv").read_text().count("\n") == 2


def test_hopeless_trials_are_pruned_between_seeds(trained, monkeypatch):
    # five good trials of two seeds
    FakeTraining.leave(lambda settings: -2.0 if len(trained) <= 5 * 2 else -8.0, monkeypatch)
    assert tune.main([*NARROW, "--trials", "6"]) == 0
    study, _ = study_of()
    assert [trial.state.name for trial in studies.finished_trials(study)] == ["COMPLETE"] * 5 + ["PRUNED"]
    assert len(trained) == 5 * 2 + 1


@pytest.mark.parametrize("result", [1, -9, float("nan")])
def test_a_crashed_or_diverged_seed_scores_minus_infinity_and_ends_its_trial(result, trained, monkeypatch, capsys):
    FakeTraining.leave(lambda settings: result if len(trained) == 1 else -3.0, monkeypatch)
    assert tune.main([*NARROW, "--trials", "2"]) == 0
    study, plan = study_of()
    first, second = studies.finished_trials(study)
    assert first.state.name == "PRUNED" and first.intermediate_values == {0: -float("inf")}
    assert second.state.name == "COMPLETE" and studies.best_trial(study).number == 1
    assert "seed 0 failed" in capsys.readouterr().out
    assert "\n0,failed,-inf,1," in (plan.folder / "trials.csv").read_text()


def test_settings_that_cannot_be_trained_with_stop_everything(trained, monkeypatch, capsys):
    FakeTraining.leave(lambda settings: 2, monkeypatch)
    code, said = fails(capsys, *NARROW)
    assert code == 2 and "seed_0 failed with code 2" in said and len(trained) == 1


def test_no_successful_trial_is_exit_code_1(trained, monkeypatch, capsys):
    FakeTraining.leave(lambda settings: 1, monkeypatch)
    code, said = fails(capsys, *NARROW, "--trials", "1")
    assert code == 1 and "no best configuration" in said


# ---- going on, and workers ----


def parameters(study):
    return [trial.params for trial in studies.finished_trials(study)]


def test_a_longer_study_goes_on_as_if_it_had_never_stopped(trained):
    tune.main([*NARROW, "--trials", "4", "--out", "whole"])
    for trials in ("2", "4"):
        tune.main([*NARROW, "--trials", trials, "--out", "parts"])
    whole, parts = (parameters(study_of("--out", out)[0]) for out in ("whole", "parts"))
    assert whole == parts and len({str(one) for one in whole}) == 4
    assert len(trained) == 2 * 4 * 2  # nothing was trained twice


def test_a_killed_worker_s_trial_is_gone_on_with(trained, monkeypatch):
    # in the second seed of the second trial
    FakeTraining.leave(lambda settings: "cut" if len(trained) == 4 else -3.0, monkeypatch)
    with pytest.raises(Killed):
        tune.main([*NARROW, "--trials", "3"])
    monkeypatch.setattr(studies, "_is_alive", lambda process: False)  # it was this process
    assert tune.main([*NARROW, "--trials", "3"]) == 0
    study, _ = study_of()
    assert len(studies.finished_trials(study)) == 3
    resumed = [settings for how, settings in trained if how == "--resume"]
    assert len(resumed) == 1 and resumed[0]["seed"] == 1 and len(trained) == 3 * 2 + 1
    given_up, again = study.get_trials()[1:3]
    assert given_up.state.name == "FAIL" and again.params == given_up.params


def test_a_last_line_that_a_crash_cut_short_is_lost_and_nothing_else(trained):
    tune.main([*NARROW, "--trials", "2"])
    study, plan = study_of("--trials", "2")
    before = parameters(study)
    with open(plan.storage, "a") as file:
        file.write('{"op_code": 4, "wor')
    tune.main([*NARROW, "--trials", "3"])
    after = parameters(study_of()[0])
    assert len(after) == 3 and after[:2] == before


def test_a_worker_elsewhere_is_given_up_after_minutes_without_a_sign_of_life(trained, monkeypatch):
    study, plan = study_of()
    trial, _ = studies.next_trial(study, plan)
    trial.set_user_attr("worker", ("another machine", 1))
    trial.set_user_attr("alive", studies.time.time() - studies.DEAD_SECONDS + 60)
    studies.give_back_abandoned(study)
    assert [t.state.name for t in study.get_trials()] == ["RUNNING"]
    trial.set_user_attr("alive", studies.time.time() - studies.DEAD_SECONDS - 1)
    studies.give_back_abandoned(study)
    assert [t.state.name for t in study.get_trials()] == ["FAIL", "WAITING"]


def test_a_process_that_has_a_dead_worker_s_number_keeps_no_trial(trained):
    study, plan = study_of()
    trial, _ = studies.next_trial(study, plan)  # its worker is this process
    studies.give_back_abandoned(study)
    assert [t.state.name for t in study.get_trials()] == ["RUNNING"]
    trial.set_user_attr("alive", studies.time.time() - studies.DEAD_SECONDS - 1)
    studies.give_back_abandoned(study)
    assert [t.state.name for t in study.get_trials()] == ["FAIL", "WAITING"]


def test_a_process_s_number_elsewhere_says_nothing_here(trained):
    study, plan = study_of()
    trial, _ = studies.next_trial(study, plan)
    trial.set_user_attr("worker", ["a start of another machine", "pid:[1]", 2**30])  # a number that nobody has here
    trial.set_user_attr("alive", studies.time.time())
    studies.give_back_abandoned(study)
    assert [t.state.name for t in study.get_trials()] == ["RUNNING"]


def test_a_trial_that_is_given_back_again_and_again_keeps_its_folder(trained):
    study, plan = study_of()
    for _ in range(3):
        trial, _ = studies.next_trial(study, plan)
        studies.give_back(study, trial)
    assert [t.user_attrs["folder"] for t in study.get_trials()[1:]] == [0, 0, 0]


def test_workers_share_a_study_and_its_number_of_trials(trained):
    (one, plan), (other, _) = study_of("--trials", "2"), study_of("--trials", "2")
    first, second = studies.next_trial(one, plan), studies.next_trial(other, plan)
    assert (first[0].number, second[0].number) == (0, 1) and first[1] != second[1]
    assert studies.next_trial(one, plan) is None and studies.next_trial(other, plan) is None


def test_of_two_workers_that_want_the_last_trial_one_gets_it(trained, monkeypatch):
    study, plan = study_of("--trials", "1")
    kept = studies.kept_trials
    monkeypatch.setattr(study, "ask", lambda: (optuna.study.Study.ask(study), optuna.study.Study.ask(study))[1])
    assert studies.next_trial(study, plan) is None  # the other worker asked in between
    assert [trial.number for trial in kept(study)] == [0]


def test_any_optuna_storage_will_do(trained):
    assert tune.main([*NARROW, "--trials", "1", "--storage", "sqlite:///shared.db"]) == 0
    assert len(studies.finished_trials(study_of("--storage", "sqlite:///shared.db")[0])) == 1


def test_show_trains_nothing(trained, capsys):
    tune.main([*NARROW, "--trials", "2"])
    before = len(trained)
    capsys.readouterr()
    assert tune.main([*NARROW, "--trials", "2", "--show"]) == 0
    assert "2 of 2 trials are finished" in capsys.readouterr().out and len(trained) == before


# ---- bad input ----


@pytest.mark.parametrize(
    "command, problem",
    [
        ("--algo marz --env paxmen_4a", "unknown method 'marz'; did you mean mars"),
        ("--algo mars --env paxmen_9a", "--env: unknown task 'paxmen_9a'; did you mean"),
        ("--algo mappo --env paxmen_4a --ablation", "it cannot be had with mappo"),
        ("--algo mars --env paxmen_4a --config own.yaml", "epochs is searched and cannot be fixed"),
        ("--algo mars --env paxmen_4a --config nowhere.yaml", "cannot read nowhere.yaml"),
        ("--algo mars --env paxmen_4a --budget huge", "'huge'"),
        ("--algo mars --env paxmen_4a --trials 0", "1 or more"),
        ("--algo mars --env paxmen_4a --device tpu", "'tpu'"),
        ("--algo mars --env paxmen_4a --storage nosql://x", "cannot be opened as Optuna storage"),
        ("--algo mars --env paxmen_4a --show", "there is no study yet"),
        ("--algo mars", "--env"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(command, problem, trained, capsys):
    with open("own.yaml", "w") as file:
        yaml.safe_dump({"epochs": 3}, file)
    code, said = fails(capsys, *command.split())
    assert code == 2 and problem in said
    assert not trained


@pytest.mark.parametrize(
    "settings, problem",
    [
        ({"env": "paxmen_5a"}, "--config: env is 'paxmen_5a', but it is for the command line to say"),
        ({"num_seeds": 3}, "--config: num_seeds is 3, but"),
        ({"additive_clip": 0.2}, "beside --additive-clip, 0.2"),
        ({"name": "mars_multiplicative", "contract": None}, "--config: contract is searched"),
    ],
)
def test_a_settings_file_cannot_make_it_another_study(settings, problem, trained, capsys, tmp_path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    code, said = fails(capsys, *NARROW, "--config", "own.yaml")
    assert code == 2 and problem in said and not trained


@pytest.mark.parametrize("content", [b"SQLite format 3\x00 and no end of line", b"a text\nof somebody"])
def test_a_file_that_is_no_journal_keeps_its_bytes(content, trained, capsys, tmp_path):
    (tmp_path / "study.db").write_bytes(content)
    code, said = fails(capsys, *NARROW, "--storage", "study.db")
    assert code == 2 and "--storage is 'study.db', which is no journal of Optuna" in said
    assert (tmp_path / "study.db").read_bytes() == content


def test_an_empty_study_is_one_sentence(trained, capsys):
    study_of()
    code, said = fails(capsys, *NARROW, "--show")
    assert code == 2 and "is empty: no trial is finished" in said


def test_a_damaged_study_is_one_sentence(trained, capsys):
    _, plan = study_of()
    with open(plan.storage, "a") as file:
        file.write('{"op_code": 4, "wor\n' * 2)
    code, said = fails(capsys, *NARROW)
    assert code == 2 and "study.journal': cannot be opened as Optuna storage" in said
    with open("other.db", "w") as file:
        file.write("no database " * 1000)
    code, said = fails(capsys, *NARROW, "--storage", "sqlite:///other.db")
    assert code == 2 and "other.db': cannot be opened as Optuna storage" in said


def test_a_study_begun_on_other_terms_is_not_gone_on_with(trained, capsys):
    tune.main([*NARROW, "--trials", "1"])
    code, said = fails(capsys, *NARROW, "--seeds", "3")
    assert code == 2 and "was begun with other seeds ([0, 1], now [0, 1, 2])" in said


def test_without_optuna_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, said = fails(capsys, *NARROW)
    assert code == 2 and "pip install 'torch_mars[tune]'" in said


def test_another_study_does_not_take_the_runs_that_lie_there(trained, tmp_path, capsys):
    assert tune.main([*NARROW, "--trials", "1", "--seeds", "1"]) == 0
    (tmp_path / "other.yaml").write_text("gamma: 0.5")
    other = ["--config", str(tmp_path / "other.yaml"), "--storage", str(tmp_path / "other.journal")]
    assert tune.main([*NARROW, "--trials", "1", "--seeds", "1", *other]) == 0
    assert [settings["gamma"] for _, settings in trained if "gamma" in settings] == [0.5] and len(trained) == 2
    assert tune.main([*NARROW, "--trials", "1", "--seeds", "1", *other]) == 0
    assert len(trained) == 2


def test_candidates_may_be_texts(trained, tmp_path, capsys, monkeypatch):
    space = {"matmul_precision": ("highest", "high")}
    monkeypatch.setitem(methods.METHODS, "mars", dataclasses.replace(methods.METHODS["mars"], space=space))
    assert tune.main([*NARROW, "--trials", "3", "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "matmul_precision  highest, high" in said


def test_parameters_that_were_tried_are_not_drawn_again_while_others_are_left(trained):
    study, plan = study_of("--trials", "8")
    usual = {
        name: [plan.defaults[name], *(v for v in of if v != plan.defaults[name])] for name, of in plan.space.items()
    }
    first, second, *others = usual
    plan.space = {first: usual[first][:2], second: usual[second][:3], **{name: usual[name][:1] for name in others}}
    seen = []
    for _ in range(8):
        trial, parameters = studies.next_trial(study, plan)
        seen.append((parameters[first], parameters[second]))
        study.tell(trial, float(trial.number))
    assert len(set(seen[:6])) == 6 and set(seen[6:]) <= set(seen[:6])
    assert studies.next_trial(study, plan) is None and len(studies.finished_trials(study)) == 8
