"""One lesson per method: `mappo.py`, `maspo.py`, `mars.py`; a `diff` of two shows what differs between the methods."""
