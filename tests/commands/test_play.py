"""`python -m torch_mars.play`: what is written can be read back, what is shown is what happened, and refusals."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from task_lists import LATER, ONE_EACH
from toy_environments import Toy, register_toys

import torch_mars.envs as envs
from torch_mars import evaluate, play
from torch_mars.envs.core import fields_of
from torch_mars.envs.paxmen.task import TASKS as paxmen_tasks
from torch_mars.run import film, finding
from torch_mars.teams import policies

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    register_toys()


@pytest.fixture
def short_tasks(monkeypatch):
    """Episodes of 4 steps."""
    for task in ("paxmen_4a", "paxmen_5a"):
        monkeypatch.setitem(paxmen_tasks, task, {**paxmen_tasks[task], "max_steps": 4})


@pytest.fixture
def written(monkeypatch):
    """All texts that pictures get."""
    texts, original = [], ImageDraw.ImageDraw.text

    def text(self, place, content, *args, **kwargs):
        texts.append(content)
        return original(self, place, content, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


def at_random(env, ts, memory):
    return env.sample_actions(), None


def an_episode(task, **options):
    """A Stage and a random team's finished Episode on it."""
    env = envs.make(task, seed=1, auto_reset=False, **options)
    *_, episode = film.play(env, at_random, 1)
    return film.Stage(env, task, "random team", 1), episode


# ---- episodes ----


def test_an_episode_holds_what_happened_until_its_end(tiny_run):
    playing = play.team(str(tiny_run), seed=2, greedy=True, policy_seed=8)
    env = playing.make_env(1)
    assert (playing.task, playing.who) == ("paxmen_5a", "MARS, best policy, seed 8")
    lengths = []
    for number in (1, 2):
        for episode in film.play(env, playing.act, number):
            lengths.append(len(episode.states))
        assert episode.ending == "time limit" and episode.last == 6
        assert len(episode.obs) == len(episode.rewards) == len(episode.infos) == 7
        assert episode.infos[-1]["episode_return"] == pytest.approx(sum(episode.rewards))
        assert [int(state.step) for state in episode.states] == list(range(7))
    assert lengths == [*range(1, 8)] * 2

    batched = envs.make("paxmen_5a", seed=2, max_steps=6)
    obs = batched.reset().obs
    playing = play.team(str(tiny_run), seed=2, greedy=True, policy_seed=8)
    *_, episode = film.play(playing.make_env(1), playing.act, 1)
    policy = policies.load_policy(tiny_run, greedy=True, policy_seed=8)
    for seen in episode.obs[:-1]:
        assert torch.equal(seen, obs[0])
        obs = batched.step(policy(obs)).obs


def test_an_end_by_the_rules_is_told():
    _, episode = an_episode("toy_masked", goal=3.0)
    assert episode.ending == "by the rules" and 1 <= episode.last < 20


# ---- which episodes ----


@pytest.mark.parametrize(
    "count, wanted, which, expected",
    [
        (320, 1, "typical", [160]),
        (64, 1, "typical", [32]),
        (65, 1, "typical", [33]),
        (64, 2, "typical", [16, 48]),
        (64, 3, "typical", [11, 32, 54]),
        (4, 4, "typical", [1, 2, 3, 4]),
        (64, 3, "best", [1, 2, 3]),
        (64, 3, "worst", [64, 63, 62]),
    ],
)
def test_ranks(count, wanted, which, expected):
    assert play.ranks(count, wanted, which) == expected


def test_ordinals():
    numbers = (1, 2, 3, 4, 10, 11, 12, 13, 21, 101, 111, 112, 122)
    expected = "1st 2nd 3rd 4th 10th 11th 12th 13th 21st 101st 111th 112th 122nd"
    assert " ".join(map(play.ordinal, numbers)) == expected


@pytest.mark.parametrize("task", [*ONE_EACH, "toy_masked", "toy_continuous", *LATER])
def test_an_episode_of_a_batch_is_played_again_to_the_bit(task):
    """Every State of it, beside those of the whole batch, in which nobody is left out; and what it brought."""
    options = {"goal": 12.0} if task.startswith("toy") else {"max_steps": 15}  # toys end by the rules, one by one

    def make(count):
        return envs.make(task, count, seed=3, auto_reset=False, **options)

    recording = film.record(make(5), at_random)
    states, env = [], make(5)
    env.load_state(recording.start)
    for actions in recording.actions:
        states.append(env.state)
        env.step(actions)
    for row in (0, 4):
        *_, episode = recording.replay(make(1), row, 1, "")
        assert episode.infos[-1]["episode_return"] == recording.returns[row]
        for t, state in enumerate(episode.states[:-1]):
            for name, value in fields_of(state).items():
                assert torch.equal(value[0].nan_to_num(), fields_of(states[t])[name][row].nan_to_num()), (row, t, name)


