"""Multi-agent policy gradients with trust regions (MAPPO, MASPO, MARS) and their environments, in PyTorch."""

__version__ = "0.1.0"
