"""JaxNav: robots with LiDAR drive to their goals on a walled map.

Rules: `env.py`; what the robots measure: `lidar.py`; maps and starts: `maps.py`; pictures: `draw.py`.
"""
