"""metrics.jsonl and JSON files from anywhere: what cannot be read is told, and never drawn."""

import json
import math
import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_results import run_folder

from torch_mars import plot
from torch_mars.protocol import gather, methods, saved
from torch_mars.run import files, metrics
from torch_mars.run.cli import UsageError

GOOD = {"kind": "update", "seed": 0, "update": 3, "step": 96, "seconds": 1.5, "ratio_max": 2.0}
BAD_LINES = [
    b"", b"\n", b"{", b"[]", b"5", b"null", b"\0\0\0", b"\xff\xfe", b"[" * 100_000, b"{" * 100_000, b"1" * 10_000,
    *(json.dumps({**GOOD, name: value}).encode() for name, value in (
        ("kind", "surprise"), ("kind", None), ("kind", ["update"]), ("seed", "0"), ("seed", 0.5), ("seed", True),
        ("seed", -1), ("update", None), ("update", 2**70), ("update", "three"), ("step", [96]), ("step", -5),
        ("seconds", "soon"), ("seconds", math.nan), ("seconds", None), ("ratio_max", {}), ("ratio_max", math.inf),
        ("ratio_max", None), ("ratio_max", [[1.0]]), ("ratio_max", ["x"]), ("ratio_max", True),
    )),
    *(json.dumps({k: v for k, v in GOOD.items() if k != name}).encode() for name in GOOD if name != "ratio_max"),
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_line_that_is_no_record_is_none(line):
    assert metrics.parse(json.dumps(GOOD).encode()) == GOOD
    assert metrics.parse(line) is None


def test_what_is_written_is_read_again(tmp_path):
    log = metrics.Log(tmp_path / "metrics.jsonl", metrics._mark_of([]))
    odd = {**GOOD, "ratio_max": math.inf, "returns": [1.0, -math.inf, 2]}
    for record in (GOOD, odd):
        log.append(record)
    mark = log.sync()
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    for line in text.splitlines():
        json.loads(line, parse_constant=lambda word: 1 / 0)
    past = metrics.Past(tmp_path / "metrics.jsonl", 3, mark)
    assert past.problem is None and past.records[1]["ratio_max"] == "inf"
    assert float(past.records[1]["ratio_max"]) == math.inf


@settings(derandomize=True, deadline=None, max_examples=200)
@given(content=st.binary(max_size=300), place=st.integers(0, 3))
def test_any_bytes_in_the_file_are_told(tmp_path_factory, content, place):
    path = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    lines = [metrics.encoded([{**GOOD, "update": i}]) for i in range(1, 4)]
    mark = metrics._mark_of([{**GOOD, "update": i} for i in range(1, 4)])
    path.write_bytes(b"".join([*lines[:place], content, *lines[place:]]))
    past = metrics.Past(path, 3, mark)
    is_harmless = not content.strip(b"\n") and b"\n" not in content
    is_behind = place == 3 and b"\n" not in content  # cut off by a kill
    assert (past.problem is None) == (is_harmless or is_behind)
    log, aside = past.begin([])
    log.close()
    assert (aside is not None) == (past.problem is not None)
    again = metrics.Past(path, 3, log.mark)
    assert again.problem is None and again.records == past.records


@pytest.mark.parametrize("size", [1, 10, 2**16 - 40, 2**16, 3 * 2**16 + 7, 10**6])
def test_the_last_update_is_found_behind_lines_of_any_length(size, tmp_path):
    path = tmp_path / "metrics.jsonl"
    long = {**GOOD, "kind": "evaluation", "returns": [0] * (size // 3)}
    path.write_bytes(metrics.encoded([{**GOOD, "update": 7}, *[long] * 5]) + b'{"kind": "upd')
    assert metrics.last_record(path, "update")["update"] == 7
    assert metrics.last_record(path, "diverged") is None
    assert metrics.last_record(tmp_path / "nowhere", "update") is None


def test_lines_backwards_are_lines(tmp_path):
    chance, path = random.Random(0), tmp_path / "lines"
    for _ in range(30):
        content = b"\n".join(bytes(chance.choices(b"ab", k=chance.choice((0, 1, 50, 70_000)))) for _ in range(9))
        path.write_bytes(content)
        with open(path, "rb") as file:
            assert list(metrics._lines_backwards(file)) == content.split(b"\n")[::-1]


# ---- what is drawn ----


def refused(capsys, *argv):
    with pytest.raises(UsageError) as error:
        plot.main([str(word) for word in argv])
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    return str(error.value)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    place = tmp_path_factory.mktemp("published")
    plot.main([str(run_folder(place / "run")), "--out", str(place / "out")])
    return [path for path in (place / "out").iterdir() if path.suffix == ".json"]


def changed(tmp_path, published, change):
    """A published evaluations.json in which something was changed."""
    (tmp_path / "out").mkdir()
    for path in published:
        shutil.copy(path, tmp_path / "out")
    path = tmp_path / "out" / "evaluations.json"
    nested = json.loads(path.read_text())
    change(nested["paxmen"]["paxmen_4a"]["mars"]["run_10"], nested)
    path.write_text(json.dumps(nested))
    return path


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda run, _: run["step_1"].update(step_count=0), "comes before"),
        (lambda run, _: run["step_1"].update(step_count=run["step_0"]["step_count"]), "comes before"),
        (lambda run, _: run["step_0"].update(step_count=-1), "nesting"),
        (lambda run, _: run["step_0"].update(step_count="many"), "nesting"),
        (lambda run, _: run["step_0"].update(step_count=math.inf), "nesting"),
        (lambda run, _: run["step_0"].update(step_count=math.nan), "nesting"),
        (lambda run, _: run["step_0"].update(episode_return=[]), "nesting"),
        (lambda run, _: run["step_0"].update(episode_return=["x"]), "nesting"),
        (lambda run, _: run["step_0"].update(episode_return=[[1.0]]), "nesting"),
        (lambda run, _: run["step_0"].update(episode_return=[math.nan]), "is not finite"),
        (lambda run, _: run["step_0"].pop("episode_return"), "nesting"),
        (lambda run, _: run.update(absolute_metrics={"episode_return": [math.nan]}), "absolute metric is not finite"),
        (lambda run, _: run.update(absolute_metrics={"episode_return": "x"}), "nesting"),
        (lambda run, _: run.update(absolute_metrics=5), "nesting"),
        (lambda run, _: run.update(step_0=5), "nesting"),
        (lambda _, nested: nested.update(paxmen=5), "nesting"),
        (lambda _, nested: nested["paxmen"].update(paxmen_4a=[1]), "nesting"),
        (lambda _, nested: nested.clear(), "no evaluations"),
    ],
)
def test_evaluations_that_cannot_be_are_refused(change, problem, tmp_path, capsys, published):
    assert problem in refused(capsys, changed(tmp_path, published, change), "--out", tmp_path / "again")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xff", b"[1, 2]", b"5", b"NaN", b"9" * 5000])
