"""An environment and a method of a user's own, outside the package: `examples/gather.py`, `docs/your_own.md`, and that
files from others import nothing."""

import contextlib
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pettingzoo.test import parallel_api_test

import torch_mars
import torch_mars.envs as envs
from torch_mars import algos, evaluate, play, plot, tune
from torch_mars.__main__ import main
from torch_mars.algos import mars
from torch_mars.envs.workers import ForeignError
from torch_mars.protocol import methods, studies
from torch_mars.run import settings
from torch_mars.run.cli import UsageError, guarded

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/your_own.md").read_text()
TINY = "--num-envs 4 --rollout-length 8 --minibatches 2 --hidden-size 8 --eval-episodes 2 --device cpu".split()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of a user's, with her environment and her method; what is imported in it is forgotten afterwards."""
    shutil.copy(ROOT / "examples/gather.py", tmp_path)
    lesson = Path(mars.__file__).read_text().replace('ALGORITHM = "mars"', 'ALGORITHM = "mymethod"')
    (tmp_path / "mymethod.py").write_text(lesson)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    methods.METHODS.pop("mymethod", None)


def train(*words, steps=64):
    assert main(["train", *words, *TINY, "--total-steps", str(steps)]) == 0


def only_run(pattern):
    (folder,) = Path.cwd().glob(pattern)
    return str(folder.relative_to(Path.cwd()))


# ---- the pages, word for word ----


def section(heading):
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


def blocks(heading, language):
    return re.findall(rf"```{language}\n(.*?)```", section(heading), re.S)


def fill_in(text):
    """The page's `<run>` is the only one there is."""
    return re.sub(r"runs/(\S+?)/<run>", lambda match: only_run(f"runs/{match[1]}/*"), text)


@pytest.mark.parametrize("heading", [pytest.param("Environment", marks=pytest.mark.slow), "Method"])
def test_the_commands_of_the_page_work(here, heading, capsys):
    """With small settings in place of the page's; tuning and the experiment start processes of their own."""
    (commands,) = blocks(heading, "bash")
    (here / "tiny.yaml").write_text("{num_envs: 4, rollout_length: 8, hidden_size: 8, eval_episodes: 2}")
    for line in commands.strip().splitlines():
        words = shlex.split(fill_in(line), comments=True)[1:]
        if words[0] == "train":
            length = [] if "--resume" in words else TINY
            words = [w for w in words if not re.fullmatch(r"\d+[kM]|--total-steps", w)]
            words += [*length, "--total-steps", "256" if "--resume" in words else "128"]
        elif words[0] in ("evaluate", "play"):
            words += ["--episodes", "1", *(["--out", "team.png"] if words[0] == "play" else [])]
        elif words[0] == "tune":
            words = ["smoke" if w == "quick" else w for w in words] + ["--trials", "1", "--seeds", "1"]
        elif words[0] == "experiment":
            words = [{"5": "1", "1M": "128"}.get(w, w) for w in words] + ["--config", "tiny.yaml", "--run-dir", "grid"]
        assert main(words) == 0, (line, capsys.readouterr())
    assert (here / "team.png").stat().st_size > 1000
    family, task = ("gather", "gather.Gather") if heading == "Environment" else ("paxmen", "paxmen_5a")
    assert (here / f"figures/curves_{family}.png").exists()
    assert list((here / "tuned/smoke").glob(f"{'gather.gather_3' if family == 'gather' else task}/*.yaml"))
    assert len(list((here / "grid").glob("*/*/*/policy.pt"))) == 2


def test_the_python_of_the_page_works(here):
    train("mars", "--env", "gather.py:Gather")
    for heading in ("Environment", "Policy"):
        for code in blocks(heading, "python"):
            exec(compile(fill_in(code), heading, "exec"), {})
    (row,) = blocks("Method", "python")
    names = {}
    exec(row, names)
    assert methods.guest("mine", names["METHOD"]).label == "Mine"
    del methods.METHODS["mine"]


# ---- an environment ----


