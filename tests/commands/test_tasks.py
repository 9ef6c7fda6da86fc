"""All commands name tasks alike: their list, and what is said of a task that there is not."""

import pytest

import torch_mars.envs as envs
from torch_mars import __main__, evaluate, experiment, export, play, tune
from torch_mars.algos import LESSONS, lesson

MAINS = {
    **{name: lesson(name).main for name in LESSONS},
    "evaluate": evaluate.main,
    "play": play.main,
    "export": export.main,
    "tune": tune.main,
    "experiment": experiment.main,
}


def outcome(command, argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        MAINS[command](argv)
    return stopped.value.code, capsys.readouterr()


@pytest.mark.parametrize("command", MAINS)
def test_tasks_are_listed_whatever_else_is_missing(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, said = outcome(command, ["--list-tasks"], capsys)
    assert code == 0 and said.err == ""
    assert set(envs.tasks()) <= set(said.out.split())
    assert {"jaxnav_<W>x<W>x<N>a", "connector_<G>x<G>x<N>a", "search_and_rescue_<N>x<T>"} <= set(said.out.split())
    assert "my_module:MyEnvironment" in said.out and max(map(len, said.out.splitlines())) <= 100
    headings = [line.split(":")[0] for line in said.out.split("\n\n")[0].splitlines() if not line.startswith(" ")]
    assert headings[: len(envs.ENVIRONMENTS)] == list(envs.ENVIRONMENTS)


def test_train_lists_tasks_without_a_method(capsys):
    assert __main__.main(["train", "--list-tasks"]) == 0
    assert set(envs.TASKS) <= set(capsys.readouterr().out.split())


def test_what_the_list_says_of_sizes_is_so():
    for size in ("jaxnav_8x8x3a", "connector_6x6x2a", "search_and_rescue_3x7"):
        assert size not in envs.tasks() and envs.known(size).options


@pytest.mark.parametrize("task", ["paxmen_9a", "nomod:Gather", "nofile.py:Gather", ":", "a:b:c", "pettingzoo:x"])
def test_a_task_that_there_is_not_is_named_alike(task, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as refused:
        envs.find(task)
    reason = str(refused.value)
    assert outcome("mars", ["--env", task], capsys)[1].err == f"mars: --env: {reason}\n"
    for command, argv, sentence in (
        ("evaluate", [task], f"there is no run {task}; {reason}"),
        ("export", [task, "--format", "pt2"], f"there is no run {task}; {reason}"),
        ("play", [task], f"there is no run {task}; {reason}"),
        ("play", [task, "--random"], f"--random wants the name of a task: {reason}"),
        ("tune", ["--algo", "mars", "--env", task], f"--env: {reason}"),
        ("experiment", ["--envs", task], f"--envs: {reason}"),
    ):
        with pytest.raises(play.UsageError) as said:
            MAINS[command](argv)
        assert str(said.value) == sentence


def test_experiment_also_knows_environments(capsys):
    with pytest.raises(play.UsageError, match="^--envs: unknown task 'connectr'; did you mean connector"):
        experiment.main(["--envs", "connectr"])
