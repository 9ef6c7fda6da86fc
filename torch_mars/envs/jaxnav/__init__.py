"""JaxNav: robots with LiDAR drive to their goals on a walled map.

Tasks, options, State and numbers: `task.py`; rules: `env.py`; what the robots measure: `lidar.py`, and as compiled
loops: `loops.py`; maps and starts: `maps.py`; pictures: `draw.py`.
"""