def test_episodes_are_recorded_whatever_floats_are_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        recording = film.record(envs.make("smax_2s3z", 2, seed=3, auto_reset=False, max_steps=5), at_random)
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(recording.returns) == 2


def test_an_environment_that_says_what_a_resume_does_is_played_again_too(monkeypatch):
    monkeypatch.setattr(envs.environment_class("connector_5x5x3a"), "resume_note", "new ones begin")
    recording = film.record(envs.make("connector_5x5x3a", 6, seed=3, auto_reset=False), at_random)
    for row in range(6):
        again = recording.replay(envs.make("connector_5x5x3a", 1, seed=9, auto_reset=False), row, 1, "")
        *_, episode = again
        assert episode.infos[-1]["episode_return"] == recording.returns[row]


def test_what_is_recorded_is_what_a_policy_does_in_the_batch(tiny_run):
    """Against an ordinary loop over a batch that restarts."""
    playing = play.team(str(tiny_run), seed=4, greedy=True)
    recording = film.record(playing.make_env(6), playing.act)
    policy, env = policies.load_policy(tiny_run, greedy=True), envs.make("paxmen_5a", 6, seed=4, max_steps=6)
    ts = env.reset()
    for _ in range(6):
        ts = env.step(policy(ts.obs))
    assert recording.returns == ts.info["episode_return"].tolist() and len(recording.actions) == 6
    order = recording.ranked()
    assert sorted(order) == list(range(6))
    assert [recording.returns[row] for row in order] == sorted(recording.returns, reverse=True)


def test_returns_that_are_no_numbers_rank_last():
    recording = film.Recording(None, [], [1.0, float("nan"), 2.0, -float("inf"), 0.5])
    assert recording.ranked()[:3] == [2, 0, 4]


class Lonely(Toy):
    """Rules that break the promise: what is paid depends on how many environments there are."""

    has_shared_reward = True

    def transition(self, state, actions):
        state, gain, over, metrics = super().transition(state, actions)
        return state, gain.mean(1, keepdim=True).expand_as(gain) + len(state.step), over, metrics


def test_an_episode_that_comes_out_otherwise_alone_is_told(tmp_path, capsys):
    envs.register("lonely", Lonely)
    assert play.main(["lonely", "--random", "--out", "sheet.png"]) == 0
    assert "note: alone, this episode has the return" in capsys.readouterr().err


def test_the_median_is_shown_and_its_rank_named(tiny_run, capsys, written):
    assert play.main([str(tiny_run), "--out", "sheet.png"]) == 0
    said = capsys.readouterr().out.splitlines()
    recording = film.record(play.team(str(tiny_run)).make_env(64), play.team(str(tiny_run)).act)
    returns = sorted(recording.returns, reverse=True)
    assert said[1] == f"64 episodes played, returns from {returns[-1]:+.2f} to {returns[0]:+.2f}"
    assert said[2].startswith(f"episode 1: return {returns[31]:+.2f} (32nd of 64) after 6 steps (time limit)")
    assert "32nd of 64 by return" in written
    for flag, rank, place in (("--best", 0, "1st"), ("--worst", 63, "64th")):
        assert play.main([str(tiny_run), "--out", "sheet.png", flag]) == 0
        assert f"episode 1: return {returns[rank]:+.2f} ({place} of 64)" in capsys.readouterr().out
    assert play.main([str(tiny_run), "--out", "sheet.png", "--episodes", "2"]) == 0
    said = capsys.readouterr().out
    assert f"episode 1: return {returns[15]:+.2f} (16th of 64)" in said
    assert f"episode 2: return {returns[47]:+.2f} (48th of 64)" in said and "episode 2 of 2, 48th of 64" in written


def test_a_seed_plays_its_own_episodes(tiny_run, capsys):
    assert play.main([str(tiny_run), "--out", "sheet.png", "--seed", "3", "--episodes", "2"]) == 0
    said = capsys.readouterr().out
    playing = play.team(str(tiny_run), seed=3)
    env = playing.make_env(1)
    for number in (1, 2):
        *_, episode = film.play(env, playing.act, number)
        assert f"episode {number}: return {episode.infos[-1]['episode_return']:+.2f} after 6 steps" in said
    assert "of 64" not in said
    with pytest.raises(SystemExit):
        play.main([str(tiny_run), "--seed", "3", "--best"])
    assert "--best: not allowed with argument --seed" in capsys.readouterr().err


