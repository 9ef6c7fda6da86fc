"""Episodes as pictures and films: the environment's picture, the return so far, the metrics, what each agent sees.

`play.py` says what is played and where the film goes; environments draw themselves (`draw`, `draw_observation`).
"""

import dataclasses
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import GifImagePlugin, Image
from torch import Tensor
from tqdm import tqdm

from torch_mars.envs.canvas import BLUE, GRID, INK, PALE, PAPER, Canvas
from torch_mars.envs.core import BatchedEnv, State, TimeStep, tree_map
from torch_mars.run.cli import RunError, UsageError, check_out, shown
from torch_mars.run.files import write_whole

FORMATS = (".gif", ".mp4", ".png")
HOLD_SECONDS = 1.5  # that an episode's last picture stays
SHEET = 6  # pictures in a .png
PALETTE_FROM = 12  # pictures that a .gif's 255 colours are chosen from
TRANSPARENT = 255  # number of its other colour

SCALE = 2  # what stands beside the picture is drawn this much larger, then reduced
HEADER, MARGIN, LINE = 52, 18, 18  # pixels
COLUMN = 300  # pixels: width of the column at the right
VIEW, LEAST_VIEW, GAP = 120, 76, 8  # pixels: side of an agent's view, at most and as wanted; between two of them
CHART = 104  # pixels of height


# ---- episodes ----


@dataclass
class Episode:
    """What happened so far: in every list one entry for the start and one for every step."""

    number: int  # 1, 2, ...
    states: list[State] = field(default_factory=list)
    obs: list[Tensor] = field(default_factory=list)  # [N, O]
    rewards: list[float] = field(default_factory=list)  # the team's
    infos: list[dict[str, Any]] = field(default_factory=list)  # return and metrics so far
    scenes: list[bytes] = field(default_factory=list)  # PNG, where the environment can be drawn only as it is now
    ending: str = ""  # "" until it is over
    place: str = ""  # among others that were played, "32nd of 64"

    @property
    def last(self) -> int:
        return len(self.states) - 1

    def add(self, env: BatchedEnv, ts: TimeStep) -> None:
        """What an environment with B = 1 that does not restart by itself shows after its start or a step."""
        self.states.append(env.state)
        self.obs.append(ts.final_obs[0].cpu())
        self.rewards.append(float(ts.reward[0].mean()))
        self.infos.append({name: _number(value[0]) for name, value in ts.info.items()})
        if not env.draws_later:
            self.scenes.append(_png(env.draw(env.state)))
        self.ending = "by the rules" if ts.terminated else "time limit" if ts.truncated else ""


# Actions for what the environments show, as `step` takes them, and what is remembered then [B, ...], which is None
# where an episode begins, and always for players without a memory.
Act = Callable[[BatchedEnv, TimeStep, Tensor | None], tuple[Tensor, Tensor | None]]


@torch.no_grad()
def play(env: BatchedEnv, act: Act, number: int, start: dict | None = None, place: str = "") -> Iterator[Episode]:
    """Episode `number` in an environment with B = 1 that does not restart by itself.

    The same Episode after the start and after each step, until it is over.

    Args:
        start: what `env.load_state` takes to begin there; left out: where a reset leads to.
    """
    episode = Episode(number, place=place)
    if start is None:
        ts = env.reset()
    else:
        env.load_state(start)
        ts = env.observe()
    memory = None
    while True:
        episode.add(env, ts)
        yield episode
        if episode.ending:
            return
        actions, memory = act(env, ts, memory)
        ts = env.step(actions)


@dataclass
class Recording:
    """One episode in each of B environments: how it began, what was done, what it brought.

    That is all of them: rules compute an environment alone as they do in a batch, so `replay` goes the same way again.
    """

    start: dict[str, Tensor]  # what `load_state` takes, [B, ...] each
    actions: list[Tensor]  # [B, N] or [B, N, d] for every step; zeros where an episode is over
    returns: list[float]  # B

    def ranked(self) -> list[int]:
        """The episodes' places in the batch, the one with the highest return first."""
        return sorted(range(len(self.returns)), key=lambda row: -self.returns[row] if self.returns[row] > -inf else inf)

    def replay(self, env: BatchedEnv, row: int, number: int, place: str) -> Iterator[Episode]:
        """As `play`: the episode of one of the environments, in one with B = 1, without its policy."""
        taken = iter(self.actions)
        start = {name: field[row : row + 1] for name, field in self.start.items()}
        return play(env, lambda *_: (next(taken)[row : row + 1], None), number, start, place)


