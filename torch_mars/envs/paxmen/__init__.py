"""PaxMen: a team spreads into rooms to eat dots. Rules: `env.py`; boards: `layouts.py`; pictures: `draw.py`."""

from torch_mars.envs.paxmen.env import PaxMen as ENVIRONMENT

__all__ = ["ENVIRONMENT"]
