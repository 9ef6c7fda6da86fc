"""AeroJAX: teams of aircraft fight in a box of air against a scripted pilot.

Rules: `env.py`; the same for one environment, compiled: `scalar.py`; flight: `physics.py`; the pilot: `opponents.py`;
pictures: `draw.py`; vectors as triples of tensors: `vectors.py`.
"""
