"""PaxMen: a team spreads into rooms to eat dots.

Rules: `env.py`; the same for one environment, compiled: `scalar.py`; boards: `layouts.py`; pictures: `draw.py`.
"""

from torch_mars.envs.paxmen.env import PaxMen as ENVIRONMENT

__all__ = ["ENVIRONMENT", "SCALAR"]


def __getattr__(name: str):
    if name == "SCALAR":  # numba is imported only when it is needed
        from torch_mars.envs.paxmen.scalar import ScalarPaxMen

        return ScalarPaxMen
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
