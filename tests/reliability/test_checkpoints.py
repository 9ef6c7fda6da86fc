"""Checkpoints and policies from anywhere: what is damaged or does not fit is refused before anything is changed."""

import copy
import random
import shutil

import pytest
import torch
from faults import STEPS, TINY, assert_same
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_mars
from torch_mars.algos import mars
from torch_mars.run import files
from torch_mars.run.cli import RunError, UsageError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    line = [*TINY.split(), "--total-steps", str(2 * STEPS), "--run-dir", str(place), "--num-seeds", "2"]
    assert mars.main(line) == 0
    (folder,) = place.glob("*/*/*")
    return folder


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(folder, capsys):
    """The one sentence with which a resume refuses; nothing may have changed in the folder."""
    before = everything(folder)
    try:
        assert mars.main(["--resume", str(folder), "--total-steps", str(4 * STEPS)]) == 2
    except SystemExit as stopped:
        assert stopped.code == 2
        said = capsys.readouterr().err
    except (UsageError, RunError) as error:
        said = f"{error}\n"
    assert said.count("\n") == 1 and len(said) < 1200, said
    assert everything(folder) == before
    return said


# ---- bytes ----


@pytest.mark.parametrize("name", ["checkpoint.pt", "policy.pt"])
def test_every_changed_byte_is_found(name, run, tmp_path):
    content = bytearray((run / name).read_bytes())
    chance, path = random.Random(0), tmp_path / name
    end = len(content) - len(files._CHECKSUM) - 64
    for place in (*chance.sample(range(end), 150), 0, 1, end - 1):
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        with pytest.raises(UsageError, match="damaged or truncated"):
            files.load_checkpoint(path)
        content[place] = (run / name).read_bytes()[place]


@pytest.mark.parametrize("name", ["checkpoint.pt", "policy.pt"])
def test_a_changed_byte_of_an_older_file_is_found_or_does_not_matter(name, run, tmp_path):
    """Files of the version before have the checksums of a zip's records only."""
    content = bytearray((run / name).read_bytes()[: -len(files._CHECKSUM) - 64])
    whole = files.load_checkpoint(run / name)
    chance, path, found = random.Random(0), tmp_path / name, 0
    for place in chance.sample(range(len(content)), 150):
        old, content[place] = content[place], content[place] ^ (1 << chance.randrange(8))
        path.write_bytes(content)
        try:
            assert_same(files.load_checkpoint(path), whole)
        except UsageError:
            found += 1
        content[place] = old
    assert found > 50


def test_a_checksum_is_no_hindrance_to_other_readers(run):
    content = torch.load(run / "policy.pt", weights_only=True)
    assert content["algorithm"] == "mars"


# ---- content ----

