"""PaxMen: agents spread from a hub into rooms to eat dots. Rules in `env.py`, boards in `layouts.py`, pictures in `draw.py`."""

from torch_mars.envs.paxmen.env import PaxMen as ENVIRONMENT

__all__ = ["ENVIRONMENT"]
