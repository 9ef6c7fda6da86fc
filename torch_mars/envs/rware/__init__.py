"""RWARE: robots fetch the shelves that are asked for, carry them to a goal and bring them back.

Tasks, options and State: `task.py`. Floor plans: `layouts.py`. Rules: `env.py`. The same as loops: `loops.py`.
Pictures: `draw.py`.
"""
