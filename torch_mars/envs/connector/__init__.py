"""Connector: wires grow on a board until each has met its target or none can move; they may not cross.

Tasks, options and State: `task.py`. New boards: `boards.py`. Rules: `env.py`. The same as loops: `loops.py`. Pictures:
`draw.py`.
"""
