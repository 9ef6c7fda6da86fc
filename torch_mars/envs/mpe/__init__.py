"""MPE simple spread: discs cover landmarks without touching each other. Rules: `env.py`; pictures: `draw.py`."""

from torch_mars.envs.mpe.env import SimpleSpread as ENVIRONMENT

__all__ = ["ENVIRONMENT"]
