"""Teams as files for other programs: the same actions as `load_policy`, figures by NumPy, what the file says of itself,
programs without torch_mars, refusals."""

import copy
import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refusal
from teams import save_team
from toy_environments import register_toys

import torch_mars
import torch_mars.envs as envs
from torch_mars import __main__, export
from torch_mars.algos import mars
from torch_mars.nn.distributions import Categorical, TanhNormal
from torch_mars.run import files, finding
from torch_mars.run.cli import RunError, UsageError
from torch_mars.teams import exports, policies

ROOT = Path(__file__).parents[2]
MASKED, CONTINUOUS = "connector_5x5x3a", "aerojax_2v2"
FORMATS = list(exports.FORMATS)
COUNT = 1000  # observations that are compared
# One export as ONNX, the first, costs as much time as all others together: the second is nightly.
BOTH_TASKS = [MASKED, pytest.param(CONTINUOUS, marks=pytest.mark.slow)]
EVERY_FILE = [(format, task) for format in FORMATS for task in (MASKED, CONTINUOUS)]
EVERY_FILE = [pytest.param(*file, marks=[pytest.mark.slow] * (file == ("onnx", CONTINUOUS))) for file in EVERY_FILE]


def policy_file(path, task, weights, seeds=(7, 8), **env_options):
    """As a run leaves it."""
    settings = {"env": task, "env_options": env_options, "seed": seeds[0], "hidden_size": 8}
    content = {"algorithm": "mars", "task": task, "settings": settings, "actor": dict(weights)}
    files.save_checkpoint(path, {**content, "returns": torch.zeros(len(seeds))})
    return path


def fresh_weights(task, seeds=2, gain=100.0):
    """Of untrained networks whose answers are far from each other."""
    actor = mars.Actor(
        envs.make(task), mars.Args(hidden_size=8), [torch.Generator().manual_seed(p) for p in range(seeds)]
    )
    actor.network.head.weight.data *= gain
    actor.network.head.bias.data.normal_(generator=torch.Generator().manual_seed(9))
    return actor.state_dict()


@pytest.fixture(scope="module")
def teams(tmp_path_factory):
    """Where the teams are: with masks, training seeds 7 and 8, whose 8 plays; with continuous actions, installed."""
    path = tmp_path_factory.mktemp("teams") / "policy.pt"
    return {MASKED: (policy_file(path, MASKED, fresh_weights(MASKED)), 8), CONTINUOUS: (CONTINUOUS, None)}


@pytest.fixture(scope="module")
def written(teams, tmp_path_factory):
    """The file of a team in a format, each written once, by the command."""
    folder, known = tmp_path_factory.mktemp("files"), {}

    def write(task, format):
        if (task, format) not in known:
            what, seed = teams[task]
            out = folder / f"{task}{exports.FORMATS[format].suffix}"
            words = [str(what), "--format", format, "--out", str(out)]
            assert export.main(words + (["--policy-seed", str(seed)] if seed else [])) == 0
            known[task, format] = out
        return known[task, format]

    return write


@pytest.fixture(scope="module")
def seen():
    """obs, and masks where there are any, of COUNT environments a few random steps into their episodes."""
    found = {}
    for task in (MASKED, CONTINUOUS):
        env = envs.make(task, COUNT, seed=5)
        ts, generator = env.reset(), torch.Generator().manual_seed(0)
        for _ in range(3):
            if ts.action_mask is None:
                actions = 2 * torch.rand(COUNT, env.num_agents, env.action_space.shape[0], generator=generator) - 1
            else:
                allowed = ts.action_mask.flatten(0, 1).float()
                actions = torch.multinomial(allowed, 1, generator=generator).view(COUNT, -1)
            ts = env.step(actions)
        found[task] = {"obs": ts.obs} if ts.action_mask is None else {"obs": ts.obs, "mask": ts.action_mask}
    return found


def run(path, format, inputs):
    """As a user runs the file, without this package's help; outputs as arrays by name."""
    return runner(path, format)(inputs)


