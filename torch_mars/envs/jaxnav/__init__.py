"""JaxNav: robots with LiDAR drive to their goals on a walled map.

Tasks, options, State and numbers: `task.py`; rules: `env.py`; what the robots measure: `lidar.py`; maps and starts:
`maps.py`; all three once more as compiled loops: `loops.py`; pictures: `draw.py`.
"""
