"""A trained team as a file for programs without torch_mars: ONNX, TorchScript, or an exported program of PyTorch (pt2).

| | name | shape | |
|---|---|---|---|
| inputs | obs | float32 [B, N, O] | what the environment shows; each agent's id is added inside |
| | memory | float32 [B, N, H] | next_memory of the step before; zeros begin an episode. Only of recurrent runs |
| | mask | bool [B, N, A] | True: allowed. Only where the task can forbid actions |
| outputs, numbered actions | logits | float32 [B, N, A] | logarithms of the probabilities; below -1e8: forbidden |
| | action | int64 [B, N] | the most likely one |
| outputs, continuous actions | mean, std | float32 [B, N, d] | of the normal distribution before the tanh |
| | action | float32 [B, N, d] | the most likely one before the tanh, in the bounds of the environment |
| outputs, recurrent runs | next_memory | float32 [B, N, H] | what is remembered: the input of the next step |

Any B of 1 or more will do. Nothing is drawn at random inside: who wants samples draws them from logits, or from mean
and std. `describe` is what is written into the file besides, so that it explains itself.
"""

import contextlib
import dataclasses
import importlib.util
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import torch_mars
from torch_mars.envs.core import BatchedEnv
from torch_mars.nn.distributions import Categorical, TanhNormal
from torch_mars.nn.recurrence import forgotten
from torch_mars.run.cli import RunError, UsageError, short
from torch_mars.run.files import to_json
from torch_mars.teams.policies import Policy, Trained, answer

ONNX_OPSET = 18  # what PyTorch's exporter writes by itself; newer ones fewer runtimes know
METADATA = "metadata.json"  # the file inside a TorchScript or pt2 file
CHECKED = 64  # episodes in which the file is compared with the policy
CHECKED_STEPS = 8  # of an episode where something is remembered, otherwise its first
MEMORY = "zeros where an episode begins, otherwise next_memory of the step before"
TOLERANCE = 1e-4  # of the comparison, absolute and relative: other libraries add in another order

Inputs = dict[str, Tensor]  # obs [B, N, O]; memory [B, N, H], if there is one; mask [B, N, A], if the task has masks
Run = Callable[[Inputs], dict[str, np.ndarray]]