def runner(path, format):
    """The same for more than one step."""
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]

        def by_onnx(inputs):
            assert [i.name for i in session.get_inputs()] == list(inputs)
            return dict(zip(names, session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})))

        return by_onnx
    module = torch.jit.load(path) if format == "torchscript" else torch.export.load(path).module()
    return lambda inputs: {name: tensor.numpy() for name, tensor in module(*inputs.values()).items()}


def by_numpy(task, teams, inputs):
    """The distribution's figures in float64, from the weights as they are saved."""
    what, seed = teams[task]
    content = files.load_checkpoint(finding.find_policy(what))
    place = seed - content["settings"]["seed"] if seed else int(np.argmax(content["returns"]))
    weight = {name: tensor[place].double().numpy() for name, tensor in content["actor"].items()}
    obs = inputs["obs"].double().numpy()
    B, N, _ = obs.shape
    x = np.concatenate([np.broadcast_to(np.eye(N), (B, N, N)), obs], -1)
    for layer in ("hidden_1", "hidden_2", "head"):
        x = x @ weight[f"network.{layer}.weight"].T + weight[f"network.{layer}.bias"]
        x = x if layer == "head" else np.maximum(x, 0)
    if "log_std" in weight:
        return {"mean": x, "std": np.broadcast_to(np.log1p(np.exp(weight["log_std"])) + 1e-3, x.shape)}
    if "mask" in inputs:
        x = np.where(inputs["mask"].numpy(), x, -1e9)
    return {
        "logits": x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)
    }


# ---- the same team ----


@pytest.mark.parametrize("format, task", EVERY_FILE)
def test_files_act_as_load_policy_does_and_hold_its_distribution(format, task, written, teams, seen):
    what, seed = teams[task]
    policy = torch_mars.load_policy(what, greedy=True, policy_seed=seed)
    path = written(task, format)
    for count in (1, 7, COUNT):
        inputs = {name: tensor[:count] for name, tensor in seen[task].items()}
        found, figures = run(path, format, inputs), by_numpy(task, teams, inputs)
        assert list(found) == [*figures, "action"]
        action = policy(*inputs.values()).numpy()
        assert found["action"].dtype == action.dtype
        if task == MASKED:
            np.testing.assert_array_equal(found["action"], action)
        else:
            np.testing.assert_allclose(found["action"], action, atol=1e-5)
        for name, expected in figures.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-4, err_msg=name)
    if task == MASKED:
        assert len(np.unique(action)) >= 4 and (found["logits"][~inputs["mask"].numpy()] < -1e8).all()


OWN = {"shared_policy": False, "normalise_obs": True}
OF_ALL_KINDS = [
    ("mars_rnn", MASKED, {}),
    ("maspo_rnn", MASKED, OWN),
    ("mappo_rnn", "toy_continuous", {**OWN, "agent_id": False}),
    ("mars", MASKED, {**OWN, "agent_id": False}),
    ("mappo", "toy_continuous", OWN),
]
LATER = [pytest.param(name, marks=pytest.mark.slow) for name in ("pt2", "onnx")]


def next_by_numpy(weight, obs, memory, ids):
    """The network's outputs and what is remembered, in float64, from the weights of one training seed as they are."""

    def layer(name, x):
        w, b = weight[f"{name}.weight"], weight[f"{name}.bias"]
        if w.ndim == 2:
            return x @ w.T + b
        return np.stack([x[:, i] @ w[i].T + b[i] for i in range(len(w))], 1)  # of each agent its own

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    x, N = obs, obs.shape[1]
    if "inputs.statistics.mean" in weight:
        mean, variance = (weight[f"inputs.statistics.{name}"] for name in ("mean", "variance"))
        x = ((x - mean) / np.sqrt(variance + 1e-8)).clip(-10, 10)
    if ids:
        x = np.concatenate([np.broadcast_to(np.eye(N), (len(x), N, N)), x], -1)
    x = np.maximum(layer("network.hidden_1", x), 0)
    if "network.gru.of_input.weight" not in weight:
        return layer("network.head", np.maximum(layer("network.hidden_2", x), 0)), memory
    new, old = (
        np.split(layer(f"network.gru.{name}", y), 3, -1) for name, y in (("of_input", x), ("of_memory", memory))
    )
    reset, update = sigmoid(new[0] + old[0]), sigmoid(new[1] + old[1])
    memory = (1 - update) * np.tanh(new[2] + reset * old[2]) + update * memory
    return layer("network.head", memory), memory