@torch.no_grad()
def record(env: BatchedEnv, act: Act) -> Recording:
    """Play one episode in each environment; those that are over are left out of the batch."""
    keys = env.state_dict() if env.resume_note else None
    if env.state is not None:  # only where no State can be gone on with are keys all that its episodes begin with
        keys = None
    ts, rows, memory = env.reset(), torch.arange(env.num_envs, device=env.device), None
    returns = torch.zeros(env.num_envs, dtype=torch.float32, device=env.device)
    recording = Recording(keys or env.state_dict(), [], [])
    while len(rows):
        actions, memory = act(env, ts, memory)
        recording.actions.append(actions.new_zeros(len(returns), *actions.shape[1:]).index_copy(0, rows, actions))
        ts = env.step(actions)
        is_over = ts.terminated | ts.truncated
        returns[rows[is_over]] = ts.info["episode_return"][is_over]
        if is_over.any():
            rows, memory = rows[~is_over], None if memory is None else memory[~is_over]
            env, ts = _only(~is_over, env, ts)
    recording.returns = returns.tolist()
    return recording


def _only(is_left: Tensor, env: BatchedEnv, ts: TimeStep) -> tuple[BatchedEnv, TimeStep]:
    """Some of the environments [B], and what they show."""
    left = is_left.nonzero().squeeze(1)
    return env.share(left), tree_map(lambda field: field[left], dataclasses.replace(ts, info=None))


def _number(value: Tensor) -> float:
    """A metric of the team, or the mean over agents of one of theirs."""
    return float(value.float().mean())


# ---- one picture ----


