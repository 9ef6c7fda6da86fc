"""PaxMen: a team spreads into rooms to eat dots.

Rules: `env.py`; the same as compiled loops: `loops.py`, and for one environment: `scalar.py`; boards: `layouts.py`;
pictures: `draw.py`.
"""

from torch_mars.envs.paxmen.env import PaxMen as ENVIRONMENT
from torch_mars.envs.paxmen.scalar import ScalarPaxMen as SCALAR

__all__ = ["ENVIRONMENT", "SCALAR"]