@pytest.mark.parametrize("format", ["torchscript", *LATER])
@pytest.mark.parametrize("algorithm, task, settings", OF_ALL_KINDS)
def test_files_remember_step_by_step(format, algorithm, task, settings, tmp_path):
    """Agents' own weights, normalised observations and memory, over steps in which episodes end and begin."""
    register_toys()
    team, out = tmp_path / "policy.pt", tmp_path / f"team{exports.FORMATS[format].suffix}"
    save_team(team, algorithm, task, **settings)
    assert export.main([str(team), "--out", str(out)]) == 0
    weight = {name: w[0].double().numpy() for name, w in files.load_checkpoint(team)["actor"].items()}
    policy, ends = torch_mars.load_policy(team, greedy=True), 0
    B, file = 7, runner(out, format)
    env = envs.make(task, B, seed=2, **({"max_steps": 5} if task == MASKED else {"goal": 8.0}))
    ts, is_start = env.reset(), torch.ones(B, dtype=torch.bool)
    memory, by_hand = torch.zeros(B, 3, 8), np.zeros((B, 3, 8))
    for step in range(14):
        memory = memory.masked_fill(is_start[:, None, None], 0)
        by_hand = np.where(is_start[:, None, None], 0.0, by_hand)
        inputs = {"obs": ts.obs, "memory": memory, "mask": ts.action_mask}
        inputs = {name: x for name, x in inputs.items() if x is not None and (policy.has_memory or name != "memory")}
        found, actions = file(inputs), policy(ts.obs, ts.action_mask)
        output, by_hand = next_by_numpy(weight, ts.obs.double().numpy(), by_hand, settings.get("agent_id", True))
        if task == MASKED:
            np.testing.assert_array_equal(found["action"], actions, err_msg=f"step {step}")
            output = np.where(ts.action_mask, output, -1e9)
            output = output - output.max(-1, keepdims=True)
            expected = {"logits": output - np.log(np.exp(output).sum(-1, keepdims=True))}
        else:
            np.testing.assert_allclose(found["action"], actions, atol=1e-5, err_msg=f"step {step}")
            std = np.log1p(np.exp(weight["log_std"])) + 1e-3
            expected = {"mean": output, "std": np.broadcast_to(std, output.shape)}
        expected |= {"next_memory": by_hand} if policy.has_memory else {}
        assert found.keys() == {*expected, "action"}
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-3, err_msg=f"{name}, step {step}")
        one = file({name: x[:1] for name, x in inputs.items()})
        np.testing.assert_allclose(one["action"], found["action"][:1], atol=1e-5)
        memory = torch.from_numpy(found["next_memory"]) if policy.has_memory else memory
        ts = env.step(actions)
        is_start = ts.terminated | ts.truncated
        policy.reset(is_start)
        ends += int(is_start.sum())
    assert ends > 3
    about = metadata(out, format)
    assert about["algorithm"] == algorithm and ("memory" in about) == policy.has_memory
    if policy.has_memory:
        assert about["memory"] == "zeros where an episode begins, otherwise next_memory of the step before"
        assert about["inputs"]["memory"] == about["outputs"]["next_memory"] == ["batch", 3, 8]