@pytest.mark.parametrize("name", ["evaluations.json", "ratios.json", "labels.json", "diverged.json"])
def test_files_that_are_none_are_refused(name, content, tmp_path, capsys, published):
    path = changed(tmp_path, published, lambda run, nested: None)
    path.with_name(name).write_bytes(content)
    assert name in refused(capsys, path, "--out", tmp_path / "again")


@pytest.mark.parametrize(
    "line",
    [
        {"step": [1], "ratio_max": [math.nan], "ratio_min": [0.5]},
        {"step": [1, 2], "ratio_max": [1.0, 1.0], "ratio_min": [0.5]},
        {"step": [2, 1], "ratio_max": [1.0, 1.0], "ratio_min": [0.5, 0.5]},
        {"step": [], "ratio_max": [], "ratio_min": []},
        {"step": [1], "ratio_max": ["x"], "ratio_min": [0.5]},
        {"step": 1, "ratio_max": 1.0, "ratio_min": 0.5},
        {"step": [1]},
        [],
    ],
)
def test_ratios_that_cannot_be_are_refused(line, tmp_path, capsys, published):
    path = changed(tmp_path, published, lambda run, nested: None)
    path.with_name("ratios.json").write_text(json.dumps({"paxmen_4a": {"mars": {"run_10": line}}}))
    assert "ratios.json is no file of ratios" in refused(capsys, path, "--out", tmp_path / "again")


def test_an_infinite_ratio_is_json_and_read_again(tmp_path):
    line = {"step": [1.0], "ratio_max": [math.inf], "ratio_min": [0.0]}
    gather.save({"paxmen_4a": {"mars": {"run_0": line}}}, tmp_path / "ratios.json")
    json.loads((tmp_path / "ratios.json").read_text(), parse_constant=lambda word: 1 / 0)
    assert gather._read_ratios(tmp_path / "ratios.json")["paxmen_4a"]["mars"]["run_0"] == line


def test_tasks_and_methods_that_nobody_knows_are_told(tmp_path, capsys, published):
    def rename(run, nested):
        nested["paxmn"] = {"paxmen_4": {"marz": {"run_10": run}}}
        del nested["paxmen"]

    with methods.labelled({}):  # which forgets the guest
        plot.main([str(changed(tmp_path, published, rename)), "--out", str(tmp_path / "again")])
    said = capsys.readouterr().err
    assert "task 'paxmen_4' of environment 'paxmn' is not known here" in said
    assert "method 'marz' is not known here" in said


def test_what_was_found_by_looking_around_is_left_out_and_told_once(tmp_path, capsys):
    good = run_folder(tmp_path)
    for name, text in (("notes", "remark: 1"), ("list", "- 1"), ("odd", "{env: 5, seed: x}"), ("binary", "\0")):
        place = good.parent / name
        place.mkdir()
        (place / "config.yaml").write_text(text)
        (place / "metrics.jsonl").write_text("")
    for _ in range(2):
        assert [run.folder for run in saved.find_runs([tmp_path])] == [good]
    said = capsys.readouterr().err
    assert said.count("left out") == 4 and said.count("\n") == 4
    with pytest.raises(UsageError, match="is not of a run"):
        saved.find_runs([good.parent / "notes"])


def test_a_run_whose_evaluations_are_damaged_counts_as_cut_off(tmp_path):
    folder = run_folder(tmp_path)
    assert saved.open_run(folder).is_finished()
    (folder / "evaluations.json").write_text("{")
    assert not saved.open_run(folder).is_finished()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_json_is_json(content):
    json.loads(files.to_json(content), parse_constant=lambda word: 1 / 0)
