"""What lessons are made of: layers, distributions, and what makes them fast on the machine at hand.

Nothing here knows a method or a run. May import envs/ and run/.
"""