def test_a_class_a_name_and_a_module_mean_the_same(here):
    from gather import Gather

    assert envs.make(Gather, 3, cells=8).cells == 8
    assert envs.make("gather_3").num_agents == envs.make("gather:gather_3").num_agents == 3
    assert envs.find("gather.py:Gather") == envs.Task("gather:Gather", "gather", {}, Gather, "gather.py:Gather")
    assert envs.find("gather:Gather").to_type == "gather.py:Gather"  # which can be typed from here
    assert envs.known("gather:Gather").environment is Gather and envs.title("gather") == "gather"
    assert "gather_3" in envs.tasks() and "gather_3" not in envs.TASKS


def test_a_name_of_the_packages_or_within_a_class_is_the_users_own(here):
    text = (here / "gather.py").read_text()
    (here / "mine.py").write_text(
        text.split("envs.register")[0] + "class PaxMen(Gather):\n    class Inner(Gather):\n        pass\n"
    )
    assert envs.find("mine:PaxMen").family == "mine.paxmen" and envs.find("paxmen_5a").family == "paxmen"
    assert envs.find("mine:PaxMen.Inner").own is sys.modules["mine"].PaxMen.Inner


def test_the_template_keeps_the_contract(here):
    from gather import Gather

    parallel_api_test(envs.parallel_env(Gather), num_cycles=100)
    env = envs.make(Gather, 64, seed=1)
    ts, total = env.reset(), 0.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        ts = env.step(torch.randint(0, 3, (64, 2), generator=generator))
        total += float(ts.reward[:, 0].sum())
        assert env.observation_space.contains(ts.obs[0, 0].numpy()) and env.state_space.contains(ts.state[0].numpy())
    assert total > 100
    env.load_state({"place": np.tile([0, 5], (64, 1)), "fruit": np.tile(np.arange(12) == 1, (64, 1))})
    assert env.observe().obs[0, :, 0].tolist() == pytest.approx([1 / 12, -4 / 12])
    assert env.draw_text(env.state).split("\n")[-1] == "1o...1......"
    ts = env.step(torch.tensor([[1, 0]]).repeat(64, 1))
    assert ts.terminated.all() and (ts.reward == 1).all()


def test_settings_lie_beside_the_module(here, capsys):
    (here / "gather.yaml").write_text(
        "family: {gamma: 0.9}\ntasks: {gather_3: {epochs: 2}}\nalgorithms: {mars: {seed: 4}}"
    )
    train("mars", "--env", "gather.py:gather_3")
    saved = yaml.safe_load((here / only_run("runs/gather.gather_3/mars/*") / "config.yaml").read_text())
    assert (saved["gamma"], saved["epochs"], saved["seed"], saved["env"]) == (0.9, 2, 4, "gather:gather_3")
    assert saved["lesson"] == "mars"
    (here / "gather.yaml").write_text("tasks: {gather_4: {epochs: 2}}")
    with pytest.raises(SystemExit):
        main(["train", "mars", "--env", "gather.py:gather_3"])
    assert "unknown task in gather.yaml: 'gather_4'; did you mean gather_3" in capsys.readouterr().err


def test_a_copied_lesson_has_the_settings_of_its_parent(here, capsys):
    lesson = (here / "mymethod.py").read_text()
    told = 'ALGORITHM = "mymethod"'
    renamed = re.sub(
        r"args\.expand\b|^    expand\b|\"expand\"", lambda it: it[0].replace("expand", "reach"), lesson, flags=re.M
    )
    (here / "mymethod.py").write_text(renamed.replace(told, f'{told}\nPARENT = "mars"'))
    (here / "gather.yaml").write_text(
        "tasks: {gather_3: {algorithms: {mars: {epochs: 2}}}}\nalgorithms: {mars: {expand: 1.3, gamma: 0.9}}"
    )
    train("mymethod.py", "--env", "gather.py:gather_3")
    saved = yaml.safe_load((here / only_run("runs/gather.gather_3/mymethod/*") / "config.yaml").read_text())
    assert (saved["gamma"], saved["epochs"], saved["reach"]) == (0.9, 2, 1.5)  # which the parent knows by another name
    (here / "mymethod.py").write_text(lesson.replace(told, f'{told}\nPARENT = "marz"'))
    del sys.modules["mymethod"]
    with pytest.raises(SystemExit):
        main(["train", "mymethod.py", "--env", "gather.py:gather_3"])
    assert "PARENT of mymethod is 'marz'; did you mean mars" in capsys.readouterr().err


