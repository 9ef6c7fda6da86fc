"""AeroJAX: teams of aircraft fight in a box of air against a scripted pilot.

Rules: `env.py`; flight: `physics.py`; the pilot: `opponents.py`; pictures: `draw.py`; vectors: `vectors.py`.
"""

from torch_mars.envs.aerojax.env import AeroJAX as ENVIRONMENT

__all__ = ["ENVIRONMENT"]
