"""Mistakes with every other command, and calls from a program: one sentence, soon, before any work."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from refusals import LONGEST_SECONDS, check_sentence, refusal

import torch_mars
from torch_mars import __main__, evaluate, experiment, export, play, plot, tune
from torch_mars.algos import mars
from torch_mars.run import cli, finding

TUNE = ["--algo", "mars", "--env", "paxmen_4a", "--budget", "smoke", "--device", "cpu"]
GRID = ["--envs", "paxmen_4a", "--algos", "mars", "--budget", "smoke", "--device", "cpu"]
MAINS = {
    "torch-mars": (__main__.main, []),
    "train": (__main__.main, ["train"]),
    "evaluate": (evaluate.main, []),
    "play": (play.main, []),
    "export": (export.main, []),
    "plot": (plot.main, []),
    "tune": (tune.main, TUNE),
    "experiment": (experiment.main, GRID),
}
NO_COUNT = [
    "0",
    "-1",
    "1.5",
    "010",
    "0x10",
    "1e400",
    "nan",
    "",
    " ",
    "１",
    "1__0",
    " 5",
    "9" * 5000,
    "1e99",
    "x" * 5000,
    "1e12",
]
NO_SEED = ["-1", "1.5", "010", "nan", "", "１", str(2**63), "9" * 5000, "1e400"]
PLACES = [
    "/proc/here",
    "/dev/null/here",
    "/dev/full",
    "file",
    "file/here",
    "x" * 300,
    "x/" * 2100,
    "\n",
    "\x1b[2J",
    "\udcff",
    "a\0b",
    "",
]
PLACES += ["~nobody_has_this_name/here", "loop", "loop/here", "link_to_nowhere"]
NO_DEVICE = ["cpu:7", "cuda:99", "meta", "tpu", "", "x" * 5000]
CASES = [
    *(("evaluate", ["paxmen_4a", f"--episodes={text}"]) for text in NO_COUNT),
    *(("evaluate", ["paxmen_4a", f"--seed={text}"]) for text in NO_SEED),
    *(("evaluate", ["paxmen_4a", f"--device={text}"]) for text in NO_DEVICE),
    *(
        ("evaluate", ["paxmen_4a", flag])
        for flag in ("--env=", "--lesson=", "--lesson=nothing", f"--lesson={'x' * 5000}", "--json=1")
    ),
    *(
        ("evaluate", [path])
        for path in (
            "", " ", "/", "/proc", "/dev", ".", "..", "nothing", "x" * 5000, "\udcff", "~nobody_has_this_name",
            "a\0b",
        )
    ),
    *(("play", ["paxmen_4a", f"--episodes={text}"]) for text in NO_COUNT),
    *(("play", ["paxmen_4a", f"--fps={text}"]) for text in (*NO_COUNT, "51")),
    *(("play", ["paxmen_4a", f"--seed={text}"]) for text in NO_SEED),
    *(("play", ["paxmen_4a", f"--policy-seed={text}"]) for text in (*NO_SEED, "77")),
    *(
        ("play", ["paxmen_4a", f"--out={text}.gif"])
        for text in PLACES if text not in ("", "file", "loop", "link_to_nowhere", "/dev/full", "\udcff")
    ),
    *(
        ("play", ["paxmen_4a", "--out", text])
        for text in ("", "x", "x.avi", "/dev/null", "folder.gif", ".gif/", "nowhere/x.gif", "\udcff.gif")
    ),
    *(
        ("play", [path])
        for path in (
            "", " ", "/", "/proc", ".", "nothing", "a:b", ":", "x" * 5000, "x" * 5000 + ":y", "\udcff",
            "\x1b[1m", "a\0b",
        )
    ),
    *(("play", ["--random", path]) for path in ("", "/", "nothing", "x" * 5000)),
    *(("plot", ["file", "--out", text]) for text in PLACES),
    *(
        ("plot", [path])
        for path in ("", "nothing", "file", "empty", "x" * 5000, "\udcff", "a\0b", "~nobody_has_this_name")
    ),
    *(
        ("plot", argv)
        for argv in ([], ["file", ""], ["file", "--format", "x" * 5000], ["file", "--format="], ["file", "--out"])
    ),
    *(("tune", ["--out", text]) for text in PLACES),
    *(
        ("tune", ["--storage", text])
        for text in (*PLACES[:3], *PLACES[4:-1], "folder", "text", "x://y", "sqlite:////proc/x.db")
    ),
    *(("tune", [f"{flag}={text}"]) for flag in ("--trials", "--seeds") for text in NO_COUNT),
    *(("tune", [f"--device={text}"]) for text in NO_DEVICE),
    *(("tune", [f"--{flag}="]) for flag in ("algo", "env", "budget", "space", "preset", "config")),
    *(("tune", ["--algo", name]) for name in ("mar", "x" * 5000, "\udcff", "x/y.py", "a.b", ",")),
    *(("experiment", ["--out", text]) for text in PLACES),
    *(("experiment", ["--run-dir", text]) for text in PLACES),
    *(
        ("experiment", [f"{flag}={text}"])
        for flag in ("--seeds", "--seeds-per-run", "--workers", "--total-steps") for text in NO_COUNT[:-1]
    ),
    *(("experiment", [f"--first-seed={text}"]) for text in (*NO_SEED, str(2**63 - 5))),
    *(("experiment", [f"--device={text}"]) for text in NO_DEVICE),
    *(("experiment", [f"--{flag}="]) for flag in ("algos", "envs", "budget", "preset", "config", "tuned")),
    *(("experiment", ["--algos", names]) for names in (",", "mars,", "mar", "x" * 5000, "mars,\udcff")),
    *(("experiment", ["--envs", names]) for names in (",", "paxmen_4a,", "paxmem", "x" * 5000, "\udcff", "a:b")),
    *(("experiment", ["--total-steps", "1e12", "--seeds", "1e9"]),),
    *(
        ("torch-mars", argv)
        for argv in ([""], ["trian"], ["x" * 5000], ["\udcff"], ["\x1b[1m"], ["train", ""], ["train", "mar"])
    ),
    *(
        ("train", [name])
        for name in ("x" * 5000, "\udcff", "nothing.py", "a.b", "/", "x" * 5000 + ".py", ":", "a\0b.py")
    ),
    *(
        ("export", ["paxmen_5a", f"--out={text}.pt"])
        for text in PLACES if text not in ("", "file", "loop", "link_to_nowhere", "/dev/full", "\udcff")
    ),
    *(
        ("export", ["paxmen_5a", "--out", text])
        for text in ("", "x", "x.gif", "/dev/null", ".pt2/", "nowhere/x.pt", "\udcff.pt", "policy.pt", "x.onnx.zip")
    ),
    *(("export", ["paxmen_5a", "--format", text]) for text in ("", "onx", "ONNX", "x" * 5000, "\udcff", "pt2,onnx")),
    *(("export", ["paxmen_5a", f"--policy-seed={text}", "--out=x.pt"]) for text in (*NO_SEED, "77")),
    *(
        ("export", [path, "--format=pt2"])
        for path in ("", " ", "/", "/proc", ".", "nothing", "paxmen_6a", "x" * 5000, "\udcff", "a\0b", "file", "text")
    ),
]  # fmt: skip
OVERRULED = ["seed: 3", "num_seeds: 2", "env: paxmen_5a", "device: cpu", "run_dir: here", "num-seeds: 2"]


@pytest.fixture
def things(tmp_path):
    """In the folder where commands are run: what is in the way."""
    here = tmp_path / "here"
    for name in ("folder", "empty", "folder.gif"):
        (here / name).mkdir(parents=True)
    (here / "file").touch()
    (here / "text").write_text("no journal")
    (here / "loop").symlink_to("loop")
    (here / "link_to_nowhere").symlink_to("nowhere/at/all")


def check(command, argv, capsys, monkeypatch, tmp_path):
    main, before = MAINS[command]
    return refusal(main, [*before, *argv], capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("part", range(20))
def test_a_mistake_is_one_sentence_before_any_work(part, things, capsys, monkeypatch, tmp_path):
    for command, argv in CASES[part::60]:
        check(command, argv, capsys, monkeypatch, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case)[:60])
def test_every_mistake_is_one_sentence_before_any_work(case, things, capsys, monkeypatch, tmp_path):
    check(*case, capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("command", ["tune", "experiment"])
@pytest.mark.parametrize("text", OVERRULED)
def test_what_the_command_line_says_a_file_may_not(text, command, capsys, monkeypatch, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    said = check(command, ["--config", tmp_path / "own.yaml"], capsys, monkeypatch, tmp_path)
    name = text.split(":")[0].replace("-", "_")
    assert f"--config: {name} is " in said and "but it is for the command line to say" in said


def test_the_flag_that_is_wrong_is_blamed(things, capsys, monkeypatch, tmp_path):
    for command, argv, words in (
        ("tune", ["--out", "file"], "--out: cannot write to file"),
        ("tune", ["--storage", "file/here"], "--storage: cannot write to file"),
        ("experiment", ["--out", "file"], "--out: cannot write to file (Not a directory)"),
        ("experiment", ["--run-dir", "/proc"], "--run-dir: cannot write to /proc (No such file or directory)"),
        ("play", ["paxmen_4a", "--out", "/proc/x.gif"], "--out: cannot write to /proc"),
        ("plot", ["file", "--out", "file"], "--out: cannot write to file"),
        ("experiment", ["--first-seed", str(2**63 - 5)], "--first-seed is 9223372036854775803 and --seeds 10"),
        ("evaluate", ["paxmen_4a", "--episodes=1e12"], "--episodes: 1000000000000 is too large; it must be 1000000 or"),
        ("evaluate", ["paxmen_4a", "--lesson="], "--lesson is empty"),
        ("evaluate", [""], "RUN_OR_TASK is empty"),
    ):
        assert words in check(command, argv, capsys, monkeypatch, tmp_path)


# ---- from a program ----

BAD_CALLS = [
    *(
        {"path": path}
        for path in (
            None, 5, 1.5, [], {}, Path, "", b"", b"\xff", "a\0b", "x" * 5000, "/", Path("/proc"), "nothing",
        )
    ),
    *(
        {"seed": seed}
        for seed in (None, 1.5, float("nan"), "x", "5", b"5", [], True, -1, 2**63, np.float64(1), np.array([1, 2]))
    ),
    *({"policy_seed": seed} for seed in (1.5, float("nan"), "x", b"5", [], True, -1, 2**63, 10**400)),
    *({"device": device} for device in (None, 5, b"cpu", "gpu", "cpu:7", "cuda:99", "", "x" * 5000, [], "\udcff")),
]  # fmt: skip


@pytest.mark.parametrize("call", BAD_CALLS, ids=lambda call: ascii(call)[:40])
def test_values_of_a_wrong_kind_are_one_sentence(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    with pytest.raises(cli.UsageError) as refused:
        torch_mars.load_policy(**{"path": "paxmen_4a", **call})
    check_sentence(str(refused.value))
    assert time.monotonic() - start < LONGEST_SECONDS


def test_paths_from_a_program(tiny_run, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_run.parent))
    for path in (tiny_run, str(tiny_run), os.fsencode(tiny_run), f"~/{tiny_run.name}"):
        assert finding.find_policy(path) == tiny_run / "policy.pt"
        assert torch_mars.load_policy(path, seed=np.int64(3), policy_seed=np.uint8(7)).training_seed == 7


def test_runs_are_looked_for_near_the_top_only(tmp_path):
    for depth in (1, 4, 5):
        folder = tmp_path / "/".join(["x"] * depth)
        folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").touch()
    with pytest.raises(cli.UsageError, match="is not a run: it has neither"):
        finding.find_policy(tmp_path)
    for name in ("config.yaml", "metrics.jsonl"):
        (folder.parent / name).touch()
    with pytest.raises(cli.UsageError, match="but holds 1; the latest is .*/x/x/x/x$"):
        finding.find_policy(tmp_path)


# ---- words ----


def test_what_is_quoted_is_short():
    for value in ("x" * 10**6, [["x" * 10**6] * 10**6], 10**10**5, {"x" * 10**6: 1}, np.zeros(10**6), b"x" * 10**6):
        assert len(cli.shown(value)) <= 80
    error = cli.UsageError("\x1b[1m\n\r\u2028 " + "ab " * 10**6 + "x" * 10**6 + "\udcff")
    check_sentence(str(error))


def test_a_terminal_that_knows_ascii_only_ends_nothing(tmp_path):
    """Neither an answer nor a refusal with a name that it cannot show; where not even files have such names, none."""
    code = "from torch_mars.run.cli import guarded; from torch_mars import experiment as e; guarded(e.main, 'e')"
    (tmp_path / "ö" / "paxmen_4a").mkdir(parents=True)
    (tmp_path / "ö" / "paxmen_4a" / "maspo.yaml").write_text("actor_lr: 0.001\n")
    for settings, exit_code in (
        ({"PYTHONIOENCODING": "ascii"}, 0),
        ({"PYTHONUTF8": "0", "LC_ALL": "C"}, 2),
    ):
        argv = [*GRID, "--algos", "mars,maspo", "--run-dir", tmp_path / "lä", "--tuned", tmp_path / "ö", "--dry-run"]
        ended = subprocess.run([sys.executable, "-c", code, *argv], env=os.environ | settings, capture_output=True)
        assert ended.returncode == exit_code and b"Traceback" not in ended.stderr, ended.stderr
        note, *refused = ended.stderr.splitlines()
        assert note.startswith(b"note: MARS on paxmen_4a is not tuned") and len(refused) == (exit_code == 2)
        assert ended.stderr.isascii()


def test_a_run_of_a_name_that_ascii_lacks(tmp_path, monkeypatch):
    settings = "--env paxmen_4a --num-envs 4 --rollout-length 16 --hidden-size 8 --eval-episodes 2 --total-steps 64"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mars.main([*settings.split(), "--device", "cpu", "--name", "lä 5", "--run-dir", "~/ö"]) == 0
    (folder,) = tmp_path.glob("ö/*/*/*")
    assert folder.name.endswith("-lä 5") and not Path("~").exists()
