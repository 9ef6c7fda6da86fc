"""PaxMen: a team spreads into rooms to eat dots.

Tasks, options, State and numbers: `task.py`; rules: `env.py`; the same as compiled loops: `loops.py`; boards:
`layouts.py`; pictures: `draw.py`.
"""