NAN = torch.tensor(float("nan"))
CHANGES = [
    ("update", -5, "it counts -5"),
    ("update", "2", "update is a str"),
    ("update", 2**70, "it counts 1180591620717411303424"),
    ("update", None, "update is a NoneType"),
    ("seconds", float("nan"), "seconds is nan"),
    ("seconds", -1.0, "seconds is -1.0"),
    ("seconds", KeyError, "seconds is missing"),
    ("task", "paxmen_5a", "is of task paxmen_5a, not of paxmen_4a"),
    ("task", ["paxmen_4a"], "task is a list"),
    ("task", "x" * 5000, "is of task xxxx"),
    ("algorithm", 5, "algorithm is a int"),
    ("algorithm", KeyError, "algorithm is missing"),
    ("metrics", {"lines": "many"}, "it counts many"),
    ("metrics", [1], "metrics is a list"),
    ("diverged", {"a": 1}, "it counts a"),
    ("learner", KeyError, "'learner' is missing"),
    ("learner", [], "learner is a list"),
    ("learner.key", torch.zeros(3, dtype=torch.int64), "learner.key is int64 [3]; it must be int64 [2]"),
    ("learner.key", torch.zeros(2), "learner.key is float32 [2]; it must be int64 [2]"),
    ("learner.actor", {}, "is missing"),
    ("learner.actor.network.head.weight", NAN, "learner.actor.network.head.weight is not finite"),
    ("learner.actor.network.head.weight", KeyError, "learner.actor.network.head.weight is missing"),
    ("learner.actor.network.head.weight", torch.zeros(2, 5, 9), "it must be float32 [2, 5, 8]"),
    ("learner.actor.network.head.weight", torch.zeros(2, 5, 8).double(), "is float64 [2, 5, 8]"),
    ("learner.actor.network.head.weight", torch.zeros(2, 5, 8).to_sparse(), "no ordinary tensor"),
    ("learner.actor.network.head.weight", [1.0], "is a list, not a tensor"),
    ("learner.actor.more", torch.zeros(2), "learner.actor.more is unknown"),
    ("learner.actor_optimizer", KeyError, "learner.actor_optimizer is missing"),
    ("learner.actor_optimizer", {"state": {}}, "'param_groups' is missing"),
    ("learner.actor_optimizer.state.0", KeyError, "the optimizer knows 5 parameters; it must be 6"),
    ("learner.actor_optimizer.state.0.exp_avg", torch.zeros(1), "exp_avg of the optimizer is torch.float32 [1], not"),
    ("learner.actor_optimizer.state.0.exp_avg_sq", -torch.ones(2, 8, 29), "exp_avg_sq of the optimizer is"),
    ("learner.actor_optimizer.state.0.step", torch.zeros(7), "step of the optimizer is"),
    ("learner.critic_optimizer.param_groups.0.lr", 1e30, "lr of the optimizer is 1e+30"),
    ("learner.critic_optimizer.param_groups", [], "not enough values"),
    ("env", KeyError, "'env' is missing"),
    ("env.step", torch.zeros(3, dtype=torch.int64), "env.step is int64 [3]; it must be int64 [4]"),
    ("env.surprise", torch.zeros(4), "env.surprise is unknown"),
    ("env.totals", torch.full((4, 4), float("nan")), "totals"),
    ("best", {}, "is missing"),
    ("best.returns", torch.full((2,), float("nan")), "best.returns is not finite"),
    ("best.returns", torch.zeros(3), "best.returns is float32 [3]; it must be float32 [2]"),
    ("surprise", object, "damaged or truncated"),
    (
        "surprise",
        {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"j": {"k": {"l": {"m": 1}}}}}}}}}}}}},
        "nested",
    ),
]


def change(content, place, value):
    *above, last = place.split(".") if "network" not in place else _with_dots(place)
    for name in above:
        content = content[int(name) if name.isdigit() else name]
    last = int(last) if last.isdigit() else last
    if value is KeyError:
        del content[last]
    else:
        content[last] = value


def _with_dots(place):
    """Names of weights have dots of their own."""
    before, _, weight = place.partition(".network")
    return [*before.split("."), "network" + weight]


@pytest.mark.parametrize("place, value, problem", CHANGES)
def test_a_checkpoint_that_does_not_fit_is_refused_and_nothing_changed(place, value, problem, copied, capsys):
    content = files.load_checkpoint(copied)
    change(content, place, value)
    torch.save(content, copied / "checkpoint.pt")
    assert problem in refusal(copied, capsys)


