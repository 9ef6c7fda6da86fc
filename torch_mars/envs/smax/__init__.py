"""SMAX: two teams of simple combat units on an open field; a script commands the enemies.

Rules: `env.py`; units, scenarios and how a battle begins: `scenarios.py`; the script: `opponents.py`; pictures:
`draw.py`.
"""