def test_a_file_that_remembers_in_another_way_is_not_written(monkeypatch, tmp_path):
    """Its first step is right."""

    def write(graph, inputs, about):
        wrong = copy.deepcopy(graph)
        wrong.actor.network.gru.of_memory.weight *= 1.1
        return exports._to_torchscript(wrong, inputs, about)

    wrong = exports.Format(".pt", (), write, exports._run_torchscript)
    monkeypatch.setitem(exports.FORMATS, "torchscript", wrong)
    team = save_team(tmp_path / "policy.pt", "mars_rnn", MASKED)
    content = files.load_checkpoint(team)
    content["actor"]["network.gru.of_memory.bias"].zero_()
    files.save_checkpoint(team, content)
    with pytest.raises(RunError, match="torchscript: (logits|next_memory) is off by .*; nothing was written"):
        export.main([str(team), "--out", str(tmp_path / "team.pt")])
    assert not (tmp_path / "team.pt").exists()


@pytest.mark.parametrize(
    "format", ["torchscript", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pt2", "onnx"))]
)
def test_ties_and_agents_to_whom_all_is_forbidden(format, tmp_path):
    """Actions 1 and 3 are the likeliest, to the bit, then the rest; forbidden in all ways that there are."""
    weights = {name: torch.zeros_like(weight) for name, weight in fresh_weights(MASKED).items()}
    weights["network.head.bias"][..., [1, 3]] = 0.5
    team = policy_file(tmp_path / "policy.pt", MASKED, weights)
    env = envs.make(MASKED, 32)
    mask = (torch.arange(32)[:, None] >> torch.arange(5) & 1).bool()[:, None].expand(32, 3, 5).contiguous()
    inputs = {"obs": env.reset().obs, "mask": mask}
    out = tmp_path / f"team{exports.FORMATS[format].suffix}"
    assert export.main([str(team), "--out", str(out)]) == 0
    action = run(out, format, inputs)["action"]
    np.testing.assert_array_equal(action, torch_mars.load_policy(team, greedy=True)(**inputs).numpy())
    for row, allowed in enumerate(mask[:, 0].tolist()):
        likeliest = [a for a in (1, 3, 0, 2, 4) if allowed[a]]
        assert action[row].tolist() == [likeliest[0] if likeliest else 0] * 3


def test_the_sentence_on_drawing_is_how_training_draws():
    noise = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.3, -2.0]), torch.tensor([0.5, 1.5])
    actor = mars.Actor(envs.make("aerojax_2v2"), mars.Args(hidden_size=8), [torch.Generator()])
    actor.low, actor.high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 5.0])
    policy = TanhNormal(mean, torch.log(torch.expm1(std - 1e-3)))
    names = {"mean": mean, "std": std, "noise": noise, "low": actor.low, "high": actor.high, "tanh": torch.tanh}
    trained = policies.read(CONTINUOUS)
    env, policy_of_team = trained.make_env(1), torch_mars.load_policy(CONTINUOUS)
    rule = exports.describe(trained, env, policy_of_team, exports.Step({}, torch.ones(1, dtype=torch.bool), {}))[
        "sampling"
    ]
    drawn = eval(re.match("action = (.*); noise: standard normal", rule)[1], names)
    torch.testing.assert_close(drawn, actor.to_env(policy.sample(noise)[None]))


def test_which_policy(tiny_run, tmp_path, monkeypatch, capsys):
    """Of a run the best, of a checkpoint its own, of several seeds the one that is asked for; names of files."""
    monkeypatch.chdir(tmp_path)
    latest = tiny_run / "checkpoint.pt", 8, "policy after update 4"
    for what, seed, said in ((tiny_run, 7, "best policy"), (tiny_run, 8, "best policy"), latest):
        assert export.main([str(what), "--format", "torchscript", "--policy-seed", str(seed)]) == 0
        assert f"paxmen_5a: MARS, {said}, seed {seed}\nwrote paxmen_5a-mars.pt (" in capsys.readouterr().out
        obs = 2 * torch.rand(50, 5, 25, generator=torch.Generator().manual_seed(1))
        expected = torch_mars.load_policy(what, greedy=True, policy_seed=seed)(obs)
        assert torch.equal(torch.jit.load("paxmen_5a-mars.pt")(obs)["action"], expected)
        about = metadata("paxmen_5a-mars.pt", "torchscript")
        assert about["policy"] == said and about["training_seed"] == seed and about["env_options"] == {"max_steps": 6}
    assert [path.name for path in tmp_path.iterdir()] == ["paxmen_5a-mars.pt"]