def test_agents_that_are_paid_apart_are_noticed(here):
    text = (here / "gather.py").read_text()
    apart = text.replace("reward = count.float()[:, None].repeat(1, self.num_agents)", "reward = place.float()")
    assert apart != text
    (here / "gather.py").write_text(apart)
    with pytest.raises(ForeignError, match="agent 0 is paid .* and agent 1 .*say has_shared_reward = False"):
        train("mars", "--env", "gather.py:Gather")
    (here / "gather.py").write_text(
        apart.replace("    Options = Options\n", "    Options = Options\n    has_shared_reward = False\n")
    )
    del sys.modules["gather"]
    train("mars", "--env", "gather.py:Gather", "--value-per-agent")


SPOIL = "torch.where(state.step == 3, torch.nan, 1.0)"
SPOILT = {
    "observation [1, 0] in environment 0 is nan at step 3": (
        "return torch.stack([nearest / self.cells, left], 2)",
        f"seen = torch.stack([nearest / self.cells, left], 2); seen[:, 1, 0] *= {SPOIL}; return seen",
    ),
    "global_state [0] in environment 0 is nan at step 3": (
        "return torch.cat([self._agents_on(state.place), state.fruit], 1).float()",
        f"return torch.cat([self._agents_on(state.place), state.fruit], 1).float() * {SPOIL}[:, None]",
    ),
    "reward [0] in environment 0 is nan at step 4": (
        "reward = count.float()[:, None].repeat(1, self.num_agents)",
        f"reward = count.float()[:, None].repeat(1, self.num_agents) * {SPOIL}[:, None]",
    ),
}


@pytest.mark.parametrize("words", SPOILT)
def test_rules_that_make_nan_are_told_where(here, words, capsys):
    """Not told, a nan that is seen would end as a training that learns nothing."""
    text = (here / "gather.py").read_text()
    assert SPOILT[words][0] in text
    (here / "gather.py").write_text(text.replace(*SPOILT[words]))
    with pytest.raises(SystemExit) as stopped:
        guarded(lambda: main(["train", "mars", "--env", "gather.py:Gather", *TINY, "--total-steps", "64"]), "train")
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and f"train: Gather: {words}; it must be finite" in said and "Traceback" not in said


