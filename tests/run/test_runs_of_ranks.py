"""Runs of several ranks on a CPU, started by torchrun: what they leave, stops, deaths, restarts, bad input."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml
from launched import LESSONS, Launch

from torch_mars.algos import mars, recurrent
from torch_mars.nn import world
from torch_mars.protocol import saved
from torch_mars.run import files, ranks, record
from torch_mars.run.cli import UsageError

SMALL = "--env paxmen_4a --num-envs 8 --rollout-length 16 --hidden-size 16 --eval-episodes 2 --num-seeds 2".split()
SMALL += ["--env-options", "{max_steps: 16}"]
SMALL += "--device cpu --run-dir runs --checkpoint-every 1 --eval-every 256".split()
STEPS = 128  # of an update
MARS, RECURRENT = LESSONS / "mars.py", LESSONS / "recurrent.py"


def launch(folder, *more, lesson=MARS, updates=4, **how):
    return Launch(folder, lesson, *SMALL, "--total-steps", updates * STEPS, *more, **how)


def the_run(folder):
    (config,) = Path(folder).glob("runs/*/*/*/config.yaml")
    return config.parent


def lines(folder):
    clocks = ("seconds", "steps_per_second")
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in clocks} for line in found]


def timeless(content):
    return repr({name: value for name, value in content.items() if name not in ("seconds", "metrics")})


def updates_of(folder):
    found = list(Path(folder).glob("runs/*/*/*/metrics.jsonl"))
    return sum('"kind": "update"' in line for line in found[0].read_text().splitlines()) if found else 0


def resumed_like_whole(place, lesson, *more):
    """A run of 2 updates and 2 more, and one of 4: their folders."""
    (place / "whole").mkdir()
    (place / "cut").mkdir()
    whole = launch(place / "whole", *more, lesson=lesson)
    assert whole.end() == 0, whole.said.read_text()
    cut = launch(place / "cut", *more, lesson=lesson, updates=2)
    assert cut.end() == 0, cut.said.read_text()
    folder = the_run(place / "cut")
    rest = Launch(place / "cut", lesson, "--resume", folder, "--total-steps", 4 * STEPS)
    assert rest.end() == 0, rest.said.read_text()
    return the_run(place / "whole"), folder, rest.text


def same_to_the_bit(whole, folder):
    assert lines(folder) == lines(whole)
    for name in ("checkpoint.pt", "policy.pt"):
        one, other = (files.load_checkpoint(place / name) for place in (folder, whole))
        for content in (one, other):
            content.get("settings", {}).pop("eval_every", None)
        assert timeless(one) == timeless(other)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}
    assert saved.open_run(folder).is_finished()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return resumed_like_whole(tmp_path_factory.mktemp("both"), MARS)


def test_resumed_to_the_bit(both):
    whole, folder, text = both
    same_to_the_bit(whole, folder)
    assert "2 ranks with 4 environments each" in text and "no longer exact" not in text
    checkpoint = files.load_checkpoint(folder)
    assert checkpoint["ranks"] == 2 and len(checkpoint["env"]["rng"]) == 2 * 8  # whole


@pytest.mark.slow
def test_resumed_to_the_bit_with_memory(tmp_path):
    whole, folder, _ = resumed_like_whole(tmp_path, RECURRENT, "--sequence-length", 8)
    same_to_the_bit(whole, folder)
    assert files.load_checkpoint(folder)["memory"]["actor"].shape[:2] == (2, 8)


def test_one_speaks_and_writes(both):
    whole, _, text = both
    assert text.count("MARS on paxmen_4a") == 1 and text.count("best, again") == 1
    assert re.search(r"train on  torchrun --nproc-per-node 2 -m torch_mars.algos.mars --resume", text)
    (evaluations,) = json.loads((whole / "evaluations.json").read_text())["paxmen"]["paxmen_4a"].values()
    assert len(evaluations["run_0"]["step_0"]["episode_return"]) == 2  # one of each rank
    assert len(evaluations["run_1"]["absolute_metrics"]["episode_return"]) == 20


def test_the_first_rollout_is_that_of_one_process(both, tmp_path):
    more = ["--total-steps", str(STEPS), "--run-dir", str(tmp_path / "runs")]
    assert mars.main([*SMALL, *more]) == 0
    alone, of_ranks = lines(the_run(tmp_path))[0], lines(both[0])[0]
    assert of_ranks["episodes"] == alone["episodes"] == 8
    assert of_ranks["episode_return"] == pytest.approx(alone["episode_return"], rel=1e-5)
    assert of_ranks["critic_loss"] == pytest.approx(alone["critic_loss"], rel=0.05)  # minibatches are of other rows


def test_another_number_of_ranks_goes_on_and_says_so(both, capsys):
    folder = both[0]
    before = files.load_checkpoint(folder)
    assert mars.main(["--resume", str(folder), "--total-steps", str(5 * STEPS)]) == 0
    assert "no longer exact  ranks was 2: numbers are rounded in another way" in capsys.readouterr().out
    after = files.load_checkpoint(folder)
    assert after["update"] == before["update"] + 1 and after["ranks"] == 1
    assert [line["update"] for line in lines(folder) if line["kind"] == "update" and line["seed"] == 0] == [
        1,
        2,
        3,
        4,
        5,
    ]


# ---- stops and deaths ----


def test_ctrl_c_saves_once(tmp_path):
    running = launch(tmp_path, updates=10_000)
    running.wait_for(lambda: updates_of(tmp_path) >= 6)
    running.process.send_signal(signal.SIGINT)  # as from a terminal: torchrun passes it on
    running.end()
    text = running.text
    assert text.count("stopping after this update") == 1 and text.count("Stopped and saved. To go on:") == 1
    folder = the_run(tmp_path)
    assert "--resume" in text and not list(folder.glob(".*.tmp")) and not (folder / ".lock").exists()
    checkpoint, records = files.load_checkpoint(folder), lines(folder)
    assert records[-1]["update"] == checkpoint["update"] >= 3


def test_a_dead_rank_ends_all_with_one_sentence(tmp_path):
    running = launch(tmp_path, updates=10_000)
    running.wait_for(lambda: updates_of(tmp_path) >= 6)
    killed_at = time.monotonic()
    running.kill_rank(1)
    assert running.end() != 0 and time.monotonic() - killed_at < 30
    assert running.text.count("mars: rank 0: another rank has ended") == 1
    assert "rank 1: another" not in running.text
    folder = the_run(tmp_path)
    assert f"--resume {folder.relative_to(tmp_path)}" in running.text and not (folder / ".lock").exists()
    done = files.load_checkpoint(folder)["update"]
    rest = Launch(tmp_path, MARS, "--resume", folder, "--total-steps", (done + 1) * STEPS)
    assert rest.end() == 0, rest.said.read_text()
    assert lines(folder)[-1]["update"] == done + 1


def test_who_lost_a_rank_says_so_before_torchrun_ends_it():
    def collective():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(world.Lost):
            world._together(collective)
        os.kill(os.getpid(), signal.SIGTERM)  # which the processes of ranks get then
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_torchruns_restart_goes_on(tmp_path):
    running = launch(tmp_path, updates=60, options=("--max-restarts", "1"))
    running.wait_for(lambda: updates_of(tmp_path) >= 6)
    running.kill_rank(0)  # the one that holds the lock and writes
    assert running.end() == 0, running.said.read_text()
    folder = the_run(tmp_path)  # there is one
    updates = [line["update"] for line in lines(folder) if line["kind"] == "update" and line["seed"] == 1]
    assert updates == list(range(1, 61)) and saved.open_run(folder).is_finished()
    assert "resumed after update" in running.said.read_text()


# ---- bad input ----

UNLIKE = """
import os, sys
sys.argv += ["--seed", os.environ["RANK"]] if "--unlike" in sys.argv else []
is_older = "--older" in sys.argv
sys.argv = [word for word in sys.argv if word not in ("--unlike", "--older")]
from torch_mars.algos import mars
from torch_mars.nn import world
if is_older and os.environ["RANK"] == "1":
    world.code_of = lambda args: "0123456789ab"