class Graph(nn.Module):
    """One training seed's policy as a function of tensors alone, on the CPU. Inputs and outputs: see the module."""

    def __init__(self, trained: Trained, env: BatchedEnv, p: int):
        super().__init__()
        self.actor = _without_gradients(trained.actor(env, [p]))
        self.eval()

    def forward(self, obs: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        return self.outputs(answer(self.actor, obs, mask, None)[0])

    def outputs(self, policy: Categorical | TanhNormal) -> dict[str, Tensor]:
        """From a policy of actions [1, B, N, ...]."""
        action = self.actor.to_env(policy.mode())
        if self.actor.is_discrete:
            return {"logits": policy.log_probs[0], "action": action}
        std = policy.std.expand_as(policy.mean)[0]
        return {"mean": policy.mean[0], "std": std, "action": action.clamp(self.actor.low, self.actor.high)}


class GraphWithMemory(Graph):
    """The same of an Actor that remembers."""

    def forward(self, obs: Tensor, memory: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        policy, memory = answer(self.actor, obs, mask, memory)
        outputs = {name: output.squeeze(1) for name, output in self.outputs(policy).items()}  # the axis of one step
        return {**outputs, "next_memory": memory}


def _without_gradients(module: nn.Module) -> nn.Module:
    """Weights become buffers: PyTorch 2.9 reads every parameter of a pt2 file as one that is trained."""
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, weight.detach())
    return module


@dataclass(frozen=True)
class Format:
    """How a graph becomes a file's content, and how the content is run."""

    suffix: str  # of the file's name
    packages: tuple[str, ...]  # that PyTorch does not bring
    write: Callable[[Graph, Inputs, dict[str, Any]], bytes]
    read: Callable[[bytes], Run]


def exported(trained: Trained, format: str, policy_seed: int | None = None) -> bytes:
    """The content of a file that acts as `load_policy(..., greedy=True)` does, which it has been compared with.

    Args:
        format: one of FORMATS.
        policy_seed: training seed; None: the one with the best evaluation.

    Raises:
        UsageError: a package is missing, a seed that was not trained, or a lesson whose Actor needs more than obs and
            mask.
        RunError: the file does not act as the policy does.
    """
    check_packages(format)
    env = trained.make_env(CHECKED)
    policy = Policy(trained, "cpu", greedy=True, seed=0, policy_seed=policy_seed)
    try:
        graph = (GraphWithMemory if policy.has_memory else Graph)(trained, env, trained.index(policy_seed))
        steps = _played(graph, env, policy)
        is_function = all(_acts_as_expected(policy, steps) for _ in range(2))
    except (TypeError, ValueError, AttributeError, KeyError, RuntimeError) as error:
        raise UsageError(_no_function(trained, f"{type(error).__name__}: {error}")) from None
    if not is_function:
        raise UsageError(_no_function(trained, "it acts in another way without the rest"))
    first = steps[0]
    with _quiet(), torch.no_grad():
        content = FORMATS[format].write(graph, first.inputs, describe(trained, env, policy, first))
        run = FORMATS[format].read(content)
        for few in (1, CHECKED):
            _check_file(run, steps, few, format)
    return content


# ---- what is compared ----


@dataclass(frozen=True)
class Step:
    """One of CHECKED environments that restart by themselves."""

    inputs: Inputs
    is_start: Tensor  # bool [B]: in which of them an episode begins
    expected: dict[str, np.ndarray]  # what the graph answers


@torch.no_grad()
def _played(graph: Graph, env: BatchedEnv, policy: Policy) -> list[Step]:
    """The first step of every episode; of a policy with memory the first CHECKED_STEPS."""
    B, N, steps = env.num_envs, env.num_agents, []
    ts, is_start = env.reset(), torch.ones(B, dtype=torch.bool)
    for _ in range(CHECKED_STEPS if policy.has_memory else 1):
        inputs = {"obs": ts.obs}
        if policy.has_memory:
            inputs["memory"] = graph.actor.initial_memory(1, B, N)[0] if policy.memory is None else policy.memory
        if ts.action_mask is not None:
            inputs["mask"] = ts.action_mask
        expected = {name: tensor.numpy() for name, tensor in graph(**inputs).items()}
        steps.append(Step(inputs, is_start, expected))
        ts = env.step(policy(ts.obs, ts.action_mask))
        is_start = ts.terminated | ts.truncated
        policy.reset(is_start)
    return steps


def _acts_as_expected(policy: Policy, steps: list[Step]) -> bool:
    """Whether a policy, by its own memory, takes the graph's actions."""
    policy.reset()
    for step in steps:
        policy.reset(step.is_start)
        actions = policy(step.inputs["obs"], step.inputs.get("mask"))
        if not np.array_equal(step.expected["action"], actions.numpy()):
            return False
    return True


def _check_file(run: Run, steps: list[Step], few: int, format: str) -> None:
    """RunError unless a file, by its own memory, answers as is expected of the first `few` environments."""
    found: dict[str, np.ndarray] = {}
    for step in steps:
        inputs = {name: tensor[:few] for name, tensor in step.inputs.items()}
        if "next_memory" in found:
            inputs["memory"] = forgotten(torch.from_numpy(found["next_memory"]), step.is_start[:few])
        found = run(inputs)
        _compare(found, step.expected, few, format)


def check_packages(format: str) -> None:
    """UsageError unless all is installed that a format needs."""
    missing = [name for name in FORMATS[format].packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"--format {format} needs {', '.join(missing)}: pip install 'torch_mars[export]'")


def _no_function(trained: Trained, reason: str) -> str:
    return (
        f"the Actor of {trained.algorithm} cannot be exported: it must be a function of observations, mask and memory "
        f"that gives a Categorical or a TanhNormal ({short(reason)})"
    )


def _compare(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], count: int, format: str) -> None:
    """RunError unless the first `count` answers of the file are those of the policy."""
    for name, wanted in expected.items():
        wanted, got = wanted[:count], found[name]
        kinds = [f"{array.dtype} {list(array.shape)}" for array in (got, wanted)]
        if kinds[0] != kinds[1]:
            raise RunError(f"{format}: {name} is {kinds[0]}, not {kinds[1]}; nothing was written")
        if wanted.dtype == np.int64:  # of two that are as likely, either will do
            logits = expected["logits"][:count]
            wanted, got = (np.take_along_axis(logits, each[..., None], -1) for each in (wanted, got))
        if not np.allclose(got, wanted, TOLERANCE, TOLERANCE, equal_nan=True):
            raise RunError(f"{format}: {name} is off by {np.abs(got - wanted).max():.3g}; nothing was written")


