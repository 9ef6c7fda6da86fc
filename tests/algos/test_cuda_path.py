"""The code path of CUDA graphs, tested without a GPU.

Two things can go wrong there that a CPU would not notice: a look at a value on the device (which waits for it, and
cannot be recorded), and a tensor that was made on the CPU. PyTorch's meta device shows both: its tensors have a shape
but no values, and do not mix with others. The memory that recording and replaying share is tested with a stand-in for
the recorder.
"""

import contextlib

import pytest
import torch
from lesson_cases import OPTIONS, with_cases
from task_lists import ONE_EACH

import torch_mars.envs as envs
from torch_mars.algos import mars, recurrent
from torch_mars.nn import optimizers, speed
from torch_mars.run.cli import RunError

CASES = [
    *((mars, task, {}) for task in ONE_EACH),
    *((recurrent, task, {"sequence_length": 3}) for task in ("paxmen_4a", "aerojax_2v2", "smax_2s3z")),
    (mars, "aerojax_2v2", {**OPTIONS, "agent_id": False}),
    (recurrent, "smax_2s3z", {**OPTIONS, "sequence_length": 2}),
]
every_case = with_cases(CASES)


def training(env_name, device, seeds=(0, 1), lesson=mars, **settings):
    args = lesson.Args(
        env=env_name, num_envs=4, rollout_length=6, hidden_size=8, num_seeds=len(seeds), device=device,
        minibatches=2, epochs=2, bootstrap_truncation=True, env_options={"max_steps": 4}, **settings,
    )  # fmt: skip
    env = envs.make(env_name, len(seeds) * args.num_envs, device, list(seeds), **args.env_options)
    started = envs.make(env_name, env.num_envs, "cpu", list(seeds), **args.env_options)  # starts may look at values
    started.reset()
    env.state = speed.tree_map(lambda field: field.to(device), started.state)
    learner = lesson.Learner(args, env, list(seeds))
    if args.anneal_lr:
        learner.anneal(0.5)
    rollout = lesson.Rollout(args, env, learner.actor)
    return {"env": env, "rollout": rollout, "learner": learner, "args": args}


def start_of(parts):
    return parts["env"].state, parts["learner"].key


def weights(parts):
    return torch.cat([p.detach().flatten() for p in parts["learner"].actor.parameters()])


@pytest.fixture
def without_fused_adam(monkeypatch):
    """The one thing that the meta device lacks."""

    def adam(parameters, gradients, *moments, **settings):
        for p, gradient in zip(parameters, gradients, strict=True):
            p.add_(gradient)

    monkeypatch.setattr(optimizers, "adam", adam)


@every_case
def test_an_iteration_never_waits_for_its_device_and_keeps_to_it(
    lesson, task, settings, without_fused_adam, monkeypatch
):
    parts = training(task, "meta", lesson=lesson, **settings)
    lesson.iteration(start_of(parts), **parts)  # makes the optimisers' moments

    def tensor(*args, **kwargs):
        raise AssertionError("a tensor made of Python's numbers is copied to the device, which waits for it")

    monkeypatch.setattr(torch, "tensor", tensor)
    _, numbers = lesson.iteration(start_of(parts), **parts)
    assert {(values.device.type, *values.shape) for values in numbers.values()} == {("meta", 2)}


@every_case
def test_a_step_of_an_evaluation_never_waits_for_its_device(lesson, task, settings, monkeypatch):
    parts, seen = training(task, "meta", lesson=lesson, **settings), []

    def repeat(step, carry, times, is_over, with_graph):
        seen.append(step(step(carry)))
        raise StopIteration

    monkeypatch.setattr(speed, "repeat", repeat)
    monkeypatch.setattr(parts["env"], "reset", lambda seed: parts["env"].observe())
    with pytest.raises(StopIteration):
        lesson.evaluate(parts["env"], parts["learner"].actor, [0, 1], parts["args"])
    assert {tensor.device.type for tensor in tree_leaves(seen)} == {"meta"}


def tree_leaves(tree):
    leaves = []
    speed.tree_map(leaves.append, tuple(tree))
    return leaves


class Steps:
    """Environments that are over at step 5, on a device that counts the looks."""

    def __init__(self, device):
        self.device, self.looks = device, 0
        self.is_cuda = device == "cuda"

    def all(self):
        self.looks += 1
        return self.step >= 5


