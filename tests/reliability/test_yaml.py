"""yaml of any kind, from any door: what it says, or one sentence."""

import os
import socket
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import LONGEST_SECONDS, check_sentence, refusal

from torch_mars import evaluate, experiment, play, plot, tune
from torch_mars.algos import mappo, mars, maspo
from torch_mars.run import cli, reading, yamls
from torch_mars.run import settings as run_settings

LETTERS = "abcdefghijklm"


def bomb(start: str, line: str) -> str:
    """Nine levels, each nine times the one before."""
    rows = [f"a: &a {start}"]
    for before, name in zip(LETTERS, LETTERS[1:10]):
        rows.append(f"{name}: &{name} {line.format(', '.join([f'*{before}'] * 9))}")
    return "\n".join(rows)


REFUSED = [
    # read in another way than it looks
    *("a: 010", "a: -010", "a: 00", "a: 1:30", "a: 1:30:10", "a: 1:30.5", "a: 0x10", "a: 0b11", "a: 1__0", "a: 1_"),
    *("a: -1_0_",),
    *("a: 2024-01-01", "a: 2001-12-14t21:59:43.10-05:00", "[2024-01-01]", "2024-01-01: a", "a: ="),
    *("a: !!timestamp 2024-01-01",),
    # kinds that no setting has
    *("a: !!set {b}", "a: !!binary aGVsbG8=", "a: !!omap [b: 1]", "a: !!pairs [b: 1]", "a: !own b", "a: !<x:y> b"),
    *("a: !!python/object/apply:os.system [ls]", "a: !!python/name:os.system ''", "!!python/tuple [1]"),
    *("a: !!int x", "a: !!int [1]", "a: !!float x", "a: !!float {}", "a: !!bool maybe", "a: !!map x", "a: !!seq x"),
    *("a: !!str [x]", "a: !!null [x]", "a: !!float ４", "a: !!int ４"),
    # doubled
    *("a: 1\na: 2", "{a: 1, a: 2}", "b: {a: 1, c: 3, a: 2}", "a: 1\n'a': 2", "b: [{a: 1, a: 1}]"),
    *("<<: {a: 1}\n<<: {b: 1}",),
    # names that are no texts
    *("1: 2", "1.5: 2", "true: 2", "on: 3", "null: 3", "~: 3", "? [a]\n: b", "? {a: 1}\n: b", "&a {*a : 1}", ".nan: 1"),
    # endless
    *(bomb("[x, x, x]", "[{}]"), bomb("{x: 1}", "{{<<: [{}]}}"), bomb("[x]", "{{y: [{}]}}")),
    *(bomb("{x: 1}", "{{? [{}] : 1}}"),),
    *("&a [*a]", "&a {b: *a}", "a: &a [1, [2, [*a]]]", "a: &a {<<: *a}", "a: &a {<<: [*a]}"),
    *("[" * 100_000, "{" * 100_000, "- " * 50_000, "? " * 50_000, "[" * 21 + "]" * 21, "{a: " * 21 + "}" * 21),
    *("\n".join(" " * i + "a:" for i in range(300)), "a: " * 100, "[" + "1," * 60_000 + "]"),
    *("a: [" + "{b: 1}," * 10_000 + "]",),
    *("a: " + "9" * 5000, "a: " + "9" * 101, "a: 1." + "0" * 200, "a: 1.0e+400", "a: -1.0e+400", "a: !!float 1e999"),
    # no yaml
    *("a: [1", "a: {b", "a: 'x", 'a: "x', "a: b: c", "a:\n- 1\nb", "\ta: 1", "a:\tb: c", "a: *b", "*a", "a: @b"),
    *("a: `b", "%x"),
    *("--- 1\n--- 2", "a: 1\n---\nb: 2", "a: 1\n...\nb: 2", "%YAML 3.0\n--- 1", "a: !!", "a: !<", "a: |x"),
    *('a: "\\q"', 'a: "\\U99999999"'),
    *("a: \0", "a: \x07", "a: \x1b[31m", "a: \x7f", "a: \udcff", "a: \ufffe", "]", "}", ",", "a: ]", "<<: 5"),
    *("<<: [5]", "a: &1\n b: *2"),
    "x" * (yamls.MOST_BYTES + 1),
]  # fmt: skip
READ = [
    ("", None),
    ("# nothing", None),
    ("a: 1_000\nb: -5\nc: +7\nd: 0", {"a": 1000, "b": -5, "c": 7, "d": 0}),
    ("a: 1e-4\nb: 2.5e-4\nc: .5\nd: 1.\ne: 40M", {"a": "1e-4", "b": 2.5e-4, "c": 0.5, "d": 1.0, "e": "40M"}),
    ("a: '010'\nb: \"1:30\"\nc: '2024-01-01'\n'1': x", {"a": "010", "b": "1:30", "c": "2024-01-01", "1": "x"}),
    ("a: yes\nb: off\nc: ~\nd: null\ne: True", {"a": True, "b": False, "c": None, "d": None, "e": True}),
    ("\ufeffa: ü", {"a": "ü"}),
    ("a: &x {b: 1}\nc: *x\nd: {<<: *x, b: 2}", {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 2}}),
    ("---\na: [1, [2]]\n...\n", {"a": [1, [2]]}),
    ("a: .inf", {"a": float("inf")}),
    ("[" * 19 + "]" * 19, yaml.safe_load("[" * 19 + "]" * 19)),
]


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text[:30]))
def test_what_nobody_means_is_one_sentence(text):
    start = time.monotonic()
    with pytest.raises(cli.UsageError) as refused:
        yamls.parse_yaml(text, "the text")
    assert time.monotonic() - start < LONGEST_SECONDS
    check_sentence(str(refused.value))
    assert str(refused.value).startswith("the text") and len(str(refused.value)) < 300