def test_the_return_is_that_of_the_seed_that_was_asked_for(tiny_run):
    trained = dataclasses.replace(policies.read(tiny_run), returns=[1.5, 2.5])
    env, step = trained.make_env(1), exports.Step({}, torch.ones(1, dtype=torch.bool), {})
    for seed, expected in ((7, 1.5), (8, 2.5), (None, 2.5)):
        policy = policies.Policy(trained, "cpu", True, 0, seed)
        assert exports.describe(trained, env, policy, step)["evaluation_return"] == expected


def test_an_environment_and_a_lesson_of_ones_own(tmp_path, monkeypatch, capsys):
    """The lesson's Actor has a layer more than the package's."""
    lesson = Path(mars.__file__).read_text()
    network, more = "self.network(self.inputs(obs))", "Network(2, 4, 1, 5.0, generators)"
    for old, new in (
        ('ALGORITHM = "mars"', 'ALGORITHM = "mine"'),
        ("        self.network = self.", f"        self.more = {more}\n        self.network = self."),
        (network, f"{network} * self.more(obs)"),
    ):
        assert lesson.count(old) == 1
        lesson = lesson.replace(old, new)
    (tmp_path / "my_lesson.py").write_text(lesson)
    (tmp_path / "my_env.py").write_text((ROOT / "examples/gather.py").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import my_lesson
    from my_env import Gather

    actor = my_lesson.Actor(
        envs.make(Gather, num_agents=3), my_lesson.Args(hidden_size=8), [torch.Generator().manual_seed(0)]
    )
    policy_file(tmp_path / "policy.pt", "my_env:Gather", actor.state_dict(), [4], num_agents=3)
    content = files.load_checkpoint(tmp_path / "policy.pt")
    files.save_checkpoint(tmp_path / "policy.pt", {**content, "algorithm": "mine"})
    words = ["policy.pt", "--format", "torchscript", "--env", "my_env.py:Gather", "--lesson", "my_lesson.py"]
    assert export.main(words) == 0
    assert "wrote my_env.Gather-mine.pt" in capsys.readouterr().out
    obs = torch.randn(9, 3, 2, generator=torch.Generator().manual_seed(0))
    found = run("my_env.Gather-mine.pt", "torchscript", {"obs": obs})
    np.testing.assert_array_equal(found["action"], torch_mars.load_policy("policy.pt", greedy=True)(obs).numpy())
    about = metadata("my_env.Gather-mine.pt", "torchscript")
    assert about["algorithm"] == "mine" and about["environment"].startswith("Gather: a template of an environment")
    for name in ("my_lesson", "my_env"):
        del sys.modules[name]


# ---- what the file says of itself ----


def metadata(path, format):
    if format == "onnx":
        import onnx

        texts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        return {name: _plain(text) for name, text in texts.items()}
    found = {exports.METADATA: ""}
    torch.jit.load(path, _extra_files=found) if format == "torchscript" else torch.export.load(path, extra_files=found)
    return json.loads(found[exports.METADATA])


def _plain(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.mark.parametrize("format", FORMATS)
def test_the_file_explains_itself(format, written):
    about = metadata(written(MASKED, format), format)
    assert about["task"] == MASKED and about["algorithm"] == "mars" and about["training_seed"] == 8
    assert about["torch_mars"] == torch_mars.__version__ and about["agents"] == ["agent_0", "agent_1", "agent_2"]
    assert about["actions"] == {"kind": "discrete", "count": 5} and "exp(logits)" in about["sampling"]
    size = envs.make(MASKED).observation_size
    assert about["observation_size"] == size
    assert about["inputs"] == {"obs": ["batch", 3, size], "mask": ["batch", 3, 5]}
    assert about["outputs"] == {"logits": ["batch", 3, 5], "action": ["batch", 3]}
    assert about["all_options"]["num_agents"] == 3 and about["env_options"] == {}
    assert about["max_steps"] == 25  # which no option says: 5 x 5 cells
    assert "| observation |" in about["environment"]


def test_bounds_of_continuous_actions_are_told(written):
    about = metadata(written(CONTINUOUS, "pt2"), "pt2")
    space = envs.make(CONTINUOUS).action_space
    assert about["actions"] == {"kind": "continuous", "size": 3, "low": space.low.tolist(), "high": space.high.tolist()}
    assert about["evaluation_return"] == max(files.load_checkpoint(finding.find_policy(CONTINUOUS))["returns"])


@pytest.mark.parametrize("task", BOTH_TASKS)
def test_graphs_are_plain(task, written):
    """Standard operators of ONNX, ATen's of PyTorch, nothing of this machine's; the batch may be of any size."""
    import onnx

    model = onnx.load(written(task, "onnx"))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)] and not model.functions
    assert {node.domain for node in model.graph.node} == {""}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert str(ROOT).encode() not in written(task, "onnx").read_bytes()

    graph = torch.jit.load(written(task, "torchscript")).inlined_graph
    assert {node.kind().split("::")[0] for node in graph.nodes()} == {"aten", "prim"}

    program = torch.export.load(written(task, "pt2"))
    calls = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert all(call.startswith("aten.") or call == "<built-in function getitem>" for call in calls), calls
    with zipfile.ZipFile(written(task, "pt2")) as archive:
        assert not any(str(ROOT).encode() in archive.read(name) for name in archive.namelist())


