"""AeroJAX: teams of aircraft fight in a box of air against a scripted pilot.

What the task is: `task.py`; the rules as tensors: `env.py`, as loops: `loops.py`; flight: `physics.py`; the pilot:
`opponents.py`; vectors as triples of tensors: `vectors.py`; pictures: `draw.py`.
"""