@pytest.mark.parametrize("text, content", READ, ids=lambda value: repr(value)[:30])
def test_what_somebody_means_is_read(text, content):
    assert yamls.parse_yaml(text, "the text") == content


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: 1\nseed: 010", "line 2: 010 can be read in several ways; write a number like 10, or put it in quotes"),
        ("name: 2024-01-01", "line 1: '2024-01-01' would be a date; put it in quotes"),
        ("a: 1\nb: 2\na: 3", "line 3: 'a' is there twice"),
        ("1: 2", "line 1: the name 1 is no text"),
        ("a: [1", "is not valid yaml: line 1, column 6: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2", "expected a single document in the stream, but found another document"),
    ],
)
def test_the_sentence_says_where_and_what(text, words):
    with pytest.raises(cli.UsageError) as refused:
        yamls.parse_yaml(text, "own.yaml")
    assert words in str(refused.value)


# ---- the doors ----

SMALL = ["--eval-episodes", "2"]
TUNE = ["--algo", "mars", "--env", "paxmen_4a", "--budget", "smoke", "--device", "cpu"]
GRID = ["--envs", "paxmen_4a", "--budget", "smoke", "--device", "cpu"]
CONFIG_DOORS = {
    "mappo": (mappo.main, SMALL),
    "maspo": (maspo.main, SMALL),
    "mars": (mars.main, SMALL),
    "tune": (tune.main, TUNE),
    "experiment": (experiment.main, GRID),
}
SETTINGS = [
    *("seed: 010", "seed: 1:30", "num_envs: 4\nnum-envs: 8", "num_envs: 4\nnum_envs: 4", "name: !!set {a}"),
    *("name: ''", "name: ' '"),
    *("name: true", "name: 1.5", "name: [a]", "name: {a: b}", "name: a/b", "name: ..", "name: 'a\\b'"),
    *('name: "a\\nb"', 'name: "\\e[1m"'),
    *("name: 'a '", f"name: {'x' * 300}", f"name: {'ü' * 150}", 'name: "\\uD800"', 'run_dir: "a\\0b"'),
    *("run_dir: ~nobody_has_this_name/x",),
    *(f"run_dir: {'x/' * 3000}", "env: 5", f"env: {'x' * 3000}", "env: ''", "env: [paxmen_4a]", "device: 0"),
    *("device: cpu:7", "device: ''"),
    *("total_steps: 1.5", "total_steps: .nan", "total_steps: .inf", "total_steps: 1e400", "total_steps: '１０'"),
    *("total_steps: 1e18",),
    *("hidden_size: 1e9", "hidden_size: 0", "hidden_size: [8]", "num_seeds: 1e9", "num_seeds: true", "epochs: ''"),
    *("epochs: ' 5'",),
    *("actor_lr: .inf", "actor_lr: .nan", "actor_lr: '1e400'", "actor_lr: true", "actor_lr: '0x1p3'"),
    *("actor_lr: '1_'", "actor_lr: [1]"),
    *(bomb("[x]", "[{}]"), "hidden_size: " + "[" * 15 + "]" * 15, "env_options: 5", "env_options: '{a'"),
    *("env_options: {max_stepz: 3}",),
    *("env_options: {max_steps: 010}", "env_options: {max_steps: [1]}"),
    *("env_options: '{max_steps: 1, max_steps: 2}'", "env_options: {1: 2}"),
    *("lesson_: mars", "resume: there", "config: there", "- a", "5", "text", "preset: theirs", "preset: ''"),
    *("gamma: 1.5", "cuda_graphs: 1"),
    *("seed: 9223372036854775808", "seed: -1", "seed: 1e20", "minibatches: 1000000007", "checkpoint_every: 0"),
    *("critic_gain: .inf",),
]  # fmt: skip


