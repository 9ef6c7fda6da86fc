"""Training on a CPU in portions and shares: the numbers are those of the whole, whatever the number of threads."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
from faults import assert_same
from lesson_cases import OPTIONS, with_cases

import torch_mars.envs as envs
from torch_mars.algos import mars, recurrent
from torch_mars.envs import pool
from torch_mars.envs.core import fields_of
from torch_mars.nn import inductor, speed
from torch_mars.run import cli, files

TASKS = ["paxmen_4a", "aerojax_2v2", "smax_2s3z", "simple_spread_3ag"]  # numbered, continuous, masked, pay of their own


@pytest.fixture(autouse=True)
def threads_as_before():
    before, precision = pool.num_threads(), torch.get_float32_matmul_precision()
    yield
    pool.set_num_threads(before)
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def small(monkeypatch):
    """Portions and shares so small that tiny trainings have many, of different sizes."""
    monkeypatch.setattr(speed, "PORTION", 50)
    monkeypatch.setattr(speed, "SHARE", 7)


AT_NIGHT = [(recurrent, task, {"sequence_length": 3}) for task in ("aerojax_2v2", "simple_spread_3ag")]
CASES = [
    *((mars, task, {}) for task in TASKS),
    *((recurrent, task, {"sequence_length": 3}) for task in TASKS),
    (mars, "aerojax_2v2", OPTIONS),
    (recurrent, "aerojax_2v2", {**OPTIONS, "sequence_length": 3, "independent": True}),
]
every_case = with_cases(CASES, quick=[case for case in CASES if case not in AT_NIGHT])


def parts(task, lesson=mars, **more):
    settings = {"num_envs": 10, "rollout_length": 9, "minibatches": 3, "epochs": 2, "hidden_size": 8, "num_seeds": 2}
    args = lesson.Args(env=task, bootstrap_truncation=True, **settings | more)
    seeds = list(range(args.num_seeds))
    env = envs.make(task, args.num_seeds * args.num_envs, seed=seeds, max_steps=5)
    env.reset()
    learner = lesson.Learner(args, env, seeds)
    return {"env": env, "learner": learner, "rollout": lesson.Rollout(args, env, learner.actor), "args": args}


def trained(task, iterations=2, lesson=mars, **more):
    """The State, the learner's State, the rollout and what was logged after some iterations."""
    this = parts(task, lesson, **more)
    carry = this["env"].state, this["learner"].key
    for _ in range(iterations):
        carry, numbers = lesson.iteration(carry, **this)
    rollout = {name: x for name, x in vars(this["rollout"]).items() if isinstance(x, torch.Tensor)}
    return {"env": fields_of(carry[0]), "learner": this["learner"].state_dict(), "rollout": rollout, "numbers": numbers}


@every_case
def test_numbers_do_not_depend_on_the_number_of_threads(lesson, task, settings, small):
    assert len(speed.portions(torch.zeros(2, 30), 3)) > 2
    pool.set_num_threads(1)
    alone = trained(task, lesson=lesson, **settings)
    for threads in (2, 3):
        pool.set_num_threads(threads)
        assert_same(trained(task, lesson=lesson, **settings), alone)


@every_case
def test_portions_and_shares_together_are_the_whole(lesson, task, settings, small, monkeypatch):
    in_parts = trained(task, lesson=lesson, iterations=1, **settings)
    monkeypatch.setattr(speed, "PORTION", 10**9)
    monkeypatch.setattr(speed, "SHARE", 10**9)
    whole = trained(task, lesson=lesson, iterations=1, **settings)
    for name, expected in whole["rollout"].items():
        torch.testing.assert_close(in_parts["rollout"][name], expected, rtol=1e-4, atol=1e-5, msg=name)
    for name, expected in whole["env"].items():
        torch.testing.assert_close(in_parts["env"][name], expected, rtol=1e-4, atol=1e-4, msg=name)
    for name, expected in whole["numbers"].items():
        torch.testing.assert_close(
            in_parts["numbers"][name].double(), expected.double(), rtol=2e-3, atol=1e-5, equal_nan=True, msg=name
        )


