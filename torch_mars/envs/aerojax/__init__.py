"""AeroJAX: teams of aircraft fight in a box of air against a scripted pilot.

Rules: `env.py`; the same for one environment, compiled: `scalar.py`; flight: `physics.py`; the pilot: `opponents.py`;
pictures: `draw.py`; vectors as triples of tensors: `vectors.py`.
"""

from torch_mars.envs.aerojax.env import AeroJAX as ENVIRONMENT

__all__ = ["ENVIRONMENT", "SCALAR"]


def __getattr__(name: str):
    if name == "SCALAR":  # numba is imported only when it is needed
        from torch_mars.envs.aerojax.loops import ScalarAeroJAX

        return ScalarAeroJAX
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
