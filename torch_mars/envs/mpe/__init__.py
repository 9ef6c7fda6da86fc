"""MPE simple spread: discs cover landmarks without touching each other. Rules: `env.py`; pictures: `draw.py`."""
