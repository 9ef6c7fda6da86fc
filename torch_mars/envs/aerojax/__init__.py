"""AeroJAX: teams of aircraft fight in a box of air against a scripted pilot.

What the task is: `task.py`; the rules as tensors: `env.py`, as loops: `loops.py`; flight: `physics.py` and
`physics_loops.py`; the pilot: `opponents.py` and `opponents_loops.py`; vectors as triples: of tensors `vectors.py`, of
numbers `vectors_loops.py`; pictures: `draw.py`.
"""
