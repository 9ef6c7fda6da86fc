"""Runs on disk: what they leave, kill and resume, stopping, bad input. Small networks, so that the file is quick."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from torch_mars.algos import mappo, mars
from torch_mars.nn.inputs import Running
from torch_mars.run import cli, files, record, screen, settings

SCRIPT = Path(mars.__file__)
SMALL = "--env paxmen_4a --num-envs 4 --rollout-length 16 --hidden-size 16 --eval-episodes 2 --device cpu".split()
STEPS = 64  # of one update with these settings


def arguments(run_dir, updates, *more):
    return [*SMALL, "--run-dir", str(run_dir), "--total-steps", str(updates * STEPS), *map(str, more)]


def train(run_dir, updates, *more, module=mars):
    """Train within this process; the run's folder."""
    assert module.main(arguments(run_dir, updates, *more)) == 0
    return the_run(run_dir)


def the_run(run_dir):
    (folder,) = [p.parent for p in Path(run_dir).glob("*/*/*/config.yaml")]
    return folder


def records(folder):
    """metrics.jsonl without the wall-clock times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "steps_per_second")} for line in lines]


def assert_equal_content(left, right, path=""):
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), path
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_equal_content(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, (list, tuple)):
        for i, (one, other) in enumerate(zip(left, right)):
            assert_equal_content(one, other, f"{path}/{i}")
    elif not path.endswith("seconds"):
        assert left == right, path


# ---- what a run leaves ----


def test_a_run_leaves_config_metrics_curves_checkpoint_and_policy(tmp_path, capsys):
    folder = train(tmp_path, 12, "--num-seeds", 2, "--seed", 7, "--name", "trial", "--eval-every", 4 * STEPS)
    assert re.fullmatch(r"\d{8}-\d{6}-trial", folder.name) and folder.parent.name == "mars"
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["num_envs"] == 4 and settings["adam_eps"] == 1e-8 and settings["gamma"] == 0.99

    lines = records(folder)
    updates = [r for r in lines if r["kind"] == "update"]
    assert [(r["update"], r["seed"]) for r in updates] == [(u, s) for u in range(1, 13) for s in (7, 8)]
    assert all(r["step"] == r["update"] * STEPS for r in lines)
    scalars = {"actor_loss", "critic_loss", "entropy", "approx_kl", "ratio_max", "ratio_min", "frac_outside"}
    assert scalars <= updates[0].keys()
    assert {"episode_return", "dots_eaten"} <= updates[12].keys()  # update 7: after 100 steps
    evaluations = [r for r in lines if r["kind"] == "evaluation"]
    assert [r["update"] for r in evaluations] == [4, 4, 8, 8, 12, 12]
    assert all(len(r["episode_return"]) == 2 for r in evaluations)

    nested = json.loads((folder / "evaluations.json").read_text())["paxmen"]["paxmen_4a"]["mars"]
    assert nested.keys() == {"run_7", "run_8"}
    assert [nested["run_7"][f"step_{i}"]["step_count"] for i in range(3)] == [4 * STEPS, 8 * STEPS, 12 * STEPS]
    assert nested["run_8"]["step_2"]["episode_return"] == evaluations[5]["episode_return"]
    assert len(nested["run_7"]["absolute_metrics"]["episode_return"]) == 20

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(folder / "tensorboard" / "seed_8"))
    curves.Reload()
    tags = curves.Tags()["scalars"]
    assert {"train/episode_return", "train/ratio_max", "train/steps_per_second", "evaluation/episode_return"} <= set(
        tags
    )
    assert len(curves.Scalars("train/actor_loss")) == 12

    policy = files.load_checkpoint(folder / "policy.pt")
    assert policy["task"] == "paxmen_4a" and policy["algorithm"] == "mars"
    assert all(weight.shape[0] == 2 for weight in policy["actor"].values())
    assert not list(folder.rglob(".*"))  # no temporary file is left behind

    said = capsys.readouterr().out
    for part in ("MARS on paxmen_4a", "ratios from 0.655 to 1.53", str(folder), "final", "best", "--resume"):
        assert part in said
    means = {r["step"]: [] for r in evaluations}
    for r in evaluations:
        means[r["step"]].append(sum(r["episode_return"]) / 2)
    best = max(means, key=lambda step: sum(means[step]))
    for name, step in (("final", 12 * STEPS), ("best", best)):
        assert re.search(
            rf"\b{name}  {re.escape(screen.spread(means[step]))}, rooms eaten in [0-9.]+ at step {step:,}\n", said
        )


def test_the_best_weights_of_each_seed_are_kept():
    network = torch.nn.Linear(1, 1)
    network.weight.data = torch.tensor([[1.0], [1.0]])
    network.bias.data = torch.tensor([1.0, 1.0])
    best = record.BestWeights(network)
    for value, returns in ((2.0, [[5.0], [1.0]]), (3.0, [[4.0], [2.0]]), (4.0, [[5.0], [1.5]])):
        network.weight.data = torch.full((2, 1), value)
        best.consider(network, returns)
    assert best.weights["weight"].flatten().tolist() == [4.0, 3.0]  # of equal ones the later
    assert best.returns.tolist() == [5.0, 2.0]


def test_of_a_diverged_seed_what_was_learned_of_its_inputs_is_kept_too():
    network, seen = Running(2, 3), torch.randn(2, 5, 3)
    good = record.GoodWeights(network)
    network.learn(seen)
    good.keep([True, True])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    seen[1] = torch.nan
    network.learn(seen + 1)
    good.keep([True, False])
    for name, value in network.state_dict().items():
        assert torch.equal(value[1], before[name][1]) and not torch.equal(value[0], before[name][0]), name


def test_the_time_left_is_that_of_the_updates_to_come(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: clock[0])
    progress = screen.Progress(3, 10, 100, "")  # of a run in which two were done before
    for clock[0] in (20.0, 40.0):
        progress.advance()
    assert capsys.readouterr().out.splitlines()[-1] == "update 4/10, 5 steps/s, 120 s left"


def test_seeds_have_a_deviation_of_a_sample():
    assert screen.spread([1.0, 2.0]) == "1.50 +- 0.71" and screen.spread([1.0]) == "1.00"


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "checkpoint.pt"
    files.write_whole(path, b"old")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    code = "from torch_mars.run.files import write_whole; from pathlib import Path;"
    code += f"write_whole(Path({str(path)!r}), b'x' * 5000)"
    result = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True)
    assert "cannot write" in result.stderr
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["checkpoint.pt"]


# ---- kill, stop, resume ----


def start(*args):
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_update(run_dir, process, update):
    """Until the run's metrics tell of an update (or the run is over)."""
    while process.poll() is None:
        files = list(Path(run_dir).glob("*/*/*/metrics.jsonl"))
        if files and f'"update": {update},' in files[0].read_text():
            return
        time.sleep(0.005)


