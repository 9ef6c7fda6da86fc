"""First weights, and policies and films on the way."""

import shutil

import pytest
import torch
from PIL import Image

import torch_mars
from torch_mars.algos import mars, maspo
from torch_mars.run import cli, files, finding, keeping
from torch_mars.teams import policies

SMALL = "--env connector_5x5x3a --num-envs 4 --rollout-length 16 --hidden-size 16 --eval-episodes 2 --device cpu"
STEPS = 64  # of one update with these settings


def arguments(run_dir, updates, *more):
    return [*SMALL.split(), "--run-dir", str(run_dir), "--total-steps", str(updates * STEPS), *map(str, more)]


def train(run_dir, updates, *more, module=mars):
    before = {path.parent for path in run_dir.glob("*/*/*/config.yaml")}
    assert module.main(arguments(run_dir, updates, *more)) == 0
    (folder,) = {path.parent for path in run_dir.glob("*/*/*/config.yaml")} - before
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two seeds, 5 updates, policies of steps 128, 256 and the end, films of 192 and the end."""
    more = ("--num-seeds", 2, "--seed", 4, "--eval-every", 2 * STEPS, "--keep-every", 100, "--film-every", 3 * STEPS)
    return train(tmp_path_factory.mktemp("runs"), 5, *more)


def test_policies_are_kept_as_they_were_then(run, tmp_path):
    kept = sorted((run / "policies").glob("*"), key=lambda path: int(path.stem.rpartition("_")[2]))
    assert [path.name for path in kept] == ["step_128.pt", "step_256.pt", "step_320.pt"]
    shorter = train(tmp_path, 2, "--num-seeds", 2, "--seed", 4, "--checkpoint-every", 1)
    then = files.load_checkpoint(shorter)["learner"]["actor"]
    found = files.load_checkpoint(kept[0])
    assert found["actor"].keys() == then.keys() and all(torch.equal(found["actor"][k], then[k]) for k in then)
    assert found["after_steps"] == 128
    for path, latest in zip(kept, (128, 256, 320)):
        returns = [r for step, r in mean_returns(run) if step == latest]
        assert files.load_checkpoint(path)["returns"].tolist() == pytest.approx(returns)


def mean_returns(run):
    import json

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], sum(r["episode_return"]) / 2) for r in lines if r["kind"] == "evaluation"]


def test_a_kept_policy_is_a_policy(run):
    trained = policies.read(run / "policies" / "step_256.pt")
    assert trained.what == "policy after 256 steps" and trained.seeds == [4, 5]
    policy = torch_mars.load_policy(run / "policies" / "step_256.pt")
    assert policy.training_seed in (4, 5)


def test_films_show_one_episode_of_the_first_seed(run):
    assert sorted(path.name for path in (run / "films").glob("*")) == ["step_192.gif", "step_320.gif"]
    with Image.open(run / "films" / "step_192.gif") as film:
        assert film.n_frames >= 2 and film.size[0] > 300


def test_a_film_is_of_the_policy_that_it_names(run):
    """The recorded episode is what the lesson's evaluation says of that seed's actor."""
    from torch_mars import envs

    trained = policies.read(run / "policies" / "step_320.pt")
    both = trained.actor(trained.make_env(1), [0, 1])
    for place in (0, 1):
        one = keeping.alone(both, place)
        assert all(torch.equal(w[0], both.state_dict()[n][place]) for n, w in one.state_dict().items())
        env = keeping.Recorder(envs.make(trained.task, 1, auto_reset=False))
        args = mars.Args(env=trained.task, num_seeds=1)
        found = mars.evaluate(env, one, [7], args)
        assert env.episode.ending and env.episode.infos[-1]["episode_return"] == found["episode_return"][0][0]
        assert len(env.episode.states) == env.episode.infos[-1]["episode_length"] + 1


def test_a_film_is_of_the_first_seed_that_has_not_diverged(tmp_path, monkeypatch):
    update, film, filmed = mars.update, keeping.film, []

    def spoilt(*given):
        found = update(*given)
        found["critic_loss"][0] = torch.nan
        return found

    def watched(path, title, args, actor, place, *more):
        filmed.append((title, place))
        film(path, title, args, actor, place, *more)

    monkeypatch.setattr(mars, "update", spoilt)
    monkeypatch.setattr(keeping, "film", watched)
    train(tmp_path, 1, "--num-seeds", 2, "--seed", 4, "--film-every", STEPS)
    assert filmed == [("MARS after 64 steps, seed 5", 1)]


def test_keeping_changes_nothing_that_is_learned(run, tmp_path):
    plain = train(tmp_path, 5, "--num-seeds", 2, "--seed", 4, "--eval-every", 2 * STEPS)
    one, other = (files.load_checkpoint(folder)["learner"]["actor"] for folder in (run, plain))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_film_that_cannot_be_drawn_ends_no_training(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ZeroDivisionError("no pen")

    monkeypatch.setattr(keeping.films, "write", fail)
    folder = train(tmp_path, 2, "--film-every", STEPS)
    assert (folder / "policy.pt").exists() and capsys.readouterr().err.count("note: no film after update") == 2


# ---- first weights ----


def starts(path, tmp_path, *more, module=mars):
    """The actor and critic with which a run begins: after one update with learning rates of nearly nothing."""
    still = ("--actor-lr", 1e-30, "--critic-lr", 1e-30, "--checkpoint-every", 1)
    folder = train(tmp_path, 1, "--start-from", path, *still, *more, module=module)
    learner = files.load_checkpoint(folder)["learner"]
    return learner["actor"], learner["critic"]


def test_a_run_starts_from_a_policy_seed_by_seed(run, tmp_path, capsys):
    actor, critic = starts(run / "policies" / "step_128.pt", tmp_path, "--num-seeds", 2, module=maspo)
    kept = files.load_checkpoint(run / "policies" / "step_128.pt")["actor"]
    assert all(torch.equal(actor[name], kept[name]) for name in kept)
    assert "starts from  actor of" in capsys.readouterr().out
    fresh = files.load_checkpoint(run)["learner"]["critic"]
    assert not torch.equal(critic["head.weight"], fresh["head.weight"])


def test_with_another_number_of_seeds_all_start_from_the_best(run, tmp_path, capsys):
    path = tmp_path / "chosen.pt"
    content = files.load_checkpoint(run / "policies" / "step_256.pt")
    files.save_checkpoint(path, {**content, "returns": torch.tensor([1.0, 2.0])})
    actor, _ = starts(path, tmp_path, "--num-seeds", 3)
    assert all(torch.equal(actor[n], w[1:].expand_as(actor[n])) for n, w in content["actor"].items())
    assert "chosen.pt, the best of 2 seeds; critic begins anew" in capsys.readouterr().out


def test_a_checkpoint_brings_its_critic_and_a_run_its_best_policy(run, tmp_path):
    content = files.load_checkpoint(run)
    actor, critic = starts(run / "checkpoint.pt", tmp_path / "a", "--num-seeds", 2)
    assert torch.equal(actor["network.head.weight"], content["learner"]["actor"]["network.head.weight"])
    assert torch.equal(critic["head.weight"], content["learner"]["critic"]["head.weight"])
    actor, _ = starts(run, tmp_path / "b", "--num-seeds", 2)
    best = files.load_checkpoint(run / "policy.pt")["actor"]
    assert torch.equal(actor["network.head.weight"], best["network.head.weight"])


def test_an_installed_team_is_begun_with_by_its_task(tmp_path):
    actor, _ = starts("connector_5x5x3a", tmp_path, "--hidden-size", 128)
    team = files.load_checkpoint(finding.TEAMS / "connector_5x5x3a.pt")["actor"]
    assert all(torch.equal(actor[name], team[name]) for name in team)


def test_a_folder_of_runs_is_no_run_to_go_on_with(run, tmp_path, capsys):
    folder = tmp_path / "runs/connector_5x5x3a/mars/a"
    shutil.copytree(run, folder)
    for path, sentence in (
        (tmp_path / "runs", f"--resume: {tmp_path / 'runs'} is not a run, but holds 1; the latest is {folder}"),
        (folder.with_name("b"), f"--resume: no run or checkpoint at {folder.with_name('b')}"),
        (tmp_path / "run", f"no run or checkpoint at {tmp_path / 'run'}; did you mean {tmp_path / 'runs'}?"),
    ):
        with pytest.raises(SystemExit):
            mars.main(["--resume", str(path)])
        assert sentence in capsys.readouterr().err


def test_of_a_run_that_went_on_the_best_policy_so_far_is_taken(run, tmp_path):
    """As `evaluate` and `play` do; and files of a lesson that keeps other things are one sentence."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("total_steps: 320", "total_steps: 640"))  # as if cut while going on
    content = files.load_checkpoint(folder)
    best = {**content["best"], "weights": {n: w + 1 for n, w in content["best"]["weights"].items()}}
    files.save_checkpoint(folder / "checkpoint.pt", {**content, "best": best})
    expected = policies.read(folder).weights
    actor, _ = starts(folder, tmp_path, "--num-seeds", 2)
    assert all(torch.equal(actor[name], expected[name]) for name in actor)
    for change in ({"best": {}}, {"learner": {"actor": {}}}, {"learner": {"actor": {"x": torch.tensor(1.0)}}}):
        files.save_checkpoint(tmp_path / "odd.pt", {**content, **change})
        try:
            mars.main(arguments(tmp_path / "odd", 1, "--start-from", tmp_path / "odd.pt", "--num-seeds", 2))
        except cli.UsageError as error:
            assert "--start-from" in str(error) and "best" not in change
        else:
            assert "best" in change


