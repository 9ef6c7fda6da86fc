"""What stands on a lesson's command line: settings that can be trained with, or one sentence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import check_sentence, refusal

from torch_mars.algos import mappo, mars, maspo, recurrent
from torch_mars.run import cli
from torch_mars.run import settings as run_settings

LESSONS = {"mappo": mappo, "maspo": maspo, "mars": mars}
WHOLE = "total_steps num_envs num_seeds seed rollout_length epochs minibatches hidden_size eval_every eval_episodes"
WHOLE = [name.replace("_", "-") for name in f"{WHOLE} checkpoint_every".split()]
REAL = (
    "actor-lr critic-lr entropy-coef value-coef value-clip gamma gae-lambda adam-eps max-grad-norm critic-gain".split()
)
TEXTS = ["device", "name", "run-dir", "preset", "config", "resume", "env"]
NO_WHOLE = [
    "010",
    "-010",
    "0x10",
    "0b1",
    "0o7",
    "1_",
    "_1",
    "1__0",
    "1e400",
    "1e-400",
    "nan",
    "inf",
    "-inf",
    "１０",
    "٣",
    "1.5",
    "1e-1",
]
NO_WHOLE += [
    " 5",
    "5 ",
    "5\n",
    "",
    " ",
    "five",
    "[5]",
    "5k5",
    "kM",
    "4MM",
    "1,000",
    "1 000",
    "+",
    "-",
    ".",
    "5.",
    "9" * 5000,
    "x" * 5000,
]
NO_WHOLE += ["-1", "1e99", str(2**63), str(10**90), "None", "true", "!!int 5", "5;ls", "$(ls)", "1e1e1", "--5", "²"]
NO_REAL = [
    "nan",
    "-nan",
    "inf",
    "-inf",
    "1e400",
    "0x1p3",
    "1_",
    "1__0.5",
    "",
    " ",
    " 1",
    "1 ",
    "０.５",
    "one",
    "[1]",
    "1,5",
    "-1",
    "-1e-9",
]
NO_REAL += ["9" * 5000, "x" * 5000, "1e", "e5", ".", "+", "--1", "01.5", "1/2", "None", "true", "1e1.5"]
BAD = [
    # more than any machine has
    *(["--rollout-length", "1000000007"], ["--num-envs", "1", "--rollout-length", "1000000007", "--minibatches", "2"]),
    *(["--num-seeds", "1e9"], ["--seed", str(2**63 - 1), "--num-seeds", "3"]),
    *(["--seed", str(2**63 - 2), "--num-seeds", "3"],),
    *(["--num-envs", "16777216", "--rollout-length", "1000000"], ["--num-seeds", "10000", "--num-envs", "65536"]),
    *(["--num-envs", "999983", "--rollout-length", "2", "--minibatches", "7"], ["--minibatches", "2147483647"]),
    # contradictions
    *(["--total-steps", "10"], ["--minibatches", "5", "--rollout-length", "16"]),
    *(["--config", "a.yaml", "--resume", "b"],),
    # empty, as where a variable of the shell is not set
    *([f"--{name}="] for name in (*TEXTS, "env-options", "total-steps", "actor-lr")),
    *([f"--{name}", "  "] for name in TEXTS),
    # names
    *(
        ["--name", name]
        for name in (
            ".", "..", "a/b", "a\\b", "a ", " a", "a.", "a\nb", "a\tb", "\x1b[1m", "a\0", "\udcff", "x" * 201,
        )
    ),
    *(["--name", name] for name in ("ü" * 101, "x" * 10_000, "\u202e", "\u200b")),
    *(
        [f"--{flag}", value]
        for flag in ("run-dir", "config", "resume") for value in ("\udcff", "a\0b", "x" * 300, "x/" * 2100)
    ),
    *([f"--{flag}", "~nobody_has_this_name/x"] for flag in ("run-dir", "config", "resume")),
    *(
        ["--env", name]
        for name in (
            "\udcff", "x" * 5000, "nothing:Here", "x" * 5000 + ":Env", "/dev/zero.py:Env", "/:x", ":", "a:",
            ":b",
        )
    ),
    *(
        ["--env", name]
        for name in (
            "paxmen_4a\n", "Paxmen_4a", "~nobody/x.py:Env", "../x", "x.py", "a" * 300 + ".py:Env", "\x1b[1m",
        )
    ),
    *(
        ["--device", name]
        for name in (
            "cpu:7", "cpu:1", "cuda:99", "cuda:-1", "cuda:x", "meta", "tpu", "5", "x" * 5000, "cuda:" + "9" * 30,
            "\udcff",
        )
    ),
    *(["--preset", name] for name in ("theirs", "Paper", "x" * 5000)),
    # no flags
    *(["stray"], [""], ["--"], ["--", "x"], ["-x"], ["--expandd", "1"], ["--no-such"], ["--" + "x" * 5000]),
    *(["--num-envs"], ["--cuda-graphs=1"]),
    *(["\udcff"], ["x" * 100_000], ["--\udcff=1"], ["--num-envs", "4", "5"], ["--no-num-envs"], ["@file"]),
    *(["--eval-greedy", "yes"],),
]  # fmt: skip
ONE_OF_TWO = [
    (mars, ["--expand", "2", "--additive-clip", "0.2"]),
    (mars, ["--contract", "0.5", "--additive-clip", "0.2"]),
    (mars, ["--additive-clip", "0.2", "--expand", "1.5"]),  # its default, too
    *(
        (lesson, ["--clip", "0.3", *more])
        for lesson in (mappo, maspo)
        for more in (["--clip-low", "0.1", "--clip-high", "0.2"], ["--clip-low", "0.1"], ["--clip-high", "0.2"])
    ),
    *((lesson, flags) for lesson in (mappo, maspo) for flags in (["--clip-low", "0.1"], ["--clip-high", "0.2"])),
]
FINE = [
    ["--num-envs", "1_024"],
    ["--num-envs", "1e3", "--total-steps", "4M"],
    ["--total-steps", "40_000_000"],
    ["--seed", str(2**63 - 3), "--num-seeds", "3"],
    ["--actor-lr", "2.5e-4", "--critic-lr", ".001", "--value-clip", "1_0.5"],
    ["--name", "trial 5 (ü, no. 2)"],
    ["--name", "x" * 200],
    ["--name", "7"],
    ["--env-options", "{max_steps: 5}"],
    ["--minibatches", "8192", "--num-envs", "64", "--rollout-length", "128"],
    ["--rollout-length", "1000000", "--num-envs", "2", "--minibatches", "1", "--total-steps", "1e9"],
    ["--seed", "1", "--seed", "2"],
]


NUMBERS = [(flag, text) for flags, texts in ((WHOLE, NO_WHOLE), (REAL, NO_REAL)) for text in texts for flag in flags]


@pytest.mark.parametrize("part", range(10))
def test_what_is_no_number_is_refused(part, capsys):
    for flag, text in NUMBERS[part::70]:
        check_refused([f"--{flag}={text}"], mars, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_whatever_is_no_number_is_refused_by_every_flag_of_every_lesson(lesson, capsys):
    for flag, text in NUMBERS:
        check_refused([f"--{flag}={text}"], lesson, capsys)


@pytest.mark.parametrize("argv", BAD, ids=lambda argv: ascii(argv)[:40])
def test_what_cannot_be_trained_with_is_refused(argv, capsys, monkeypatch, tmp_path):
    refusal(mars.main, argv, capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("method", recurrent.ARGS)
def test_the_recurrent_lesson_refuses_the_same(method, capsys, monkeypatch, tmp_path):
    """Though it looks at its command line, and at the files that it names, once more before."""
    for argv in BAD[list(recurrent.ARGS).index(method) :: 3]:
        refusal(recurrent.main, ["--method", method, *argv], capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("lesson, argv", ONE_OF_TWO)
def test_what_would_have_no_effect_is_refused(lesson, argv, capsys, monkeypatch, tmp_path):
    said = refusal(lesson.main, argv, capsys, monkeypatch, tmp_path)
    assert argv[0] in said


def test_a_settings_file_contradicts_itself_or_the_command_line(capsys, monkeypatch, tmp_path):
    asymmetric, own = "clip_low: 0.1\nclip_high: 0.2\n", tmp_path / "own.yaml"
    for text, flags, words in (
        ("expand: 2\nadditive_clip: 0.2", [], "--expand is 2.0, which has no effect beside --additive-clip, 0.2"),
        ("additive_clip: 0.2", ["--expand", "2"], "--expand is 2.0, which has no effect"),
    ):
        own.write_text(text)
        assert words in refusal(mars.main, ["--config", own, *flags], capsys, monkeypatch, tmp_path)
    own.write_text(asymmetric)
    refusal(mappo.main, ["--config", own, "--clip", "0.3"], capsys, monkeypatch, tmp_path)
    own.write_text("clip: 0.3")
    args = parse(mappo, ["--config", str(own), "--clip-low", "0.1", "--clip-high", "0.2"])
    assert mappo.ratio_range(args) == (0.9, 1.2)  # the command line wins


def test_the_config_of_a_run_is_no_contradiction(tmp_path):
    """It says all settings, also those whose place another takes."""
    import yaml

    settings = vars(parse(mars, ["--additive-clip", "0.2"]))
    settings = {name: value for name, value in settings.items() if name not in ("config", "resume")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"lesson": "mars", **settings}))
    assert parse(mars, ["--config", str(tmp_path / "config.yaml")]).additive_clip == 0.2


@pytest.mark.parametrize("argv", FINE, ids=lambda argv: argv[1][:20])
@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_what_can_be_trained_with_is_not_refused(lesson, argv):
    assert parse(lesson, argv)


def test_home_is_a_folder_whoever_says_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.yaml").write_text("run_dir: ~/results\n")
    assert parse(mars, ["--config", "~/own.yaml"]).run_dir == f"{tmp_path}/results"
    assert parse(mars, ["--run-dir", "~"]).run_dir == str(tmp_path)
    assert parse(mars, ["--run-dir", "a/~"]).run_dir == "a/~"


# ---- any command line ----

FLAGS = st.sampled_from(
    [*WHOLE, *REAL, *TEXTS, "env-options", "expand", "contract", "additive-clip", "cuda-graphs", "eval-greedy"]
)
VALUES = st.one_of(
    st.integers(-5, 300).map(str), st.integers().map(str), st.floats().map(str), st.text(max_size=6),
    st.sampled_from([*NO_WHOLE, *NO_REAL, "paxmen_4a", "cpu", "ours", "paper", "{max_steps: 5}", "40M"]),
)  # fmt: skip
WORDS = st.one_of(
    st.tuples(FLAGS, VALUES).map(lambda pair: [f"--{pair[0]}={pair[1]}"]),
    st.tuples(FLAGS, VALUES).map(lambda pair: [f"--{pair[0]}", pair[1]]),
    VALUES.filter(lambda text: text not in ("-h", "--help")).map(lambda text: [text]),
)
LINES = st.lists(WORDS, max_size=4).map(lambda groups: [word for group in groups for word in group])


def check_any(argv, capsys) -> None:
    try:
        args = parse(mars, argv)
    except SystemExit as stopped:
        assert stopped.code == 2
        said = capsys.readouterr().err
        check_sentence(said.removesuffix("\n"))
    else:
        run_settings.check(args)
        assert args.seed + args.num_seeds <= 2**63 and 0 < args.actor_lr < float("inf")


def test_any_command_line_is_resolved_or_refused(capsys):
    @settings(derandomize=True, deadline=None, max_examples=80)
    @given(LINES)
    def check(argv):
        check_any(argv, capsys)

    check()


@pytest.mark.slow
def test_many_more_command_lines_are_resolved_or_refused(capsys):
    @settings(derandomize=True, deadline=None, max_examples=5000)
    @given(LINES)
    def check(argv):
        check_any(argv, capsys)

    check()


def test_any_command_line_of_the_recurrent_lesson_is_resolved_or_refused(capsys):
    """With any words for its method."""

    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(LINES, st.one_of(VALUES, st.sampled_from([*recurrent.ARGS])))
    def check(argv, method):
        try:
            found = run_settings.chosen("method", recurrent.ARGS, "recurrent", [*argv, f"--method={method}"])
            args = run_settings.parse(recurrent.ARGS[found], recurrent.ratio_range, f"{found}_rnn", argv)
        except SystemExit as stopped:
            assert stopped.code == 2
            check_sentence(capsys.readouterr().err.removesuffix("\n"))
        else:
            assert found == method and args.rollout_length % args.sequence_length == 0

    check()


def parse(lesson, argv):
    return run_settings.parse(lesson.Args, lesson.ratio_range, lesson.ALGORITHM, argv)


def check_refused(argv, lesson, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.guarded(lambda: parse(lesson, argv) and 0, "mars")
    assert stopped.value.code == 2, argv
    check_sentence(capsys.readouterr().err.removesuffix("\n"))