# ---- programs without torch_mars ----

ONNX_ALONE = """
import sys
sys.modules["torch"] = sys.modules["torch_mars"] = None  # an import of them would fail
import numpy as np, onnxruntime
seen = np.load("seen.npz")
session = onnxruntime.InferenceSession("team.onnx", providers=["CPUExecutionProvider"])
(action,) = session.run(["action"], {"obs": seen["obs"], "mask": seen["mask"]})
np.save("action.npy", action)
"""

TORCH_ALONE = """
import sys
sys.modules["torch_mars"] = None
import numpy as np, torch
seen = np.load("seen.npz")
inputs = [torch.from_numpy(seen[name]) for name in ("obs", "mask") if name in seen]
for module in (torch.jit.load("team.pt"), torch.export.load("team.pt2").module()):
    action = module(*inputs)["action"].numpy()
    assert np.allclose(action, seen["action"], atol=1e-5)
print("both")
"""


def alone(code, folder):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_onnx_needs_neither_torch_mars_nor_torch(written, teams, seen, tmp_path):
    (tmp_path / "team.onnx").write_bytes(written(MASKED, "onnx").read_bytes())
    np.savez(tmp_path / "seen.npz", **{name: tensor.numpy() for name, tensor in seen[MASKED].items()})
    alone(ONNX_ALONE, tmp_path)
    what, seed = teams[MASKED]
    expected = torch_mars.load_policy(what, greedy=True, policy_seed=seed)(**seen[MASKED])
    np.testing.assert_array_equal(np.load(tmp_path / "action.npy"), expected.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("task", [MASKED, CONTINUOUS])
def test_the_others_need_no_torch_mars(task, written, teams, seen, tmp_path):
    for format in ("torchscript", "pt2"):
        (tmp_path / f"team{exports.FORMATS[format].suffix}").write_bytes(written(task, format).read_bytes())
    what, seed = teams[task]
    action = torch_mars.load_policy(what, greedy=True, policy_seed=seed)(*seen[task].values()).numpy()
    np.savez(tmp_path / "seen.npz", action=action, **{name: tensor.numpy() for name, tensor in seen[task].items()})
    assert alone(TORCH_ALONE, tmp_path) == "both\n"


@pytest.mark.slow
def test_the_command_says_two_lines_and_nothing_else(tmp_path):
    """Whatever PyTorch's exporters have to say, and with all warnings on."""
    for format in FORMATS:
        command = [sys.executable, "-W", "always", "-m", "torch_mars.export", "paxmen_5a", "--format", format]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.count("\n") == 2, done.stdout
        said = [line for line in done.stderr.splitlines() if re.search("torch/(jit|onnx|export)|torchvision", line)]
        assert not said, done.stderr


@pytest.mark.parametrize("task", BOTH_TASKS)
def test_the_page_s_program_draws_what_the_policy_draws(task, written, seen, tmp_path, monkeypatch, capsys):
    """Word for word, then with observations of the task, against the frequencies of 20,000 draws."""
    (code,) = re.findall(r"```python\n(import json.*?)```", (ROOT / "docs/policies.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("paxmen_5a-mars.onnx").write_bytes(written(task, "onnx").read_bytes())
    names = {}
    program, _, _ = code.partition("\nprint(") if task == MASKED else (code, "", "")  # which wants no mask
    exec(program, names)
    assert task == MASKED or capsys.readouterr().out.startswith(f"{task} [[[")
    first = {name: tensor[:1].numpy() for name, tensor in seen[task].items()}
    drawn = names["act"](*(np.repeat(array, 20_000, 0) for array in first.values()))
    out = run(written(task, "onnx"), "onnx", {name: torch.from_numpy(array) for name, array in first.items()})
    if task == MASKED:
        assert drawn.shape == (20_000, 3)
        for agent in range(3):
            share = np.bincount(drawn[:, agent], minlength=5) / 20_000
            np.testing.assert_allclose(share, np.exp(out["logits"][0, agent]), atol=5 * 0.5 / math.sqrt(20_000))
            assert not share[~first["mask"][0, agent]].any()
    else:
        assert drawn.shape == (20_000, 2, 3) and drawn.dtype == np.float32
        before = np.arctanh(drawn.astype(np.float64).clip(-1 + 1e-7, 1 - 1e-7))
        np.testing.assert_allclose(np.median(before, 0), out["mean"][0], atol=0.1 * out["std"].max())


# ---- what cannot be done ----


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "the following arguments are required: RUN_OR_TASK"),
        (["paxmen_5a", "--format", "onx"], "argument --format: unknown format 'onx'; did you mean onnx?"),
        (["paxmen_5a", "--format", "tensorflow"], "unknown format 'tensorflow'; allowed are onnx, torchscript, pt2"),
        (["paxmen_5a", "--format", ""], "argument --format: unknown format ''"),
        (["paxmen_5a", "--out", "team"], "--out is 'team'; it must end in .onnx, .pt or .pt2"),
        (["paxmen_5a", "--out", "t.pt", "--format", "pt2"], "--out is 't.pt'; with --format pt2 it must end in .pt2"),
        (["paxmen_5a", "--out", "no/such/t.pt"], "--out is 'no/such/t.pt', but there is no folder no/such"),
        (["paxmen_5a", "--out", "/proc/t.pt"], "--out: cannot write to /proc"),
        (["paxmen_5a", "--out", "x" * 300 + ".pt"], "no file has the name"),
        (["paxmen_5a", "--policy-seed", "-1"], "argument --policy-seed: -1 is too small"),
        (["paxmen_5a", "--policy-seed", "99", "--out", "t.pt"], "policy seed 99 is not in"),
        (["paxmen_6a", "--out", "t.pt"], "paxmen_6a, which is the name of a task; teams are installed for"),
        (["runs/nothing", "--out", "t.pt"], "no run or checkpoint at runs/nothing"),
        (["paxmen_5a", "--output", "t.pt"], "unknown argument '--output'; did you mean --out"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_mistakes_are_one_sentence(words, said, capsys, monkeypatch, tmp_path):
    assert said in refusal(export.main, words, capsys, monkeypatch, tmp_path)


def test_a_folder_is_no_file_and_a_run_may_have_no_policy_yet(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("team.pt").mkdir()
    with pytest.raises(UsageError, match="--out is 'team.pt', which is a folder"):
        export.main(["paxmen_5a", "--out", "team.pt"])
    Path("run").mkdir()
    (Path("run") / "config.yaml").write_text((tiny_run / "config.yaml").read_text())
    with pytest.raises(UsageError, match="run run has no policy yet"):
        export.main(["run", "--out", "t.pt"])


def test_a_run_is_not_written_over(tiny_run, tmp_path):
    team = tmp_path / "team.pt"
    team.write_bytes((tiny_run / "policy.pt").read_bytes())
    with pytest.raises(UsageError, match="which is the team itself"):
        export.main([str(team), "--out", str(team)])
    for name in ("policy.pt", "checkpoint.pt"):
        with pytest.raises(UsageError, match=f"{name}', the name of a run's own file"):
            export.main([str(team), "--out", str(tmp_path / name)])
    assert team.read_bytes() == (tiny_run / "policy.pt").read_bytes()


def page_commands():
    found = re.findall(r"^torch-mars (export .*?)(?:  +#.*)?$", (ROOT / "docs/policies.md").read_text(), re.MULTILINE)
    assert len(found) == 4
    return [pytest.param(line, marks=[pytest.mark.slow] * ("torchscript" not in line)) for line in found]


@pytest.mark.parametrize("line", page_commands())
def test_the_page_s_commands_run(line, tiny_run, tmp_path, monkeypatch):
    shutil.copytree(tiny_run, tmp_path / "runs/paxmen_5a/mars/<run>")
    monkeypatch.chdir(tmp_path)
    assert __main__.main(line.split()) == 0
    (out,) = [path for path in tmp_path.iterdir() if path.is_file()]
    assert out.stat().st_size > 1000


def test_a_package_that_is_missing_is_named_before_the_run_is_read(monkeypatch, capsys, tmp_path):
    find = exports.importlib.util.find_spec
    monkeypatch.setattr(
        exports.importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name)
    )
    said = refusal(export.main, ["runs/nothing", "--format", "onnx"], capsys, monkeypatch, tmp_path)
    assert "needs onnx, onnxscript, onnxruntime: pip install 'torch_mars[export]'" in said


def test_a_file_that_acts_in_another_way_is_not_written(monkeypatch, tmp_path):
    def write(graph, inputs, about):
        wrong = copy.deepcopy(graph)
        wrong.actor.network.head.bias += 0.01 * torch.arange(5)
        return exports._to_torchscript(wrong, inputs, about)

    wrong = exports.Format(".pt", (), write, exports._run_torchscript)
    monkeypatch.setitem(exports.FORMATS, "torchscript", wrong)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="torchscript: logits is off by .*; nothing was written"):
        export.main(["paxmen_5a", "--format", "torchscript"])
    assert not list(tmp_path.iterdir())


def test_an_actor_that_remembers_is_refused(tmp_path, monkeypatch):
    """Either it wants more than obs and mask, or it answers the same question in another way the second time."""
    register_toys()
    team = policy_file(tmp_path / "policy.pt", "toy_masked", fresh_weights("toy_masked"))
    trained = policies.read(team)

    class Wants(mars.Actor):
        def forward(self, obs, mask, memory):
            return super().forward(obs, mask)

    class Remembers(mars.Actor):
        calls = 0

        def forward(self, obs, mask):
            Remembers.calls += 1
            policy = super().forward(obs, mask)
            return Categorical(-policy.log_probs, mask) if Remembers.calls > 2 else policy

    for Actor, why in ((Wants, "missing 1 required positional argument: 'memory'"), (Remembers, "acts in another way")):
        monkeypatch.setattr(mars, "Actor", Actor)
        with pytest.raises(UsageError, match=f"the Actor of mars cannot be exported: .*{why}"):
            exports.exported(trained, "torchscript")
