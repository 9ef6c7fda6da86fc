"""SMAX: two teams of simple combat units on an open field; a script commands the enemies.

Tasks, options, State and numbers: `task.py`; rules: `env.py`; units, scenarios and how a battle begins: `scenarios.py`;
the script: `opponents.py`; the same as loops: `loops.py`; pictures: `draw.py`.
"""