class Stage:
    """Pictures of episodes in an environment.

    Args:
        env: the environment, B = 1.
        title: who plays what.
        subtitle: smaller, below it.
        episodes: how many will be played.
    """

    def __init__(self, env: BatchedEnv, title: str, subtitle: str, episodes: int):
        self.env, self.title, self.subtitle, self.episodes = env, title, subtitle, episodes

    def picture(self, episode: Episode, t: int) -> np.ndarray:
        """After step `t` of an episode (0: at its start): uint8 [H, W, 3], sides even, the same for all."""
        if self.env.draws_later:
            scene = self.env.draw(episode.states[t], 0, trail=episode.states[:t])
        else:
            scene = np.array(Image.open(io.BytesIO(episode.scenes[t])))
        views = [self.env.draw_observation(obs, agent) for agent, obs in enumerate(episode.obs[t])]
        views = [view for view in views if view is not None]
        frame = _Frame(*scene.shape[:2], self._figures_height(), len(views))

        canvas = Canvas(frame.width, frame.height, scale=SCALE)
        left, width = scene.shape[1] + MARGIN, COLUMN - 2 * MARGIN
        self._header(canvas, episode, t, frame.width)
        y = self._return(canvas, episode, t, left, width)
        self._metrics(canvas, episode.infos[t], left, y, width)
        if views:
            canvas.text(frame.views_title, "what each agent sees", PALE, 13)
        side, places = frame.view_side, [frame.view(i) for i in range(len(views))]
        for agent, (x, y) in zip(self.env.agents, places):
            canvas.text((x + side / 2, y + side + 8), agent, PALE, 11, "mm")
        picture = canvas.finished()
        picture[HEADER : HEADER + len(scene), : scene.shape[1]] = scene
        for view, (x, y) in zip(views, places):
            picture[y : y + side, x : x + side] = Image.fromarray(view).resize((side, side), Image.LANCZOS)
        return picture

    def _figures_height(self) -> int:
        """Of the return and the metrics."""
        return 84 + CHART + self._rows_of_metrics() * LINE + MARGIN

    def _rows_of_metrics(self) -> int:
        return -(-len(self.env.metrics) // 2)

    def _header(self, canvas: Canvas, episode: Episode, t: int, width: int) -> None:
        canvas.text((10, 17), self.title, INK, 18, "lm")
        canvas.text((10, 37), self.subtitle, PALE, 13, "lm")
        now = f"episode {episode.number} of {self.episodes}"
        if episode.place:  # says more than that it is the only one
            now = f"{now}, {episode.place}" if self.episodes > 1 else f"{episode.place} by return"
        if t == episode.last and episode.ending:
            now += f", over: {episode.ending}"
        canvas.text((width - MARGIN, 17), now, PALE, 13, "rm")

    def _return(self, canvas: Canvas, episode: Episode, t: int, left: float, width: float) -> float:
        """The return in figures and as a curve; where the next thing may begin."""
        y = HEADER + 8
        canvas.text((left, y), "return", PALE, 13)
        canvas.text((left + width, y), f"reward of step {t}", PALE, 13, "ra")
        canvas.text((left, y + 17), f"{episode.infos[t]['episode_return']:+.2f}", BLUE, 26)
        canvas.text((left + width, y + 19), f"{episode.rewards[t]:+.3f}", INK, 20, "ra")
        top, bottom = y + 66, y + 66 + CHART - 12
        returns = [info["episode_return"] for info in episode.infos]
        low, high = min(0.0, *returns), max(0.0, *returns)
        last = episode.last if episode.ending else self.env.max_steps
        space = max(high - low, 1e-6)

        def point(step: int, value: float) -> tuple[float, float]:
            return left + width * step / max(last, 1), bottom - (bottom - top) * (value - low) / space

        canvas.line([point(0, 0), point(last, 0)], GRID, 1)
        for value in {low, high} - {0.0}:
            canvas.line([point(0, value), point(last, value)], GRID, 1)
            beyond = -2 if value > 0 else 2  # above the highest, below the lowest: never on the curve
            at = left + width, point(0, value)[1] + beyond
            canvas.text(at, f"{value:+.3g}", PALE, 10, "rd" if value > 0 else "ra")
        canvas.line([point(step, value) for step, value in enumerate(returns[: t + 1])], BLUE, 2)
        canvas.disc(point(t, returns[t]), 4, BLUE)
        return bottom + 24

    def _metrics(self, canvas: Canvas, info: dict[str, float], left: float, y: float, width: float) -> None:
        """In two columns."""
        half = (width - MARGIN) / 2
        for i, name in enumerate(self.env.metrics):
            x, at = left + (i % 2) * (half + MARGIN), y + (i // 2) * LINE
            canvas.text((x, at), name.removeprefix("episode_").replace("_", " "), INK, 13)
            if name in info:
                canvas.text((x + half, at), f"{info[name]:.4g}", INK, 13, "ra")


class _Frame:
    """Where things lie, in pixels: the agents' views below the figures if they get large enough there, else in rows
    below everything.

    Args:
        scene_height, scene_width: of the environment's picture.
        figures_height: of what stands above the views in the column at its right.
        views: how many.
    """

    def __init__(self, scene_height: int, scene_width: int, figures_height: int, views: int):
        self.width = _even(scene_width + COLUMN)
        below_header = max(scene_height, figures_height)
        room = scene_height - figures_height - LINE - MARGIN
        in_column = self._fit(views, COLUMN - 2 * MARGIN, room)
        if not views or in_column[0] >= LEAST_VIEW:
            self.view_side, self._per_row = in_column
            self.views_title = (scene_width + MARGIN, HEADER + figures_height)
        else:
            fits = (self._fit(views, self.width - 2 * MARGIN, rows * (VIEW + LINE)) for rows in range(1, views + 1))
            self.view_side, self._per_row = next(fit for fit in fits if fit[0] >= min(LEAST_VIEW, self.width // 8))
            self.views_title = (MARGIN, HEADER + below_header + GAP)
            below_header += 2 * GAP + LINE + -(-views // self._per_row) * (self.view_side + LINE)
        self.height = _even(HEADER + below_header)

    @staticmethod
    def _fit(views: int, width: int, height: int) -> tuple[int, int]:
        """The largest side of `views` squares with their names in a box, and how many stand in a row."""
        sides = {}
        for per_row in range(1, views + 1):
            across = (width - GAP * (per_row - 1)) // per_row
            sides[per_row] = min(VIEW, across, height // -(-views // per_row) - LINE)
        per_row = max(sides, key=sides.get, default=1)
        return sides.get(per_row, 0), per_row

    def view(self, number: int) -> tuple[int, int]:
        """Left upper corner of a view."""
        row, column = divmod(number, self._per_row)
        left, top = self.views_title
        return left + column * (self.view_side + GAP), top + LINE + 6 + row * (self.view_side + LINE)


def _even(pixels: int) -> int:
    """Films want even sides."""
    return pixels + pixels % 2


# ---- films ----


def check_path(path: Path) -> None:
    """UsageError unless a film can be written to `path`: before anything is played."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--out is {shown(str(path))}; it must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    check_out(path)
    if path.suffix.lower() == ".mp4":
        _ffmpeg()


def write(path: Path, stage: Stage, episodes: list[Episode], frames_per_second: int) -> None:
    """Write episodes as a film, or (.png) as a sheet of a few of their moments; completely or not at all."""
    moments = [(episode, t) for episode in episodes for t in range(len(episode.states))]
    suffix = path.suffix.lower()
    if suffix == ".png":
        write_whole(path, _sheet([stage.picture(*moments[i]) for i in _spread(len(moments), SHEET)]))
    elif suffix == ".gif":
        palette = _palette([stage.picture(*moments[i]) for i in _spread(len(moments), PALETTE_FROM)])
        ends = [round(100 * k / frames_per_second) for k in range(len(moments) + 1)]  # a GIF counts hundredths
        durations = [
            10 * (ends[k + 1] - ends[k]) if t < episode.last else round(1000 * HOLD_SECONDS)
            for k, (episode, t) in enumerate(moments)
        ]
        write_whole(path, _gif(_pictures(stage, moments), palette, durations))
    else:
        hold = round(HOLD_SECONDS * frames_per_second)
        repeated = [1 if t < episode.last else hold for episode, t in moments]
        _write_mp4(path, _pictures(stage, moments), repeated, frames_per_second)


def _pictures(stage: Stage, moments: list[tuple[Episode, int]]) -> Iterator[np.ndarray]:
    """Drawn when they are asked for: a long film does not fit into memory."""
    for moment in tqdm(moments, unit="picture", desc="drawing", leave=False, disable=None):
        yield stage.picture(*moment)


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers 0 .. count - 1, evenly spread, with the first and the last."""
    return sorted(set(np.linspace(0, count - 1, wanted).round().astype(int).tolist()))


def _sheet(pictures: list[np.ndarray]) -> bytes:
    """PNG with the pictures in rows."""
    height, width = pictures[0].shape[:2]
    columns = min(len(pictures), 2 if width > 1.6 * height else 3)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), PAPER)
    for i, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (i % columns * width, i // columns * height))
    return _png(sheet, optimize=True)


def _png(picture: np.ndarray | Image.Image, optimize: bool = False) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(buffer, "PNG", optimize=optimize)
    return buffer.getvalue()


def _palette(pictures: list[np.ndarray]) -> Image.Image:
    """One palette for the whole film, so that colours do not flicker; the last of 256 is left for transparency."""
    return Image.fromarray(np.concatenate(pictures)).quantize(TRANSPARENT, Image.Quantize.FASTOCTREE)


def _gif(pictures: Iterator[np.ndarray], palette: Image.Image, durations_ms: list[int]) -> bytes:
    """Every picture holds only what changed, and is encoded before the next is drawn: Pillow's own `save_all` would
    keep all of them in memory."""
    chunks, before = [], None
    for picture, duration in zip(pictures, durations_ms):
        indexed = Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)
        colours = np.asarray(indexed)
        top, bottom, left, right = 0, colours.shape[0], 0, colours.shape[1]
        if before is None:
            chunks += GifImagePlugin.getheader(indexed, info={"loop": 0, "version": b"GIF89a"})[0]
        else:
            is_new = colours != before
            rows, columns = np.flatnonzero(is_new.any(1)), np.flatnonzero(is_new.any(0))
            top, bottom = (rows[0], rows[-1] + 1) if len(rows) else (0, 1)
            left, right = (columns[0], columns[-1] + 1) if len(columns) else (0, 1)
            changed = np.where(is_new, colours, TRANSPARENT).astype(np.uint8)
            indexed = Image.fromarray(changed[top:bottom, left:right])
        how = {"duration": duration, "disposal": 1, "transparency": TRANSPARENT}
        chunks += GifImagePlugin.getdata(indexed, (int(left), int(top)), **how)
        before = colours
    return b"".join([*chunks, b";"])


def _write_mp4(path: Path, pictures: Iterator[np.ndarray], repeated: list[int], frames_per_second: int) -> None:
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    film = None
    try:
        for picture, times in zip(pictures, repeated):
            if film is None:
                size = (picture.shape[1], picture.shape[0])
                film = _ffmpeg().write_frames(
                    str(temporary), size, fps=frames_per_second, quality=8, macro_block_size=2
                )
                film.send(None)
            for _ in range(times):
                film.send(np.ascontiguousarray(picture))
        film.close()
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _ffmpeg() -> Any:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UsageError('.mp4 needs imageio-ffmpeg: pip install "torch_mars[video]", or write a .gif') from None
    return imageio_ffmpeg