# ---- what the file says of itself ----


def describe(trained: Trained, env: BatchedEnv, policy: Policy, step: Step) -> dict:
    """All that a program in another language must know, as plain values for JSON."""
    space = env.action_space
    if hasattr(space, "n"):
        actions = {"kind": "discrete", "count": int(space.n)}
        sampling = "draw each agent's action with probabilities exp(logits)"
    else:
        actions = {"kind": "continuous", "size": space.shape[0], "low": space.low.tolist(), "high": space.high.tolist()}
        sampling = "action = low + (tanh(mean + std * noise) + 1) / 2 * (high - low); noise: standard normal"
    returned = trained.returns[trained.index(policy.training_seed)]
    return {
        "task": trained.task,
        "algorithm": trained.algorithm,
        "policy": trained.what,
        "training_seed": policy.training_seed,
        "evaluation_return": returned if np.isfinite(returned) else None,
        "agents": env.agents,
        "observation_size": env.observation_size,
        "actions": actions,
        "sampling": sampling,
        **({"memory": MEMORY} if policy.has_memory else {}),
        "inputs": {name: ["batch", *tensor.shape[1:]] for name, tensor in step.inputs.items()},
        "outputs": {name: ["batch", *array.shape[1:]] for name, array in step.expected.items()},
        "env_options": trained.env_options,  # as the run was given them
        "all_options": dataclasses.asdict(env.options),
        "max_steps": env.max_steps,
        "environment": inspect.cleandoc(inspect.getmodule(type(env)).__doc__ or ""),
        "torch_mars": torch_mars.__version__,
    }


# ---- formats ----


def _to_onnx(graph: Graph, inputs: Inputs, metadata: dict[str, Any]) -> bytes:
    import onnx

    program = torch.onnx.export(
        graph, tuple(inputs.values()), dynamo=True, opset_version=ONNX_OPSET, dynamic_shapes=_dynamic(inputs),
        input_names=list(inputs), output_names=list(metadata["outputs"]), verbose=False,
    )  # fmt: skip
    model = program.model_proto
    parts = (model.graph.node, model.graph.input, model.graph.output, model.graph.initializer, model.graph.value_info)
    for part in [part for group in parts for part in group]:
        del part.metadata_props[:]  # where in whose Python it came from
    texts = {name: value if isinstance(value, str) else to_json(value) for name, value in metadata.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _run_onnx(content: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, {k: tensor.numpy() for k, tensor in inputs.items()})))


def _to_torchscript(graph: Graph, inputs: Inputs, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    traced = torch.jit.trace(graph, tuple(inputs.values()), check_trace=False, strict=False)  # a dict is no tensor
    torch.jit.save(traced, buffer, _extra_files={METADATA: to_json(metadata)})
    return buffer.getvalue()


def _run_torchscript(content: bytes) -> Run:
    return _as_arrays(torch.jit.load(io.BytesIO(content)))


def _to_pt2(graph: Graph, inputs: Inputs, metadata: dict[str, Any]) -> bytes:
    program = torch.export.export(graph, tuple(inputs.values()), dynamic_shapes=_dynamic(inputs))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where in whose Python it came from
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: to_json(metadata)})
    return buffer.getvalue()


def _run_pt2(content: bytes) -> Run:
    return _as_arrays(torch.export.load(io.BytesIO(content)).module())


def _as_arrays(module: nn.Module) -> Run:
    return lambda inputs: {name: tensor.numpy() for name, tensor in module(*inputs.values()).items()}


def _dynamic(inputs: Inputs) -> tuple[dict, ...]:
    batch = torch.export.Dim("batch")
    return tuple({0: batch} for _ in inputs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What PyTorch's exporters say is for who writes exporters: deprecations, packages that nobody needs here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _to_onnx, _run_onnx),
    "torchscript": Format(".pt", (), _to_torchscript, _run_torchscript),
    "pt2": Format(".pt2", (), _to_pt2, _run_pt2),
}