@pytest.mark.parametrize("device, steps, looks", [("cpu", 5, 5), ("cuda", 16, 1)])
def test_a_gpu_is_looked_at_now_and_then(device, steps, looks):
    over = Steps(device)

    def step(number):
        over.step = number + 1
        return over.step

    assert speed.repeat(step, 0, 100, lambda carry: over, with_graph=False) == steps and over.looks == looks
    assert speed.repeat(step, 0, 3, lambda carry: over, with_graph=False) == 3


@pytest.mark.parametrize(
    "slip, error, message",
    [
        pytest.param(lambda x: x if x.max() > 0 else -x, RuntimeError, "item", id="a look at a value"),
        # PyTorch's own answer: an operator whose shape depends on values cannot exist for tensors without values
        pytest.param(lambda x: x[x > 0].sum() + x, NotImplementedError, "nonzero", id="a shape that depends on values"),
        pytest.param(lambda x: x + torch.ones(1), RuntimeError, "cpu", id="a tensor from the CPU"),
    ],
)
def test_the_check_above_notices_a_slip(slip, error, message, without_fused_adam, monkeypatch):
    normalise = mars.normalise
    monkeypatch.setattr(mars, "normalise", lambda *given: slip(normalise(*given)))
    parts = training(ONE_EACH[0], "meta")
    with pytest.raises(error, match=message):
        mars.iteration(start_of(parts), **parts)


class Recorder:
    """Stands for torch.cuda.CUDAGraph: what is recorded is run again, from and to the same memory."""

    def __init__(self, fails=False):
        self.graph, self.fails = None, fails

    @contextlib.contextmanager
    def recording(self, graph, stream, capture_error_mode):
        self.graph = graph
        yield
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")


@pytest.fixture
def recorder(monkeypatch):
    """CUDA's recording replaced: recording leaves weights alone, as it should, and replaying runs the function."""
    recorder = Recorder()

    class Graph:
        def replay(self):
            after, result = recorder.function(recorder.owner.carry)
            recorder.owner.result = result
            speed.tree_map(speed._copy_to, recorder.owner.carry, after)

    def run_aside(self, carry):
        return self.function(carry)

    def recorded(self, carry):
        recorder.owner, recorder.function, trained = self, self.function, self.function
        self.function = lambda carry: (carry, {})  # a recording computes nothing
        try:
            original(self, carry)
        finally:
            self.function = trained

    original = speed.CudaGraph._record
    monkeypatch.setattr(speed.CudaGraph, "_record", recorded)
    monkeypatch.setattr(speed.CudaGraph, "_run_aside", run_aside)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recorder.recording)
    return recorder


@with_cases(CASES, quick=[CASES[0], *CASES[-4:]])
def test_training_from_fixed_memory_gives_the_same_numbers(lesson, task, settings, recorder):
    plain, replayed = (training(task, "cpu", lesson=lesson, **settings) for _ in range(2))
    said = []
    graph = speed.CudaGraph(lambda carry: lesson.iteration(carry, **replayed), said.append)
    plain_carry, carry = start_of(plain), start_of(replayed)
    for number in range(6):
        if settings.get("anneal_lr"):
            plain["learner"].anneal(1 - number / 6)
            replayed["learner"].anneal(1 - number / 6)
        plain_carry, expected = lesson.iteration(plain_carry, **plain)
        carry, numbers = graph(carry)
        if number == 3:
            memory = carry[1].data_ptr()
        for name, values in expected.items():
            assert torch.equal(numbers[name].nan_to_num(), values.nan_to_num()), (number, name)
    assert carry[1].data_ptr() == memory
    assert torch.equal(weights(plain), weights(replayed))
    assert len(said) == 1 and "CUDA graph recorded" in said[0]


def test_what_cannot_be_recorded_is_one_sentence_with_the_way_out(recorder):
    recorder.fails = True
    parts = training(ONE_EACH[0], "cpu")
    graph = speed.CudaGraph(lambda carry: mars.iteration(carry, **parts), print)
    carry = start_of(parts)
    for _ in range(speed.CudaGraph.WARM_UP):
        carry, _ = graph(carry)
    with pytest.raises(RunError, match=r"operation not permitted when stream is capturing\); use --no-cuda-graphs$"):
        graph(carry)