from torch_mars.run.cli import guarded
guarded(mars.main, "mars")
"""


@pytest.mark.parametrize(
    "word, sentence",
    [
        ("--unlike", "mars: --seed of rank 1 is 1, of rank 0 0; they must be the same"),
        pytest.param("--older", "mars: the code of rank 1 is '0123456789ab', of rank 0 '", marks=pytest.mark.slow),
    ],
)
def test_ranks_must_be_alike(tmp_path, word, sentence):
    (tmp_path / "unlike.py").write_text(UNLIKE)
    running = Launch(tmp_path, "unlike.py", word, *SMALL)
    assert running.end() != 0
    assert running.text.count("mars:") == 1 and sentence in running.text
    assert running.exit_codes.get(0) == 2 and not list(tmp_path.glob("runs/*"))


def test_a_mistake_is_said_once(tmp_path):
    running = launch(tmp_path, "--num-envs", 9)
    assert running.end() != 0
    sentence = "mars: --num-envs is 9; 2 ranks cannot share them equally; the nearest that they can are 8 and 10"
    assert running.text == sentence and running.exit_codes[0] == 2


def test_a_mistake_of_every_rank_is_said_once(tmp_path):
    running = launch(tmp_path, "--gama", 1)
    assert running.end() != 0
    assert running.text.count("mars:") == 1 and "--gamma" in running.text and running.exit_codes[0] == 2


@pytest.fixture
def two_ranks(monkeypatch):
    """A launcher's words in the environment, of rank 0 of two."""
    words = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "localhost"}
    for name, value in {**words, "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))


def settings_of(**given):
    return mars.Args(**{"num_envs": 8, "eval_episodes": 2, "device": "cpu", **given})


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"eval_episodes": 3}, "--eval-episodes is 3; 2 ranks cannot share them equally; the nearest .* are 2 and 4"),
        ({"num_envs": 1}, "--num-envs is 1; .* the nearest that they can are 2"),
        ({"rollout_length": 1, "minibatches": 8}, "--minibatches is 8, which does not divide the 4 environment steps"),
        ({"device": "cuda:1"}, "--device is 'cuda:1', but every rank has a card of its own: say cuda"),
        ({"device": "cuda"}, "2 ranks on this machine need a card each, and 1 are here"),
    ],
)
def test_refused(two_ranks, given, sentence, monkeypatch):
    monkeypatch.setattr(world.dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(world.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=sentence):
        world.World(settings_of(**given), "mars").__enter__()


def test_sequences_are_shared_out_as_well(two_ranks):
    """Four for each of two ranks cannot be eight minibatches, though eight of one process can."""
    given = {"num_envs": 8, "rollout_length": 16, "sequence_length": 16, "minibatches": 8, "eval_episodes": 2}
    args = recurrent.Args(device="cpu", **given)
    recurrent.ratio_range(args)
    with pytest.raises(UsageError, match="--minibatches is 8, which does not divide the 4 environment sequences of a"):
        world.World(args, "mars_rnn").__enter__()


@pytest.mark.parametrize("device, name, missing", [("cpu", "gloo", "gloo"), ("cuda", "nccl", "NCCL")])
def test_a_missing_backend(two_ranks, device, name, missing, monkeypatch):
    monkeypatch.setattr(world.dist, f"is_{name}_available", lambda: False)
    with pytest.raises(UsageError, match=f"this PyTorch cannot train .*without {missing}"):
        world.World(settings_of(device=device), "mars").__enter__()


def test_a_lesson_that_knows_no_ranks(two_ranks, tmp_path):
    with pytest.raises(UsageError, match="lesson mars knows nothing of ranks, see main in mars.py"):
        record.Run(settings_of(run_dir=str(tmp_path)), "mars", 128)


# ---- what a launcher says ----


def test_alone_without_a_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert ranks.place() is None and ranks.is_first() and ranks.launch() is None
    with world.World(settings_of(), "mars") as alone:
        assert alone.agreed(True, False) == [True, False] and alone.collected(3) == alone.gathered(3) == [3]
    monkeypatch.setenv("RANK", "1")  # somebody's variable, no launcher's
    assert ranks.place() is None and ranks.is_first()


def test_a_launch_has_a_name_of_its_own(two_ranks, monkeypatch):
    assert ranks.launch() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert ranks.launch().endswith(f"-{os.getppid()}")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")  # of two machines, one: nobody knows the other's
    assert ranks.launch() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    assert ranks.launch() == "mine"


def test_a_restart_finds_its_own_run_alone(two_ranks, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    folders = [tmp_path / "paxmen_4a" / "mars" / name for name in ("1-run", "2-run", "3-run")]
    for folder, name in zip(folders, ("mine", "mine", "other")):
        folder.mkdir(parents=True)
        (folder / ranks.MARK).write_text(name)
        (folder / files.CHECKPOINT).touch()
    found = [str(tmp_path), "paxmen_4a", "mars"]
    assert ranks.restarted(*found) is None  # the first start
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert ranks.restarted(*found) == folders[1]
    (folders[2] / ranks.MARK).write_bytes(b"\xff")  # another's, damaged
    assert ranks.restarted(*found) == folders[1]
    (folders[1] / files.CHECKPOINT).unlink()  # not saved yet; the first is of a launch before, of the same name
    assert ranks.restarted(*found) is None


def test_settings_of_ranks_are_those_of_all(both):
    settings = yaml.safe_load((both[0] / "config.yaml").read_text())
    assert settings["num_envs"] == 8 and settings["eval_episodes"] == 2