# ---- pictures ----


@pytest.mark.parametrize("task", [*ONE_EACH, "toy_masked", *LATER])
def test_every_task_makes_pictures_of_one_size(task):
    stage, episode = an_episode(task, max_steps=3)
    pictures = [stage.picture(episode, t) for t in (0, episode.last)]
    height, width, _ = pictures[0].shape
    assert pictures[1].shape == (height, width, 3) and pictures[0].dtype == np.uint8
    assert height % 2 == 0 and width % 2 == 0 and (pictures[0] != pictures[1]).any()
    scene = stage.env.draw(episode.states[-1], 0, trail=episode.states[: episode.last])
    np.testing.assert_array_equal(pictures[1][film.HEADER : film.HEADER + len(scene), : scene.shape[1]], scene)


def test_return_reward_metrics_and_views_are_in_the_picture(written):
    stage, episode = an_episode("paxmen_4a", max_steps=3)
    episode.infos[2] |= {"episode_return": 4.75, "dots_eaten": 5.0, "boards_cleared": 1.0}
    episode.rewards[2] = 0.875
    stage.picture(episode, 2)
    for text in ("paxmen_4a", "random team", "episode 1 of 1", "+4.75", "+0.875", "reward of step 2"):
        assert text in written
    assert written[written.index("dots eaten") + 1] == "5"
    assert {"what each agent sees", "agent_0", "agent_3"} <= set(written)
    assert "agent_4" not in written and not any("over" in text for text in written)
    stage.picture(episode, 3)
    assert "episode 1 of 1, over: time limit" in written


def test_aerojax_tells_time_the_living_and_kills(written):
    env = envs.make("aerojax_3v3")
    env.reset()
    fields = env.state_dict()
    sums = [name for name, kind in env.metrics.items() if kind == "sum"]
    fields["totals"][0, 1 + sums.index("episode_kills")] = 2
    fields["totals"][0, 1 + sums.index("episode_losses")] = 1
    fields["step"][0] = 50
    env.load_state(fields)
    env.draw(env.state)
    assert re.split("  +", written[-1])[:5] == ["10.0 s", "allies 3 / 3", "enemies 3 / 3", "kills 2", "shot down 1"]


