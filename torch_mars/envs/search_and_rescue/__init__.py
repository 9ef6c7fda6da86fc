"""Search & Rescue: searchers that cannot stop look for drifting targets on a square whose edges are joined.

Tasks, options, State and numbers: `task.py`; rules: `env.py`; the same as compiled loops: `loops.py`; pictures:
`draw.py`.
"""
