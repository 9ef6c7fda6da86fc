"""MPE simple spread: discs cover landmarks without touching each other.

Tasks, options, State and numbers: `task.py`; rules: `env.py`; the same as compiled loops: `loops.py`; pictures:
`draw.py`.
"""