def test_a_paxmen_view_shows_its_25_numbers():
    env = envs.make("paxmen_4a")
    obs = torch.zeros(25)
    obs[0], obs[7], obs[13] = -1, 1, 0.1
    picture = env.draw_observation(obs, 2)
    cell = len(picture) // 5

    def colour(place):
        row, col = divmod(place, 5)
        return tuple(picture[row * cell + cell // 2, col * cell + cell // 2].tolist())

    assert len({colour(place) for place in (0, 1, 7, 12, 13)}) == 5
    assert colour(1) == colour(24) and colour(12) == (0, 158, 115)  # floor; the agent itself in its own colour
    assert (env.draw_observation(obs, 1) != picture).any()


def test_an_aerojax_view_shows_who_is_known_and_nothing_of_the_lost():
    env = envs.make("aerojax_2v2")
    obs = env.reset().obs[0, 0].clone()
    obs[18:] = 0
    alone = env.draw_observation(obs, 0)
    obs[18:30] = torch.tensor([-1, 0.5, 0.5, 0, 0.7, 1, 0, 0, 0, 1, 0, 0])  # an enemy ahead, to the right
    enemy = env.draw_observation(obs, 0)
    where = np.argwhere((alone != enemy).any(-1)).mean(0) / len(enemy)
    assert where == pytest.approx([0.5 - 0.15, 0.5 + 0.15], abs=0.03)  # 600 m of 2,000 m to the rim
    obs[29] = 1.0  # locked
    assert (env.draw_observation(obs, 0) != enemy).any()
    obs[:] = 0
    lost = env.draw_observation(obs, 0)
    assert len(np.unique(lost.reshape(-1, 3), axis=0)) < len(np.unique(alone.reshape(-1, 3), axis=0))


@pytest.mark.parametrize("views", [0, 2, 5, 8, 16, 40])
@pytest.mark.parametrize("scene", [(542, 516), (542, 1024), (8, 12), (300, 300)])
def test_views_overlap_neither_each_other_nor_the_edge(views, scene):
    frame = film._Frame(*scene, 350, views)
    taken = np.zeros((frame.height, frame.width), int)
    taken[film.HEADER : film.HEADER + scene[0], : scene[1]] += 1
    taken[film.HEADER : film.HEADER + 350, scene[1] :] += 1
    for i in range(views):
        x, y = frame.view(i)
        assert frame.view_side >= 24 and x + frame.view_side <= frame.width and y + frame.view_side <= frame.height
        taken[y : y + frame.view_side, x : x + frame.view_side] += 1
    assert taken.max() == 1


# ---- files ----


def test_a_gif_holds_every_picture(tiny_run, tmp_path, capsys):
    assert play.main([str(tiny_run), "--out", "team.gif", "--episodes", "2", "--fps", "5"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "paxmen_5a: MARS, best policy, seed 7" or said[0] == "paxmen_5a: MARS, best policy, seed 8"
    assert re.match(r"episode 2: return [+-]\d\.\d\d \(48th of 64\) after 6 steps \(time limit\)", said[3])
    assert said[4].startswith("wrote team.gif (")
    playing = play.team(str(tiny_run))
    env = playing.make_env(1)
    stage = film.Stage(env, playing.task, playing.who, 2)
    episodes = [[*moments][-1] for moments in play.ranked_episodes(playing, env, 2, "typical")]
    with Image.open("team.gif") as image:
        assert image.n_frames == 14
        for i, (episode, t) in enumerate((e, t) for e in episodes for t in range(7)):
            image.seek(i)
            assert image.info["duration"] == (200 if t < 6 else 1500)
            error = np.abs(np.asarray(image.convert("RGB")).astype(int) - stage.picture(episode, t))
            assert error.max() < 70 and error.mean() < 5, f"picture {i}"  # 255 colours
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("fps", [30, 40, 45])
def test_a_gif_is_as_fast_as_asked(tiny_run, fps):
    assert play.main([str(tiny_run), "--out", "team.gif", "--fps", str(fps)]) == 0
    with Image.open("team.gif") as image:
        durations = []
        for i in range(6):
            image.seek(i)
            durations.append(image.info["duration"])
    assert abs(sum(durations) - 6000 / fps) <= 5  # in hundredths of a second


def test_a_gif_decodes_to_the_very_colours_of_its_palette():
    draw = np.random.default_rng(0)
    first = draw.choice(np.array([0, 80, 160, 240], np.uint8), (12, 17, 1)).repeat(3, 2)
    second = first.copy()
    second[3:5, 6:9] = (250, 10, 10)
    pictures = [first, second, second, first]
    content = film._gif(iter(pictures), film._palette(pictures), [100, 100, 100, 200])
    Path("film.gif").write_bytes(content)
    with Image.open("film.gif") as image:
        for i, picture in enumerate(pictures):
            image.seek(i)
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - picture).max() < 8, i


@pytest.fixture
def teams(monkeypatch, tmp_path):
    """The folder of installed teams, empty."""
    folder = tmp_path / "teams"
    folder.mkdir()
    monkeypatch.setattr(finding, "TEAMS", folder)
    return folder


def test_a_task_alone_films_the_team_that_is_installed_for_it(short_tasks, teams, tiny_run, tmp_path, capsys):
    shutil.copy(tiny_run / "policy.pt", teams / "paxmen_5a.pt")
    assert play.main(["paxmen_5a"]) == 0
    said = capsys.readouterr().out
    assert "paxmen_5a: MARS, best policy, seed " in said and "wrote paxmen_5a-mars.gif" in said
    assert play.main(["paxmen_5a", "--random"]) == 0
    said = capsys.readouterr().out
    assert "paxmen_5a: random team" in said and "wrote paxmen_5a.gif" in said
    with Image.open(tmp_path / "paxmen_5a.gif") as image:
        assert image.n_frames == 5


def test_any_task_that_can_be_made_has_a_random_team(teams, tmp_path, capsys, monkeypatch):
    (tmp_path / "jaxnav_5x5x1a").mkdir()  # without a run in it
    assert play.main(["jaxnav_5x5x1a", "--out", "sheet.png"]) == 0
    assert "jaxnav_5x5x1a: random team" in capsys.readouterr().out


def test_without_an_installed_team_a_random_one_is_filmed(short_tasks, teams, tmp_path, capsys):
    assert play.main(["paxmen_5a"]) == 0
    assert "paxmen_5a: random team" in capsys.readouterr().out
    with pytest.raises(play.UsageError, match="--greedy is about a trained policy, not for paxmen_5a, for which no"):
        play.main(["paxmen_5a", "--greedy"])
    assert play.main(["paxmen_4a", "--out", "Sheet.PNG"]) == 0
    with Image.open(tmp_path / "Sheet.PNG") as image:
        stage, episode = an_episode("paxmen_4a")
        height, width, _ = stage.picture(episode, 0).shape
        assert image.size == (3 * width, 2 * height)  # five moments


def test_an_mp4_holds_every_picture(short_tasks, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="extra [video]")
    assert play.main(["paxmen_4a", "--out", "team.mp4", "--fps", "4"]) == 0
    reader = imageio_ffmpeg.read_frames("team.mp4")
    meta = next(reader)
    frames = [np.frombuffer(frame, np.uint8) for frame in reader]
    stage, episode = an_episode("paxmen_4a")
    height, width, _ = stage.picture(episode, 0).shape
    assert meta["size"] == (width, height) and meta["fps"] == 4
    assert len(frames) == 4 + 6  # the last one stays for 1.5 seconds
    assert [path.name for path in tmp_path.iterdir()] == ["team.mp4"]


def test_an_mp4_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(film.UsageError, match=r'pip install "torch_mars\[video\]", or write a .gif'):
        play.main(["paxmen_4a", "--out", "team.mp4"])


# ---- a window ----


def test_live_shows_every_step(short_tasks, monkeypatch, tmp_path, capsys):
    pytest.importorskip("pygame", reason="windows need pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown = []
    monkeypatch.setattr(play.Window, "show", lambda self, picture: shown.append(picture))
    assert play.main(["paxmen_4a", "--live", "--fps", "4"]) == 0
    assert len(shown) == 4 + 6 and "wrote" not in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_closing_the_window_ends_the_show(short_tasks, monkeypatch, capsys):
    pygame = pytest.importorskip("pygame", reason="windows need pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(pygame.event, "get", lambda: [pygame.event.Event(pygame.QUIT)])
    assert play.main(["paxmen_4a", "--live", "--fps", "50"]) == 0
    assert "episode 1" not in capsys.readouterr().out


def test_live_says_what_it_needs(short_tasks, monkeypatch):
    pytest.importorskip("pygame", reason="windows need pygame")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform == "linux":
        with pytest.raises(play.UsageError, match="--live: found no display .*; leave it out"):
            play.main(["paxmen_4a", "--live"])
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(play.UsageError, match="--live: a window needs pygame: pip install"):
        play.main(["paxmen_4a", "--live"])


# ---- the command ----


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["paxmen_5b"], "there is no run paxmen_5b; unknown task 'paxmen_5b'; did you mean paxmen_5a"),
        (["runs/nothing"], "no run or checkpoint at runs/nothing; there is no folder runs either"),
        (["paxmen_5a", "--out", "team.avi"], "--out is 'team.avi'; it must end in .gif, .mp4 or .png"),
        (["paxmen_5a", "--out", "films/team.gif"], "--out is 'films/team.gif', but there is no folder films"),
        (["paxmen_5a", "--random", "--greedy"], "--greedy is about a trained policy, not for --random"),
        (["paxmen_5a", "--random", "--policy-seed", "1"], "--policy-seed is about a trained policy"),
        (["paxmen_9a", "--random"], "--random wants the name of a task: unknown task 'paxmen_9a'; did you mean"),
    ],
)
def test_what_cannot_be_played_is_told_before_anything_is(arguments, message, capsys):
    with pytest.raises(play.UsageError, match=re.escape(message)):
        play.main(arguments)
    assert capsys.readouterr().out == ""


def test_mistakes_on_the_command_line(capsys):
    for arguments in (["paxmen_5a", "--fps", "51"], ["paxmen_5a", "--episodes", "0"], [], ["paxmen_5a", "--lives"]):
        with pytest.raises(SystemExit) as stopped:
            play.main(arguments)
        assert stopped.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def commands():
    """The commands of the pages, each once."""
    pages = (ROOT / "README.md").read_text() + (ROOT / "docs/policies.md").read_text()
    found = re.findall(r"^python -m torch_mars\.(evaluate|play) (.*?)(?:  +#.*)?$", pages, re.MULTILINE)
    assert len(found) >= 5
    return sorted(set(found))


@pytest.mark.parametrize("command, arguments", commands())
def test_the_commands_of_the_pages_run(tiny_run, short_tasks, tmp_path, capsys, command, arguments):
    shutil.copytree(tiny_run, tmp_path / "runs/paxmen_5a/mars/<run>")
    assert {"evaluate": evaluate, "play": play}[command].main(shlex.split(arguments)) == 0
    if command == "play":
        assert Path(re.search(r"wrote (\S+)", capsys.readouterr().out)[1]).stat().st_size > 1000
