"""The recurrent lesson from its command line: which method it trains, with which settings, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from refusals import check_sentence

from torch_mars import __main__, algos, envs
from torch_mars.algos import mappo, mars, maspo, recurrent
from torch_mars.run import cli, files, settings

SMALL = "--env paxmen_4a --num-envs 4 --rollout-length 32 --hidden-size 8 --epochs 1 --eval-episodes 2 --device cpu"
STEPS = 128  # of an update
LESSONS = {"mappo": mappo, "maspo": maspo, "mars": mars}


def train(run_dir, main, *more):
    """Two updates; the run's folder."""
    assert main([*SMALL.split(), "--total-steps", str(2 * STEPS), "--run-dir", str(run_dir), *map(str, more)]) == 0
    (folder,) = Path(run_dir).glob("*/*/*")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of MAPPO with memory: not the method that counts where nobody says."""
    return train(tmp_path_factory.mktemp("runs"), recurrent.main, "--method", "mappo", "--clip", "0.3")


@pytest.fixture(scope="module")
def feed_forward(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs"), mars.main)


def parse(*argv):
    """The settings of a training that would begin."""
    method = settings.chosen("method", recurrent.ARGS, "recurrent", argv)
    return settings.parse(recurrent.ARGS[method], recurrent.ratio_range, f"{method}_rnn", argv)


def refusal(capsys, *argv, main=recurrent.main):
    with pytest.raises(SystemExit) as stopped:
        cli.guarded(lambda: main([str(word) for word in argv]), "recurrent")
    said = capsys.readouterr().err.removesuffix("\n")
    assert stopped.value.code == 2, said
    check_sentence(said)
    return said


# ---- which lesson ----


@pytest.mark.parametrize("method", LESSONS)
def test_an_algorithm_of_a_run_leads_to_the_lesson_and_its_settings(method):
    assert algos.known(f"{method}_rnn") is algos.lesson(f"{method}_rnn") is algos.lesson("recurrent") is recurrent
    kind = algos.algorithms(recurrent)[f"{method}_rnn"]
    assert issubclass(kind, LESSONS[method].Args) and kind().method == method
    assert recurrent.ratio_range(kind()) == LESSONS[method].ratio_range(LESSONS[method].Args())
    assert algos.algorithms(LESSONS[method]) == {method: LESSONS[method].Args}


def test_what_is_no_algorithm_leads_nowhere():
    assert algos.known("mars_rnnn") is None and algos.known("") is None
    with pytest.raises(ValueError, match="unknown lesson 'mars_rnnn'"):
        algos.lesson("mars_rnnn")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of a user's; what is imported in it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    "before, after, says",
    [
        ("", "", "ALGORITHM is 'recurrent', which the package has"),
        ('= "recurrent"', '= "mine"', "ALGORITHMS has 'mars_rnn', which the package has"),
        ('= "recurrent"', '= "my lesson"', "ALGORITHM is 'my lesson'; it must be a name of letters"),
        ('= "recurrent"', '= "mine"\nMETHOD = 1', "ALGORITHMS has 'mars_rnn', which the package has"),
    ],
)
def test_a_copy_needs_names_of_its_own(before, after, says, here):
    copy = Path(f"copied_{abs(hash(after))}.py")
    copy.write_text(Path(recurrent.__file__).read_text().replace(before, after))
    with pytest.raises(ValueError, match=says):
        algos.lesson(str(copy))


def test_a_renamed_copy_trains_and_resumes_and_keeps_its_look(here, tmp_path):
    text = Path(recurrent.__file__).read_text().replace('= "recurrent"', '= "mine"\nMETHOD = {"label": "Mine"}')
    Path("my_memory.py").write_text(text.replace("_rnn", "_mine"))
    own = algos.lesson("my_memory.py")
    assert list(algos.algorithms(own)) == ["mars_mine", "maspo_mine", "mappo_mine"]
    folder = train(tmp_path / "runs", own.main, "--method", "maspo", "--clip", "0.4")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert [config[name] for name in ("lesson", "algorithm", "method", "look")] == [
        "mine",
        "maspo_mine",
        "maspo",
        {"label": "Mine"},
    ]
    assert algos.known("maspo_mine") is own
    assert own.main(["--resume", str(folder), "--total-steps", str(3 * STEPS)]) == 0


def test_train_says_how_an_algorithm_is_trained(capsys):
    assert __main__.main(["train", "mappo_rnn", "--env", "paxmen_4a"]) == 2
    said = capsys.readouterr().err
    assert "mappo_rnn is what runs of recurrent are called; torch-mars train recurrent --help says how" in said


# ---- which method ----


def test_the_method_is_typed_or_in_a_file_or_the_first(tmp_path, run):
    assert type(parse()) is recurrent.Args and parse().method == "mars"
    assert parse("--method", "mappo", "--clip", "0.3").clip == 0.3 and parse("--method=maspo").method == "maspo"
    own = tmp_path / "own.yaml"
    own.write_text("method: maspo\nclip: 0.4\n")
    args = parse("--config", str(own))
    assert (type(args), args.method, args.clip) == (recurrent.MaspoArgs, "maspo", 0.4)
    assert parse("--config", str(own), "--method", "mappo").method == "mappo"  # clip is a setting of both
    args = parse("--config", str(run / "config.yaml"), "--seed", "3")
    assert (args.method, args.clip, args.seed) == ("mappo", 0.3, 3)
    own.write_text("method: {label: Mine}\nexpand: 3\n")  # of a version in which a look was called so
    assert parse("--config", str(own)).expand == 3


@pytest.mark.parametrize(
    "argv, says",
    [
        ("--method marz", "--method is 'marz'; did you mean mars?"),
        ("--method x", "--method is 'x'; allowed are mars, maspo, mappo"),
        ("--method=", "--method is empty; give a value"),
        ("--method", "argument --method: expected one argument"),
        ("--method mappo --expand 2", "--expand is a setting of --method mars, not of mappo"),
        ("--expand=2 --method=maspo", "--expand is a setting of --method mars, not of maspo"),
        ("--clip 0.3", "--clip is a setting of --method maspo or mappo, not of mars"),
        ("--method mappo --expnd 2", "unknown argument '--expnd'"),
        ("--method mappo --clip 2", "--clip is 2.0"),
        ("--sequence-length 0", "--sequence-length is 0; it must be 1 or more"),
        ("--sequence-length -4", "--sequence-length is -4; it must be 1 or more"),
        ("--sequence-length two", "'two' is not a whole number"),
        ("--sequence-length 48", "does not divide --rollout-length 32; the nearest that do are 16 and 32"),
        ("--rollout-length 40", "--sequence-length is 16, which does not divide --rollout-length 40; the nearest"),
        ("--minibatches 16", "--minibatches is 16, which does not divide the 8 sequences of a rollout; the nearest"),
        ("--config {config} --method mars", "clip in {config} is a setting of --method maspo or mappo, not of mars"),
        ("--config {own}", "method in {own} is 'marz'; did you mean mars?"),
        ("--config {listed}", "method in {listed} is [1]; allowed are mars, maspo, mappo"),
        ("--resume {run} --method mars", "--method is 'mappo' in the resumed run and cannot become 'mars'; only"),
        ("--resume {run} --expand 2", "--expand is a setting of --method mars, not of mappo"),
        ("--resume {run} --sequence-length 8", "--sequence-length is 16 in the resumed run and cannot become 8"),
        ("--resume {run} --clip 0.2", "--clip is 0.3 in the resumed run and cannot become 0.2"),
        ("--resume {ff}", "{ff} is a run of mars, not of mars_rnn; resume it with that lesson"),
        ("--resume {run}/nothing.pt", "--resume: no run or checkpoint at {run}/nothing.pt"),
        ("--start-from {ff}", "does not fit: its network.gru.of_input.weight is none"),
    ],
)
def test_what_cannot_be_is_one_sentence(argv, says, run, feed_forward, tmp_path, capsys):
    (tmp_path / "own.yaml").write_text("method: marz\n")
    (tmp_path / "listed.yaml").write_text("method: [1]\n")
    names = {"run": run, "ff": feed_forward, "config": run / "config.yaml", "own": tmp_path / "own.yaml"}
    names["listed"] = tmp_path / "listed.yaml"
    is_new = "--resume" not in argv
    base = [*SMALL.split(), "--run-dir", tmp_path / "runs", "--total-steps", 10 * STEPS] if is_new else []
    said = refusal(capsys, *base, *argv.format(**names).split())
    assert said.startswith("recurrent: ") and says.format(**names) in said
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("config.yaml"))


def test_a_feed_forward_lesson_tells_of_the_recurrent_one(run, capsys):
    said = refusal(capsys, "--resume", run, main=mars.main)
    assert f"{run} is a run of mappo_rnn, not of mars; resume it with that lesson" in said
    assert "unknown setting in" in refusal(capsys, "--config", run / "config.yaml", main=mars.main)


def test_help_shows_the_settings_of_the_method_and_how_to_see_the_others(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    shown = {}
    for method in recurrent.ARGS:
        with pytest.raises(SystemExit) as stopped:
            recurrent.main(["--method", method, "--help"])
        shown[method] = capsys.readouterr().out
        assert stopped.value.code == 0 and "--sequence-length" in shown[method]
        assert "--method mappo --help" in shown[method] and "mars (the default)" in shown[method]
        assert "(default mappo)" not in shown[method]
    assert "--expand X" in shown["mars"] and "--expand X" not in shown["mappo"]
    assert "--clip X" in shown["mappo"] and "--clip X" not in shown["mars"]
    with pytest.raises(SystemExit) as stopped:
        recurrent.main(["--resume", "/nowhere", "--help"])
    assert stopped.value.code == 0
    for kind in recurrent.ARGS.values():
        docs = {name: text for group in settings.field_docs(kind).values() for name, text in group.items()}
        assert docs.keys() == kind.__dataclass_fields__.keys() and all(docs.values())


# ---- its runs ----


def test_a_run_says_what_it_is_of_and_goes_on_without_its_method_typed(run, capsys):
    assert run.parent.name == "mappo_rnn"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert [config[name] for name in ("lesson", "algorithm", "method", "clip")] == [
        "recurrent",
        "mappo_rnn",
        "mappo",
        0.3,
    ]
    assert files.load_checkpoint(run)["algorithm"] == "mappo_rnn"
    for words in ([], ["--method", "mappo"]):
        steps = (3 + len(words)) * STEPS
        assert recurrent.main(["--resume", str(run), "--total-steps", str(steps), *words]) == 0
    said = capsys.readouterr().out
    assert f"python -m torch_mars.algos.recurrent --resume {run}" in said
    assert files.load_checkpoint(run)["update"] == 5


@pytest.mark.slow
def test_it_is_a_command_of_the_package_and_a_file(run, tmp_path):
    """As a process of its own, in which the lesson is `__main__`, it goes on with a run and takes its weights."""
    begun = [*SMALL.split(), "--total-steps", str(STEPS), "--run-dir", str(tmp_path), "--method", "mappo"]
    done = subprocess.run(
        [sys.executable, recurrent.__file__, *begun, "--start-from", str(run)], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "MAPPO_RNN on paxmen_4a" in done.stdout and len(list(tmp_path.glob("paxmen_4a/mappo_rnn/*/policy.pt"))) == 1


# ---- yaml ----


@pytest.mark.parametrize("preset", settings.PRESETS)
@pytest.mark.parametrize("method", LESSONS)
def test_the_default_trains_every_task_of_the_package(method, preset):
    """With the settings of the feed-forward lesson, and stretches and minibatches that divide its rollouts."""
    kind, lesson = recurrent.ARGS[method], LESSONS[method]
    for task in envs.TASKS:
        given = {"env": task, "preset": preset, "device": "cpu"}
        args = settings.resolve(kind, recurrent.ratio_range, f"{method}_rnn", given)
        theirs = vars(settings.resolve(lesson.Args, lesson.ratio_range, method, given))
        assert {name: getattr(args, name) for name in theirs} == theirs
        assert recurrent.ratio_range(args) == lesson.ratio_range(lesson.Args(**theirs))


def test_sections_of_a_method_hold_with_memory_unless_one_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "YAML_DIRECTORY", tmp_path)
    (tmp_path / "paxmen.yaml").write_text(
        "family: {gamma: 0.5, epochs: 1}\n"
        "algorithms: {mars: {expand: 2.0, gamma: 0.6}, mars_rnn: {expand: 3.0, sequence_length: 4}, mappo: {clip: 0.1}}"
        "\n"
        "tasks: {paxmen_4a: {algorithms: {mars: {epochs: 7, contract: 0.25}, mars_rnn: {contract: 0.5}}}}\n"
    )
    found = settings.family_settings(recurrent.Args, "paxmen_4a", "mars_rnn")
    assert found == {"gamma": 0.6, "epochs": 7, "expand": 3.0, "sequence_length": 4, "contract": 0.5}
    found = settings.family_settings(recurrent.Args, "paxmen_5a", "mars_rnn")
    assert found == {"gamma": 0.6, "epochs": 1, "expand": 3.0, "sequence_length": 4}
    assert settings.family_settings(recurrent.MappoArgs, "paxmen_5a", "mappo_rnn")["clip"] == 0.1
    assert settings.family_settings(mars.Args, "paxmen_5a", "mars") == {"gamma": 0.6, "epochs": 1, "expand": 2.0}
    (tmp_path / "paxmen.yaml").write_text("algorithms: {mars_rnn: {clip: 0.1}}\n")
    with pytest.raises(cli.UsageError, match="unknown setting in paxmen.yaml: 'clip'"):
        settings.family_settings(recurrent.Args, "paxmen_5a", "mars_rnn")


def test_a_method_and_the_settings_of_another_are_no_settings():
    with pytest.raises(cli.UsageError, match="--method is 'mars'; it must be mappo, whose settings the others are"):
        recurrent.ratio_range(recurrent.MappoArgs(method="mars"))