def check_settings(text, door, capsys, monkeypatch, tmp_path):
    main, argv = CONFIG_DOORS[door]
    (tmp_path / "own.yaml").write_bytes(text.encode(errors="surrogatepass"))
    refusal(main, [*argv, "--config", tmp_path / "own.yaml"], capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("text", SETTINGS, ids=lambda text: repr(text[:40]))
def test_a_bad_settings_file_is_refused(text, capsys, monkeypatch, tmp_path):
    check_settings(text, "mars", capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("door", ["mappo", "maspo", "tune", "experiment"])
@pytest.mark.parametrize("text", SETTINGS[::11], ids=lambda text: repr(text[:40]))
def test_a_bad_settings_file_is_refused_by_every_command(text, door, capsys, monkeypatch, tmp_path):
    check_settings(text, door, capsys, monkeypatch, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("door", ["mappo", "maspo", "tune", "experiment"])
@pytest.mark.parametrize("text", SETTINGS, ids=lambda text: repr(text[:40]))
def test_all_bad_settings_files_are_refused_by_every_command(text, door, capsys, monkeypatch, tmp_path):
    check_settings(text, door, capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    "text", [*REFUSED[::7], "5", "[1]", "{max_steps: .nan}", "{max_steps: '5'}", "{max_steps: yes}", ""]
)
def test_options_on_the_command_line_are_read_alike(text, capsys, monkeypatch, tmp_path):
    if "\0" not in text and len(text) < 100_000:  # which no system hands over
        refusal(mars.main, [*SMALL, f"--env-options={text}"], capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    "text", ["family: 5", "family: [a]", "tasks: 5", "tasks: {paxmen_4a: 5}", "algorithms: [mars]", "algorithms: 1",
             "algorithms: {mars: x}", "tasks: {paxmen_4a: {algorithms: 3}}", "famly: {}", "family: {seed: 010}",
             "family: {}\nfamily: {}", "[", "5"]
)  # fmt: skip
def test_a_bad_file_of_an_environment_is_one_sentence(text, monkeypatch, tmp_path):
    (tmp_path / "paxmen.yaml").write_text(text)
    monkeypatch.setattr(run_settings, "YAML_DIRECTORY", tmp_path)
    with pytest.raises(cli.UsageError, match="paxmen.yaml|--seed") as refused:
        run_settings.family_settings(mars.Args, "paxmen_4a", "mars")
    check_sentence(str(refused.value))


# ---- what is no file ----


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # names of sockets are short
        server.bind(path.name)


NO_FILES = {
    "pipe": make_pipe,
    "socket": make_socket,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "random": lambda path: path.symlink_to("/dev/urandom"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "folder": lambda path: path.mkdir(),
    "loop": lambda path: path.symlink_to(path),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "nothing": lambda path: None,
    "gigabytes": lambda path: (path.touch(), os.truncate(path, 2**40)),
    "utf-16": lambda path: path.write_bytes("a: 1".encode("utf-16")),
    "latin-1": lambda path: path.write_bytes("name: ü".encode("latin-1")),
    "zeros": lambda path: path.write_bytes(b"\0" * 1000),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 100),
}
FILE_DOORS = {
    "mars --config": (mars.main, [*SMALL, "--config"]),
    "mars --resume": (mars.main, ["--resume"]),
    "tune --config": (tune.main, [*TUNE, "--config"]),
    "tune --storage": (tune.main, [*TUNE, "--storage"]),
    "experiment --config": (experiment.main, [*GRID, "--config"]),
    "evaluate": (evaluate.main, []),
    "play": (play.main, []),
    "plot": (plot.main, []),
}
FINE = {("tune --storage", "nothing"), ("tune --storage", "link to nowhere")}  # it will be made


@pytest.mark.parametrize("door", FILE_DOORS)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_of_ours_is_neither_waited_for_nor_read_without_end(kind, door, capsys, monkeypatch, tmp_path):
    if (door, kind) in FINE:
        return
    monkeypatch.chdir(tmp_path)
    NO_FILES[kind](tmp_path / "own.json")
    main, argv = FILE_DOORS[door]
    refusal(main, [*argv, tmp_path / "own.json"], capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "\udcff\udcfe", "x" * 5000, "x/" * 3000, "\n", "\x1b[2J"])
@pytest.mark.parametrize("door", FILE_DOORS)
def test_names_that_no_file_has_are_one_sentence(name, door, capsys, monkeypatch, tmp_path):
    main, argv = FILE_DOORS[door]
    refusal(main, [*argv, name], capsys, monkeypatch, tmp_path)


def test_a_file_is_read_to_its_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert reading.read_bytes(tmp_path / "file", 100) == b"x" * 100
    for path in (tmp_path / "file", Path("/proc/self/status")):  # whose size is 0
        with pytest.raises(cli.UsageError, match="more than 99 bytes"):
            reading.read_bytes(path, 99)


# ---- any text ----

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.text(max_size=8),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
CONTENTS = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_size=6,
)  # fmt: skip
SYNTAX = st.text(alphabet="ab01:-_[]{},&*!|>'\"#%@?.~ \n\t<=xe\\", max_size=60)


def check_any(text: str) -> None:
    try:
        content = yamls.parse_yaml(text, "the text")
    except cli.UsageError as refused:
        check_sentence(str(refused))
    else:
        assert is_plain(content)


def is_plain(content) -> bool:
    if isinstance(content, dict):
        return all(isinstance(name, str) and is_plain(value) for name, value in content.items())
    if isinstance(content, list):
        return all(map(is_plain, content))
    return content is None or type(content) in (str, int, float, bool)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(SYNTAX | st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    check_any(text)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=20_000)
@given(SYNTAX | st.text(max_size=200))
def test_many_more_texts_are_read_or_refused(text):
    check_any(text)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(CONTENTS)
def test_what_we_write_we_read(content):
    try:
        assert yamls.parse_yaml(yaml.safe_dump(content), "ours") == content
    except cli.UsageError as refused:  # a name that stands for a merge, a number of another writer's
        assert "<<" in yaml.safe_dump(content), refused
