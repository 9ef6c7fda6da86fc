"""A situation of every environment without a film (`docs/<environment>.gif`), for its page.

The installed team plays where there is one, else chance.

python docs/pictures.py         # draws docs/pictures/<environment>.png
"""

from pathlib import Path

import numpy as np
from PIL import Image

from torch_mars import play

FOLDER = Path(__file__).parent / "pictures"
SITUATIONS = {  # environment -> task, steps played, seed
    "jaxnav": ("jaxnav_9x9x3a", 40, 2),
    "connector": ("connector_10x10x10a", 12, 3),
    "mpe": ("simple_spread_5ag", 15, 0),
    "rware": ("rware_small_4ag", 60, 1),
}


def drawn(task: str, steps: int, seed: int) -> np.ndarray:
    """The picture after so many steps, uint8 [H, W, 3]; of an episode that ended before, its end."""
    playing = play.team(task, seed)
    env = playing.make_env(1)
    ts, trail, memory = env.reset(), [], None
    for _ in range(steps):
        trail.append(env.state)
        actions, memory = playing.act(env, ts, memory)
        ts = env.step(actions)
        if (ts.terminated | ts.truncated).any():
            break
    return env.draw(env.state, 0, trail)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for family, situation in SITUATIONS.items():
        Image.fromarray(drawn(*situation)).quantize(128).save(FOLDER / f"{family}.png", optimize=True)