def test_a_resumed_run_does_not_start_again(run, tmp_path):
    source = tmp_path / "source.pt"
    shutil.copy(run / "policy.pt", source)
    folder = train(tmp_path, 2, "--start-from", source)
    source.unlink()  # it is not needed any more
    before = files.load_checkpoint(folder)["learner"]["actor"]["network.head.weight"]
    resumed = ["--resume", str(folder), "--total-steps", str(3 * STEPS)]
    assert mars.main(resumed) == 0
    whole = train(tmp_path / "whole", 3, "--start-from", run / "policy.pt", "--eval-every", STEPS)
    again = files.load_checkpoint(folder)["learner"]["actor"]["network.head.weight"]
    assert not torch.equal(again, before)
    assert torch.equal(again, files.load_checkpoint(whole)["learner"]["actor"]["network.head.weight"])


def test_what_does_not_fit_is_one_sentence(run, tmp_path, capsys):
    other = arguments(tmp_path, 1, "--start-from", run / "policy.pt")
    for argv, sentence in [
        ([*other, "--hidden-size", "8"], "its network.hidden_1.weight is [16, 57], this run's [8, 57]; task, options"),
        ([*other, "--env", "simple_spread_3ag"], "does not fit: its log_std is none, this run's [5]; task, options"),
        (arguments(tmp_path, 1, "--start-from", "nowhere"), "--start-from: no run or checkpoint at nowhere"),
        (arguments(tmp_path, 1, "--start-from", run / "config.yaml"), "is no checkpoint of torch_mars, or is damaged"),
    ]:
        with pytest.raises(cli.UsageError) as error:
            mars.main(argv)
        assert sentence in str(error.value)
    assert not list(tmp_path.glob("*/*/*/config.yaml"))  # no run was begun


def test_a_place_where_policies_cannot_be_kept_is_one_sentence(tmp_path):
    folder = train(tmp_path, 1)
    (folder / "policies").touch()
    with pytest.raises(cli.RunError) as error:
        mars.main(["--resume", str(folder), "--total-steps", str(2 * STEPS), "--keep-every", str(STEPS)])
    assert "--keep-every: cannot write to" in str(error.value) and "policies: File exists" in str(error.value)


def test_lessons_that_were_copied_before_say_what_they_lack(run, tmp_path, monkeypatch):
    monkeypatch.setattr(mars.record.Run, "keep", lambda *_: None)
    for flag in ("--keep-every", "--film-every"):
        with pytest.raises(cli.UsageError, match=f"{flag}: lesson mars does not call run.keep"):
            mars.main(arguments(tmp_path, 2, flag, 64))
        assert not list(tmp_path.iterdir())
    monkeypatch.setattr(mars.record.Run, "start_from", lambda *_, **__: None)
    with pytest.raises(cli.UsageError, match="--start-from: lesson mars does not call run.start_from"):
        mars.main(arguments(tmp_path, 1, "--start-from", run / "policy.pt"))