def test_a_killed_training_goes_on(here):
    """In a process of its own, as a user types it."""
    command = [sys.executable, "-m", "torch_mars", "train", "mars", "--env", "gather:Gather", *TINY]
    slow = subprocess.Popen([*command, "--checkpoint-every", "1", "--total-steps", "10M"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(here.glob("runs/*/*/*/checkpoint.pt")):
        assert slow.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    slow.send_signal(signal.SIGKILL)
    slow.wait()
    run = only_run("runs/gather.Gather/mars/*")
    done = torch.load(f"{run}/checkpoint.pt", weights_only=True)["update"]
    steps = str(32 * (done + 3))
    assert main(["train", "mars", "--resume", run, "--env", "gather:Gather", "--total-steps", steps]) == 0
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines if line["kind"] == "update"] == list(range(1, done + 4))


def test_a_run_may_be_moved_and_its_module_too(here):
    train("mars", "--env", "gather.py:Gather")
    shutil.copytree(only_run("runs/gather.Gather/mars/*"), here / "a run of mine")
    (here / "project").mkdir()
    (here / "gather.py").rename(here / "project/gathering.py")
    del sys.modules["gather"]
    assert evaluate.main(["a run of mine", "--episodes", "1", "--env", "project/gathering.py:Gather"]) == 0
    assert plot.main(["a run of mine", "--out", "figures"]) == 0


# ---- what a file says is not imported ----

OPENED_BY = {
    "resume": lambda run: mars.main(["--resume", run]),
    "config": lambda run: mars.main(["--config", f"{run}/config.yaml"]),
    "evaluate": lambda run: evaluate.main([run]),
    "play": lambda run: play.main([run, "--out", "film.png"]),
    "load_policy": lambda run: torch_mars.load_policy(run),
    "checkpoint": lambda run: torch_mars.load_policy(f"{run}/checkpoint.pt"),
}


@pytest.fixture
def strangers_run(here):
    """A run whose files name a module that nobody imported or typed; it lies where it would be found."""
    train("mars", "--env", "gather.py:Gather")
    run = Path(only_run("runs/gather.Gather/mars/*"))
    for name in ("checkpoint.pt", "policy.pt"):
        torch.save({**torch.load(run / name, weights_only=True), "task": "stranger:Gather"}, run / name)
    for name in ("config.yaml", "evaluations.json"):
        (run / name).write_text((run / name).read_text().replace("gather:Gather", "stranger:Gather"))
    (here / "stranger.py").write_text("open('imported', 'w').close()\n" + (here / "gather.py").read_text())
    return str(run)


@pytest.mark.parametrize("command", OPENED_BY)
def test_a_strangers_run_imports_nothing(strangers_run, command, capsys):
    """The sentence says what to type."""
    with pytest.raises((UsageError, SystemExit)) as refused:
        OPENED_BY[command](strangers_run)
    said = capsys.readouterr().err + str(refused.value)
    assert "task 'stranger:Gather' is of a module of somebody's own" in said and "add --env stranger:Gather" in said
    assert not Path("imported").exists() and "stranger" not in sys.modules


def test_a_strangers_run_is_plotted_without_its_module(strangers_run):
    assert plot.main(["runs", "--out", "figures"]) == 0
    assert Path("figures/curves_gather.png").exists() and not Path("imported").exists()


def test_a_strangers_run_opens_when_its_task_is_typed_again(strangers_run):
    assert evaluate.main([strangers_run, "--env", "stranger:Gather", "--episodes", "1"]) == 0
    assert Path("imported").exists()


def test_another_task_than_the_saved_one_is_refused(here):
    train("mars", "--env", "gather.py:Gather")
    with pytest.raises(UsageError, match="the run is of task 'gather:Gather', not of 'gather:gather_3'"):
        evaluate.main([only_run("runs/gather.Gather/mars/*"), "--env", "gather:gather_3"])


# ---- a method ----


def test_a_method_of_ones_own_is_a_guest(here, capsys):
    look = (
        '\nMETHOD = {"label": "Mine", "colour": "#123456", "space": {"expand": [1.5, 2.0]}}\n\n\n@dataclass\nclass Args'
    )
    text = (here / "mymethod.py").read_text().replace("\n\n\n@dataclass\nclass Args", look, 1)
    (here / "mymethod.py").write_text(text)
    command = [sys.executable, "mymethod.py", "--env", "paxmen_4a", *TINY]  # as CleanRL's users run a file
    done = subprocess.run([*command, "--total-steps", "64"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch_mars.algos.mymethod" not in done.stdout and "python mymethod.py --resume" in done.stdout
    run = only_run("runs/paxmen_4a/mymethod/*")
    assert yaml.safe_load(Path(run, "config.yaml").read_text())["look"]["label"] == "Mine"
    assert evaluate.main([run, "--episodes", "1"]) == 0 and play.main([run, "--out", "film.png"]) == 0
    assert plot.main(["runs", "--out", "figures"]) == 0
    assert "mymethod" not in sys.modules  # its weights fit the package's Actor
    with pytest.raises(UsageError, match="lesson 'mymethod' is none of the package; type the module"):
        _ = methods.METHODS["mymethod"].module
    assert methods.METHODS["mymethod"].colour == "#123456"
    assert "Mine" in (here / "figures/table1.md").read_text()
    assert methods.typed("mymethod.py").space == {"expand": (1.5, 2.0)}
    assert methods.typed("mymethod.py").module.ALGORITHM == "mymethod"


def test_an_actor_of_ones_own_is_typed(here, capsys):
    text = (here / "mymethod.py").read_text()
    for old, new in (
        ("self.network = self.NETWORK(", "self.my_network = self.NETWORK("),
        ("self.network(self.inputs(obs))", "self.my_network(self.inputs(obs))"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (here / "mymethod.py").write_text(text)
    train("mymethod.py", "--env", "paxmen_4a")
    del sys.modules["mymethod"]
    run = only_run("runs/paxmen_4a/mymethod/*")
    with pytest.raises(UsageError, match="lesson 'mymethod', whose Actor is not the package's: add --lesson"):
        evaluate.main([run])
    assert evaluate.main([run, "--episodes", "1", "--lesson", "mymethod.py"]) == 0
    with pytest.raises(UsageError, match="mymethod.py is 'mymethod', but the policy is of 'mars'"):
        train("mars", "--env", "paxmen_4a")
        evaluate.main([only_run("runs/paxmen_4a/mars/*"), "--lesson", "mymethod.py"])


def test_ten_methods_are_told_apart_in_one_figure(here):
    from made_up_results import nested

    finals = {name: -5.0 - i for i, name in enumerate((*methods.MAIN, *methods.ABLATIONS, "one", "two", "three"))}
    Path("evaluations.json").write_text(json.dumps(nested({"paxmen_4a": finals})))
    assert plot.main(["evaluations.json", "--out", "figures"]) == 0
    looks = [methods.METHODS[name] for name in finals]
    assert len({(look.colour, look.dashes) for look in looks}) == len({(m.colour, m.marker) for m in looks}) == 10
    for name in ("one", "two", "three"):
        del methods.METHODS[name]


# ---- what is wrong is one sentence ----


@pytest.mark.parametrize(
    "task, says",
    [
        ("gathr.py:Gather", "there is no file gathr.py; did you mean gather.py?"),
        ("gathr:Gather", "there is no module 'gathr' in this folder, nor where Python looks; did you mean gather?"),
        ("gather:Gathr", "module gather has no environment 'Gathr'; did you mean Gather"),
        ("gather:State", "module gather has no environment 'State'"),
        ("gather:", "'gather:' is no task; one of your own is typed as my_module:MyEnvironment"),
        ("broken:Gather", "broken cannot be imported: ZeroDivisionError: division by zero"),
        ("half.py:Half", "Half is not complete: it lacks global_state, initial_state, observation, setup, transition"),
        ("pettingzoo:gather", "module gather has no parallel_env"),
        ("gather_5", "unknown task 'gather_5'"),
    ],
)
def test_what_was_typed_wrongly_is_one_sentence(here, task, says, capsys):
    (here / "broken.py").write_text("1 / 0\n")
    (here / "half.py").write_text("from torch_mars.envs.core import BatchedEnv\nclass Half(BatchedEnv): pass\n")
    with pytest.raises(SystemExit) as stopped:
        main(["train", "mars", "--env", task])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and f"mars: --env: {says}" in said and len(said.splitlines()) == 1
    with pytest.raises(ValueError, match=re.escape(says)):
        envs.make(task)


def test_what_cannot_be_registered_is_refused(here):
    from gather import Gather

    for name, environment, options, says in (
        ("paxmen_5a", Gather, {}, "task 'paxmen_5a' is one of the package"),
        ("a:b", Gather, {}, "'a:b' cannot be the name of a task"),
        ("../up", Gather, {}, "'../up' cannot be the name of a task"),
        ("mine", dict, {}, "<class 'dict'> is no environment"),
        ("mine", Gather, {"num_agent": 3}, "unknown option 'num_agent'; did you mean num_agents"),
        ("mine", Gather, {"cells": 1}, "cells is 1; it must be 2 or more"),
    ):
        with pytest.raises(ValueError, match=re.escape(says)):
            envs.register(name, environment, options)
    with pytest.raises(ValueError, match="a task is a name or a class, not int"):
        envs.make(3)


@pytest.mark.parametrize(
    "look, says",
    [
        ({"colour": 3}, "METHOD of mine: colour is 3, which it cannot be"),
        ({"color": "#000000"}, "METHOD of mine has no 'color'; did you mean colour"),
        ({"trials": 0}, "METHOD of mine: trials is 0"),
        ([1], "METHOD of mine must hold label"),
    ],
)
def test_a_look_that_cannot_be_is_one_sentence(look, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        methods.guest("mine", look)


def test_a_headline_is_a_metric_and_is_shown_beside_returns(here, capsys):
    Gather = importlib.import_module("gather").Gather
    with pytest.raises(ValueError, match="Wrong: headline is 'eatn', no metric; did you mean eaten?"):
        envs.make(type("Wrong", (Gather,), {"headline": "eatn"}))
    train("mars", "--env", "gather:Gather", steps=640)
    assert re.search(r"final  [-0-9.]+, eaten [0-9.]+ at step", capsys.readouterr().out)


def test_a_module_that_is_no_lesson_is_one_sentence(here, capsys):
    shutil.copy(mars.__file__, here / "unnamed.py")
    for name, says in (
        ("gather.py", "module gather.py is no lesson: it lacks ALGORITHM, Args, ratio_range"),
        ("unnamed.py", "ALGORITHM is 'mars', which the package has; give yours another name"),
        ("mymethd.py", "there is no file mymethd.py; did you mean mymethod.py?"),
    ):
        assert main(["train", name]) == 2
        assert says in capsys.readouterr().err
        with pytest.raises(UsageError, match=re.escape(says)):
            methods.typed(name)


@pytest.mark.parametrize("name", ["mars", "mars_additive", "ippo", "mars_rnn"])
def test_a_lesson_with_the_name_of_a_method_of_the_package_is_refused_before_it_trains(here, capsys, name):
    """A copy in which somebody forgot to change ALGORITHM: its runs would stand in every figure as the package's."""
    text = Path(mars.__file__).read_text().replace('ALGORITHM = "mars"', f'ALGORITHM = "{name}"')
    (here / "unnamed_copy.py").write_text(text)
    lesson = importlib.import_module("unnamed_copy")
    with pytest.raises(SystemExit):
        lesson.main([*TINY, "--env", "smax_2s3z", "--total-steps", "64"])
    assert f"ALGORITHM is '{name}', which the package has; give yours another name" in capsys.readouterr().err
    assert not (here / "runs").exists()
    with pytest.raises(UsageError, match="which the package has"):
        methods.typed("unnamed_copy.py")


def test_a_run_of_such_a_lesson_is_not_drawn_as_the_paper_s():
    with pytest.raises(UsageError, match="'mars_additive', which is a method of the package; rename it"):
        methods.of_run("mars_additive", {"expand": 1.5})
    with pytest.raises(UsageError, match="'ippo' is one of the package's"):
        methods.register(methods.Method("ippo", "Mine", "mine"))


def test_all_names_of_the_package_are_taken():
    assert settings.TAKEN == {*algos.LESSONS, *methods.MAIN, *methods.ABLATIONS, *methods.JOINING}


def test_a_lesson_of_a_checkout_beside_an_installed_package_is_the_package_s(here):
    folder = here / "torch_mars" / "algos"
    folder.mkdir(parents=True)
    shutil.copy(mars.__file__, folder / "mars.py")
    line = [sys.executable, str(folder / "mars.py"), *TINY, "--env", "smax_2s3z", "--total-steps", "64"]
    told = subprocess.run(line, cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_a_method_with_a_parent_is_tuned_as_its_parent_is(here):
    text = (here / "mymethod.py").read_text().replace('"mymethod"\n', '"mymethod"\nPARENT = "mars"\n', 1)
    (here / "mymethod.py").write_text(text)
    mine, parent = methods.typed("mymethod.py"), methods.METHODS["mars"]
    assert (mine.space, mine.paper_space, mine.trials) == (parent.space, parent.paper_space, parent.trials)
    plan = studies.Plan(tune.make_parser().parse_args(["--algo", "mymethod.py", "--env", "paxmen_5a"]))
    assert {"expand", "contract", "actor_lr"} <= set(plan.space)


def test_what_a_method_says_wrongly_is_told_before_it_trains(here, capsys):
    text = (here / "mymethod.py").read_text().replace('"mymethod"\n', '"mymethod"\nMETHOD = {"labl": "Mine"}\n', 1)
    (here / "mymethod.py").write_text(text)
    with pytest.raises(UsageError, match="METHOD of mymethod has no 'labl'; did you mean label?"):
        main(["train", "mymethod.py", *TINY, "--env", "paxmen_4a", "--total-steps", "64"])
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("mars --env paxmen_5a", "mars is a method: torch-mars train mars"),
        ("train mars paxmen_5a", "'paxmen_5a' is a task, which stands behind --env: --env paxmen_5a"),
        ("train mars hello", "'hello' stands behind no flag; --help lists them"),
        ("train mars --env gather.py", "'gather.py' is a file; name the class in it, too: gather.py:MyEnvironment"),
    ],
)
def test_what_was_probably_meant_is_said(line, says, here, capsys):
    with contextlib.suppress(SystemExit):
        assert main(line.split()) == 2
    assert says in capsys.readouterr().err