@pytest.mark.slow  # kills at every write, sync and rename are in the quick suite: tests/reliability/test_kills.py
def test_a_run_killed_at_random_moments_and_resumed_equals_one_that_was_not(tmp_path):
    updates, more = 60, ("--num-seeds", 2, "--checkpoint-every", 3, "--eval-every", 7 * STEPS)
    whole = train(tmp_path / "whole", updates, *more)

    chance = random.Random(0)
    process = start(*arguments(tmp_path / "killed", updates, *more))
    for stop in (8, 25, 43):
        wait_for_update(tmp_path / "killed", process, stop)
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run was over before it was killed"
        killed = the_run(tmp_path / "killed")
        process = start("--resume", killed)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "resumed after update" in output
    assert records(killed) == records(whole)
    assert_equal_content(files.load_checkpoint(killed), files.load_checkpoint(whole))
    assert_equal_content(
        files.load_checkpoint(killed / "policy.pt")["actor"], files.load_checkpoint(whole / "policy.pt")["actor"]
    )


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path):
    process = start(*arguments(tmp_path, 5000))
    wait_for_update(tmp_path, process, 5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    folder = the_run(tmp_path)
    assert process.returncode == 130
    assert f"--resume {folder}" in output and "Traceback" not in output
    done = files.load_checkpoint(folder)["update"]
    assert done == max(r["update"] for r in records(folder)) >= 5


def test_a_longer_budget_is_one_flag(tmp_path):
    folder = train(tmp_path, 4)
    assert mars.main(["--resume", str(folder), "--total-steps", str(6 * STEPS)]) == 0
    assert max(r["update"] for r in records(folder)) == 6


def test_clocks_go_on_and_count_the_steps_of_all_seeds(tmp_path):
    folder = train(tmp_path, 4, "--num-seeds", 2)
    files.save_checkpoint(folder / "checkpoint.pt", {**files.load_checkpoint(folder), "seconds": 1000.0})
    assert mars.main(["--resume", str(folder), "--total-steps", str(6 * STEPS)]) == 0
    updates = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    updates = [line for line in updates if line["kind"] == "update" and line["seed"] == 0]
    assert [line["seconds"] > 1000 for line in updates] == [False] * 4 + [True] * 2
    between = updates[5]["seconds"] - updates[4]["seconds"]
    assert 2 * STEPS / updates[5]["steps_per_second"] == pytest.approx(between, rel=0.4, abs=0.002)


def test_fewer_steps_than_were_trained_are_refused(tmp_path):
    folder = train(tmp_path, 4)
    before = (folder / "config.yaml").read_text()
    with pytest.raises(
        cli.UsageError, match=f"--total-steps is {2 * STEPS:,}, but .* has trained {4 * STEPS:,} already"
    ):
        mars.main(["--resume", str(folder), "--total-steps", str(2 * STEPS)])
    assert (folder / "config.yaml").read_text() == before
    assert mars.main(["--resume", str(folder)]) == 0  # nobody holds it


def test_numbers_with_an_exponent_are_numbers_within_a_mapping(tmp_path):
    words = ["--env", "jaxnav_7x7x2a", "--device", "cpu", "--env-options"]
    args = settings.parse(mars.Args, mars.ratio_range, "mars", [*words, "{max_steps: 1e2, goal_rew: 2.5e-1}"])
    assert args.env_options == {"max_steps": 100, "goal_rew": 0.25}
    assert isinstance(args.env_options["max_steps"], int)


def test_a_loss_that_is_not_finite_stops_with_the_checkpoint_intact(tmp_path):
    folder = train(tmp_path, 3, "--checkpoint-every", 1)
    content = files.load_checkpoint(folder)
    for layer in ("hidden_1", "hidden_2"):  # of finite weights, a product that is not
        content["learner"]["actor"][f"network.{layer}.weight"].fill_(3e38)
    files.save_checkpoint(folder / "checkpoint.pt", content)
    before = (folder / "checkpoint.pt").read_bytes()
    with pytest.raises(cli.RunError, match="update 4, seed 0: actor_loss is nan; training stopped"):
        mars.main(["--resume", str(folder), "--total-steps", str(5 * STEPS)])
    assert (folder / "checkpoint.pt").read_bytes() == before


# ---- settings ----


def test_whole_numbers_may_be_written_short():
    assert [cli.parse_whole(t) for t in ("40e6", "40M", "500k", "1_000", "7")] == [40_000_000] * 2 + [
        500_000,
        1000,
        7,
    ]
    for wrong in ("4.5", "x", "", "nan", "inf", "4MM"):
        with pytest.raises(ValueError, match="whole number"):
            cli.parse_whole(wrong)


def test_command_line_wins_over_config_over_family_over_defaults(tmp_path, monkeypatch):
    (tmp_path / "paxmen.yaml").write_text(
        "family: {gamma: 0.5, num_envs: 16, epochs: 3, hidden_size: 32, actor_lr: 1e-5}\n"
        "tasks: {paxmen_4a: {num_envs: 8, epochs: 2, algorithms: {mars: {expand: 1.25}}}}\n"
        "algorithms: {mars: {epochs: 1, expand: 1.1}, mappo: {epochs: 9}}\n"
    )
    (tmp_path / "own.yaml").write_text("hidden_size: 64\nenv: paxmen_4a\n")
    monkeypatch.setattr(settings, "YAML_DIRECTORY", tmp_path)
    argv = ["--config", str(tmp_path / "own.yaml"), "--gamma", "0.7"]
    args = settings.parse(mars.Args, mars.ratio_range, "mars", argv)
    chosen = (args.gamma, args.num_envs, args.epochs, args.expand, args.hidden_size, args.actor_lr, args.gae_lambda)
    assert chosen == (0.7, 8, 1, 1.25, 64, 1e-5, 0.95)


def test_every_flag_is_explained(capsys):
    for module in (mars, mappo):
        groups = settings.field_docs(module.Args)
        assert {"the method", "task and length", "learning", "the run", "evaluation"} == groups.keys()
        docs = {name: text for group in groups.values() for name, text in group.items()}
        assert docs.keys() == module.Args.__dataclass_fields__.keys() and all(docs.values())
    with pytest.raises(SystemExit) as stopped:
        mars.main(["--help"])
    assert stopped.value.code == 0
    assert "--bootstrap-truncation" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, expand, epochs, gamma, task",
    [
        ("--env jaxnav_7x7x2a", "default 1.5, here 4.3589", "default 4", "default 0.99, here 0.998", "jaxnav_7x7x2a"),
        (
            "--actor-lr 0.1 --config own.yaml",
            "default 1.5, here 1.25",
            "default 4, here 3",
            "default 0.99",
            "paxmen_5a",
        ),
        ("--env smax_2s3z --preset paper", "default 1.5, here 1.22474", "default 4", "default 0.99", "smax_2s3z"),
        ("--env paxmen_7a", "default 1.5", "default 4", "default 0.99", None),
        ("--env", "default 1.5, here 1.5275", "default 4", "default 0.99", "paxmen_5a"),
    ],
)
def test_help_says_what_a_task_has(flags, expand, epochs, gamma, task, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("expand: 1.25\nepochs: 3\n")
    with pytest.raises(SystemExit) as stopped:
        mars.main(["--help", *flags.split()])
    said = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0
    assert f"positive advantage are pulled ({expand}" in said and f"run away ({epochs})" in said
    assert f"discount factor ({gamma})" in said and "actor_lr" not in said and "here 1.0)" not in said
    assert (f'"here" is what {task} has' in said) == (task is not None)


BAD_COMMANDS = [
    ("--expandd 1.1", "'--expandd'", "did you mean --expand"),
    ("--env paxmen_7a", "'paxmen_7a'", "paxmen_4a"),
    ("--contract 1.2", "--contract is 1.2", "less than 0.99999"),
    ("--expand 1", "--expand is 1.0", "1.00001 or more"),
    ("--num-envs 0", "--num-envs is 0", "1 or more"),
    ("--name a/b", "--name is 'a/b'", "no slashes"),
    ("--value-per-agent", "--value-per-agent is True", "paxmen_4a pays all agents alike"),
    ("--seed 9223372036854775808", "--seed is 9223372036854775808", "below 2^63"),
    ("--num-envs x", "--num-envs: 'x'", "whole number"),
    ("--num-envs 2.5", "'2.5'", "whole number"),
    ("--actor-lr 0", "--actor-lr is 0.0", "greater than 0"),
    ("--actor-lr nan", "'nan'", "not a number"),
    ("--gamma 1.5", "--gamma is 1.5", "between 0 and 1"),
    ("--minibatches 5", "--minibatches is 5", "2 and 4"),
    ("--total-steps 10", "--total-steps is 10", "one update alone takes 64"),
    ("--total-steps 4Q", "'4Q'", "40M"),
    ("--device tpu", "'tpu'", "cpu"),
    ("--device cuda:99", "'cuda:99'", "CUDA devices"),
    ("--env-options 5", "--env-options is 5", "mapping"),
    ("--env-options {max_stepz: 3}", "'max_stepz'", "max_steps"),
    ("--env-options {max_steps: 0}", "max_steps is 0", "1 or more"),
    ("--config nowhere.yaml", "nowhere.yaml", "No such file"),
    ("--resume nowhere", "--resume: no run or checkpoint at nowhere", ""),
    ("--seed -1", "--seed is -1", "0 or more"),
    ("zzz", "'zzz'", "stands behind no flag"),
]


@pytest.mark.parametrize("command, value, allowed", BAD_COMMANDS)
def test_bad_input_gets_one_sentence_and_exit_code_2(command, value, allowed, tmp_path, capsys):
    flag, *rest = command.split(" ", 1)
    with pytest.raises(SystemExit) as stopped:
        mars.main([*SMALL, "--run-dir", str(tmp_path / "runs"), flag, *rest])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert value in said and allowed in said and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "text, problem",
    [
        ("expandd: 1.3", "'expandd'; did you mean expand"),
        ("resume: there", "'resume'"),
        ("- a list", "not a list"),
        ("expand: [1", "not valid yaml"),
        ("bootstrap_truncation: maybe", "true or false"),
        ("expand: 0.5", "--expand is 0.5"),
        ("num_envs: null", "--num-envs: None is not a number"),
        ("env: null", "--env is None; it must be of type str"),
        ("actor_lr: [1e-4]", "--actor-lr: ['1e-4'] is not a number"),
        ("epochs: true", "--epochs: True is not a number"),
        ("1: 2", "line 1: the name 1 is no text"),
    ],
)
def test_bad_config_files_get_one_sentence(text, problem, tmp_path, capsys):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        mars.main([*SMALL, "--config", str(tmp_path / "own.yaml"), "--run-dir", str(tmp_path / "runs")])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert problem in said and said.count("\n") == 1