@pytest.mark.parametrize(
    "change, problem",
    [
        (("hidden_size: 8", "hidden_size: 16"), "does not fit the run's config.yaml"),
        (("num_envs: 2", "num_envs: 4"), "env.rng is int64 [4]; it must be int64 [8]"),
        (("num_seeds: 2", "num_seeds: 1"), "does not fit"),
        (("env: paxmen_4a", "env: paxmen_6a"), "of task paxmen_4a, not of paxmen_6a"),
        (("env: paxmen_4a", "env: chess"), "chess"),
        (("env: paxmen_4a", "nothing: 1"), "nothing"),
        (("env: paxmen_4a\n", ""), "env"),
        (("actor_lr:", "actor_lr: 3 #"), "lr of the optimizer is"),
        (("seed: 0", "seed: -1"), "--seed is -1"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_and_nothing_changed(change, problem, copied, capsys):
    text = (copied / "config.yaml").read_text()
    assert change[0] in text
    (copied / "config.yaml").write_text(text.replace(*change, 1))
    assert problem in refusal(copied, capsys)


@pytest.mark.parametrize("content", ["", "[]", "{}", "\0", "a: &a [*a, *a]", "- " * 10_000, "é".encode("latin-1")])
def test_a_config_that_is_none_is_refused(content, copied, capsys):
    (copied / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refusal(copied, capsys)


def test_a_missing_config_or_a_pipe_in_its_place_is_refused(copied, capsys):
    import os

    (copied / "config.yaml").unlink()
    assert "config.yaml" in refusal(copied, capsys)
    (copied / "checkpoint.pt").unlink()
    os.mkfifo(copied / "checkpoint.pt")
    with pytest.raises(UsageError, match="not a file"):
        files.load_checkpoint(copied)


@pytest.mark.parametrize(
    "place, value",
    [
        ("actor.network.head.bias", torch.full((2, 1, 5), float("inf"))),
        ("actor.network.head.bias", torch.zeros(2, 1, 5).double()),
        ("actor.network.head.bias", torch.zeros(2, 1, 6)),
        ("returns", torch.full((2,), float("nan"))),
        ("returns", 5),
        ("settings.seed", "zero"),
        ("settings.hidden_size", 10**9),
        ("settings.env_options", [1]),
        ("settings.env_options", {"max_steps": -1}),
        ("settings", None),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(place, value, run, tmp_path):
    content = files.load_checkpoint(run / "policy.pt")
    change(content, place, value)
    torch.save(content, tmp_path / "policy.pt")
    with pytest.raises(UsageError) as refused:
        torch_mars.load_policy(tmp_path / "policy.pt")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


# ---- any change ----


def places(content, above=()):
    if isinstance(content, dict):
        for name, value in content.items():
            yield (*above, name)
            yield from places(value, (*above, name))
    elif isinstance(content, (list, tuple)):
        for i, value in enumerate(content):
            yield from places(value, (*above, i))


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just([]), st.just({}),
    st.builds(
        lambda shape, dtype, fill: torch.full(shape, fill).to(dtype),
        st.lists(st.integers(0, 5), max_size=3),
        st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64]),
        st.sampled_from([0.0, 1.0, -1.0, 1e30, float("nan"), float("inf")]),
    ),
)  # fmt: skip


def odd_checkpoint(run, data, tmp):
    """One thing in a checkpoint is another; a resume refuses it in one sentence, or trains on."""
    content = copy.deepcopy(files.load_checkpoint(run))
    place = data.draw(st.sampled_from(list(places(content))))
    holder = content
    for name in place[:-1]:
        holder = holder[name]
    if isinstance(holder, tuple):
        return
    holder[place[-1]] = data.draw(ODD)
    torch.save(content, tmp / "checkpoint.pt")
    before = everything(tmp)
    try:
        assert mars.main(["--resume", str(tmp), "--total-steps", str(3 * STEPS)]) == 0
        shutil.rmtree(tmp)
        shutil.copytree(run, tmp)
    except SystemExit as stopped:
        assert stopped.code == 2 and everything(tmp) == before
    except (UsageError, RunError) as error:
        assert "\n" not in str(error) and (everything(tmp) == before or "training stopped" in str(error))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(data=st.data())
def test_whatever_a_checkpoint_holds_is_refused_or_works(run, tmp_path_factory, data):
    odd_checkpoint(run, data, shutil.copytree(run, tmp_path_factory.mktemp("odd") / "run"))


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=1500)
@given(data=st.data())
def test_whatever_a_checkpoint_holds_for_long(run, tmp_path_factory, data):
    odd_checkpoint(run, data, shutil.copytree(run, tmp_path_factory.mktemp("odd") / "run"))
