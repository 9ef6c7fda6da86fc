"""PaxMen: a team spreads into rooms to eat dots.

Rules: `env.py`; the same as compiled loops: `loops.py`, and for one environment: `scalar.py`; boards: `layouts.py`;
pictures: `draw.py`.
"""