@pytest.mark.parametrize("section", ["famly: {}", "tasks: {paxmen_9a: {}}", "family: {expannd: 2}"])
def test_unknown_keys_of_a_family_file_are_errors(section, tmp_path, monkeypatch):
    (tmp_path / "paxmen.yaml").write_text(section)
    monkeypatch.setattr(settings, "YAML_DIRECTORY", tmp_path)
    with pytest.raises(cli.UsageError, match="did you mean"):
        settings.family_settings(mars.Args, "paxmen_5a", "mars")


def test_a_run_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(cli.UsageError, match="--run-dir is .*cannot write there"):
        mars.main(arguments(tmp_path / "file" / "runs", 3))


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "code"])
def test_a_damaged_checkpoint_is_refused(damage, tmp_path, capsys):
    folder = train(tmp_path, 2)
    path = folder / "checkpoint.pt"
    content = path.read_bytes()
    if damage == "code":
        torch.save({"format": files.FORMAT, "surprise": print}, path)  # loading it would have to import something
    else:
        path.write_bytes({"truncated": content[: len(content) // 2], "garbage": b"no checkpoint", "empty": b""}[damage])
    with pytest.raises(SystemExit) as stopped:
        mars.main(["--resume", str(folder)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert str(path) in said and "damaged or truncated" in said and said.count("\n") == 1


def test_a_checkpoint_of_another_task_algorithm_or_size_is_refused(tmp_path, capsys):
    folder = str(train(tmp_path, 2))
    for module, more, problem in (
        (mars, ["--env", "paxmen_5a"], "is of task 'paxmen_4a', not of 'paxmen_5a'"),
        (mappo, [], "is a run of mars, not of mappo"),
        (mars, ["--num-envs", "8"], "--num-envs is 4 in the resumed run"),
        (mars, ["--config", "x.yaml"], "--config cannot be used with --resume"),
        (mars, ["--resume", f"{folder}/policy.pt"], "policy.pt is a policy, not a checkpoint to go on with"),
    ):
        with pytest.raises(SystemExit) as stopped:
            module.main(["--resume", folder, *more])
        assert stopped.value.code == 2
        assert problem in capsys.readouterr().err
    assert mars.main(["--resume", folder, "--device", "auto"]) == 0


def test_seeds_are_exact_to_the_last_bit():
    assert cli.parse_whole("9007199254740993") == 2**53 + 1
    assert cli.parse_whole("9_223_372_036_854_775_807") == 2**63 - 1


def test_a_lesson_of_one_s_own_may_log_what_it_has(tmp_path):
    """One without a critic, say; of what is there a loss that is no number still ends a seed."""
    args = settings.parse(mars.Args, mars.ratio_range, "mars", arguments(tmp_path, 2))
    with (
        pytest.raises(cli.RunError, match="update 2, seed 0: actor_loss is nan"),
        record.Run(args, "mine", STEPS) as run,
    ):
        for update in run.updates():
            run.log_update(update, {"actor_loss": torch.tensor([0.5 if update == 1 else float("nan")])})
    assert records(the_run(tmp_path))[0]["actor_loss"] == 0.5
