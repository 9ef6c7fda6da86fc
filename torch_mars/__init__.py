"""Multi-agent policy gradients with trust regions (MAPPO, MASPO, MARS) and their environments, in PyTorch."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`torch_mars.load_policy`, imported with what it needs only when it is asked for."""
    if name == "load_policy":
        from torch_mars.teams.policies import load_policy

        return load_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