def test_the_gradient_is_that_of_the_whole_minibatch_and_the_force_that_of_each_sample(small):
    x, weight = torch.randn(2, 37, 3), torch.randn(2, 1, 3, requires_grad=True)

    def loss(nudge, x, nothing):
        assert nothing is None
        y = (x * weight).sum(2) + nudge.sum(2)
        return y.square().sum(), {"y": y, "twice": 2 * y}

    seen = speed.differentiate(loss, (x, None), 3, [weight])
    y = (x * weight).sum(2)
    torch.testing.assert_close(weight.grad, torch.autograd.grad(y.square().sum(), weight)[0])
    assert set(seen) == {"y", "twice", "force"} and not seen["y"].requires_grad
    torch.testing.assert_close(seen["y"], y.detach())
    torch.testing.assert_close(seen["force"], (2 * y.detach())[..., None].expand(2, 37, 3))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 60])
def test_shares_are_stepped_as_the_environments_they_are(count, monkeypatch):
    """Environment i of seed p goes its own way, in whichever share it is, and comes back to its row."""
    env, other = (envs.make("rware_tiny_2ag", 60, seed=[3, 4]) for _ in range(2))
    env.reset(), other.reset()
    monkeypatch.setattr(speed, "SHARE", 120 // count)
    actions = torch.randint(5, (2, 6, 30, 2))
    seen = torch.zeros(2, 6, 30)

    def walk(env, actions, seen):
        for t in range(6):
            seen["returns"][:, t] = env.step(actions[:, t].flatten(0, 1)).info["episode_return"].view(2, -1)

    pool.set_num_threads(2)
    speed.in_shares(walk, env, actions, {"returns": seen})
    for t in range(6):
        returns = other.step(actions[:, t].flatten(0, 1)).info["episode_return"]
        assert torch.equal(seen[:, t].flatten(), returns)
    assert_same(env.state_dict(), other.state_dict())


SETTINGS = "--env paxmen_5a --num-envs 512 --rollout-length 16 --minibatches 1 --eval-episodes 2 --hidden-size 16"


def test_a_run_goes_on_with_another_number_of_threads_to_the_bit(tmp_path):
    steps = 512 * 16
    assert len(speed.portions(torch.zeros(1, steps), 5)) > 2 and 512 * 5 >= 2 * speed.SHARE
    more = [*SETTINGS.split(), "--device", "cpu", "--checkpoint-every", "1"]
    pool.set_num_threads(1)
    assert mars.main([*more, "--total-steps", str(4 * steps), "--run-dir", str(tmp_path / "whole")]) == 0
    assert mars.main([*more, "--total-steps", str(2 * steps), "--run-dir", str(tmp_path / "changed")]) == 0
    (whole,), (changed,) = ((tmp_path / name).glob("*/*/*") for name in ("whole", "changed"))
    for threads, updates in ((3, 3), (2, 4)):
        pool.set_num_threads(threads)
        goal = ["--total-steps", str(updates * steps), "--eval-every", str(4 * steps // 122)]
        assert mars.main(["--resume", str(changed), *goal]) == 0
    assert_same(files.load_checkpoint(changed), files.load_checkpoint(whole))


@pytest.mark.slow
def test_a_training_takes_as_many_threads_as_it_is_given(tmp_path):
    command = [sys.executable, "-m", "torch_mars.algos.mars", *SETTINGS.split(), "--run-dir", str(tmp_path)]
    for threads in ("1", "2")[: os.cpu_count()]:
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        done = subprocess.run(
            [*command, "--total-steps", "8192", "--device", "cpu"], capture_output=True, text=True, env=environment
        )
        said = {"1": "cpu, 1 thread\n", "2": "cpu, 2 threads\n"}[threads]
        assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr


# ---- precision ----


def tiny(tmp_path, *more):
    settings = "--env paxmen_4a --num-envs 2 --rollout-length 16 --hidden-size 8 --eval-episodes 2 --device cpu"
    return mars.main([*settings.split(), "--total-steps", "64", "--run-dir", str(tmp_path), *more])


def test_precision_is_pytorchs_and_what_changes_nothing_is_said(tmp_path, capsys, monkeypatch):
    for has_bfloat16, precision, is_told in ((False, "medium", True), (True, "medium", False), (True, "high", True)):
        monkeypatch.setattr(speed, "has_bfloat16", lambda has=has_bfloat16: has)
        assert tiny(tmp_path, "--matmul-precision", precision) == 0
        assert torch.get_float32_matmul_precision() == precision
        assert (f"--matmul-precision {precision} changes nothing" in capsys.readouterr().out) == is_told
    assert tiny(tmp_path) == 0 and torch.get_float32_matmul_precision() == "highest"


def test_what_pytorch_says_of_its_own_call_is_kept_from_users(monkeypatch):
    """PyTorch 2.9's words, shortened. Other warnings come through."""
    said = ["Please use the new API settings to control TF32 behavior", "of something else"]

    def set_precision(_):
        for text in said:
            warnings.warn(text, stacklevel=1)

    monkeypatch.setattr(torch, "set_float32_matmul_precision", set_precision)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        speed.prepare("meta")
    assert [str(warning.message) for warning in heard] == said[1:]


def test_an_unknown_precision_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        tiny(tmp_path, "--matmul-precision", "hihg")
    assert "--matmul-precision is 'hihg'" in capsys.readouterr().err


def test_a_resume_that_rounds_in_another_way_says_so(tmp_path, capsys):
    assert tiny(tmp_path) == 0
    (folder,) = tmp_path.glob("*/*/*")
    assert mars.main(["--resume", str(folder), "--total-steps", "96", "--matmul-precision", "medium"]) == 0
    assert "no longer exact  --matmul-precision was highest" in capsys.readouterr().out
    assert mars.main(["--resume", str(folder), "--total-steps", "128"]) == 0  # medium once more
    assert "no longer exact" not in capsys.readouterr().out and torch.get_float32_matmul_precision() == "medium"


# ---- compiled ----


def test_without_a_compiler_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    inductor._kept.cache_clear()
    with pytest.raises(cli.RunError, match="--compile: it needs a C\\+\\+ compiler, and no-such-compiler is not found"):
        tiny(tmp_path, "--compile")


def test_a_compiler_that_fails_is_a_sentence(monkeypatch, tmp_path):
    from torch._dynamo.exc import BackendCompilerFailed

    def fail(*args, **named):
        raise BackendCompilerFailed(lambda: None, RuntimeError("Python.h: no such file"), None)

    monkeypatch.setattr(torch, "compile", lambda function, **settings: fail)
    monkeypatch.setattr(inductor, "_lacks", lambda first: None)
    inductor._kept.cache_clear()
    with pytest.raises(cli.RunError, match=r"--compile: compiling failed \(.*Python.h"):
        tiny(tmp_path, "--compile")
    inductor._kept.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_compiled_losses_are_the_losses(task, monkeypatch):
    pool.set_num_threads(2)
    monkeypatch.setattr(speed, "PORTION", 50)
    eager, compiled = (trained(task, iterations=1, compile=compile) for compile in (False, True))
    for name, expected in eager["numbers"].items():
        torch.testing.assert_close(
            compiled["numbers"][name].double(), expected.double(), rtol=2e-3, atol=1e-5, equal_nan=True, msg=name
        )


@pytest.mark.slow
def test_compiled_losses_are_compiled_once(monkeypatch):
    from torch._dynamo.utils import counters

    inductor._kept.cache_clear()
    trained("paxmen_4a", iterations=1, compile=True)
    before = dict(counters["stats"])
    trained("paxmen_4a", iterations=2, compile=True)
    assert counters["stats"]["unique_graphs"] - before["unique_graphs"] <= 2  # other tensors and seeds: nothing anew
