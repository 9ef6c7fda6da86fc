"""All commands under one name: `torch-mars <command> ...`, or `python -m torch_mars <command> ...`.

    torch-mars                                    # lists the commands
    torch-mars train mars --env paxmen_5a         # python -m torch_mars.algos.mars --env paxmen_5a
    torch-mars evaluate runs/paxmen_5a/mars/<run> # python -m torch_mars.evaluate runs/paxmen_5a/mars/<run>

Each is also a module of its own.
"""

import importlib
import sys
from collections.abc import Sequence

import torch_mars

COMMANDS = {
    "train": "train a method: torch-mars train mars --env paxmen_5a",
    "evaluate": "returns and metrics of what was trained, with intervals",
    "play": "a film of a team, or a window",
    "export": "a team as a file for other programs: ONNX, TorchScript, pt2",
    "check": "whether an environment of your own keeps its promises",
    "plot": "the paper's figures and tables from runs",
    "tune": "search a method's hyperparameters",
    "experiment": "a grid of methods, tasks and seeds, and its figures",
}


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    name, rest = (words[0], words[1:]) if words else ("--help", [])
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"torch_mars {torch_mars.__version__}")
        return 0
    if name not in COMMANDS:
        # and with them PyTorch, for which a list of commands need not wait
        from torch_mars import algos
        from torch_mars.envs.options import allowed, shown

        if name in algos.LESSONS:
            return _refuse(f"{name} is a method: torch-mars train {name} ...")
        return _refuse(f"unknown command {shown(name)}; {allowed(name, COMMANDS)}")
    return train(rest) if name == "train" else importlib.import_module(f"torch_mars.{name}").main(rest)


def train(argv: Sequence[str]) -> int:
    """Run a lesson: of the package by its name, of the user's own by its module."""
    from torch_mars import algos
    from torch_mars.run.cli import one_line, task_list

    usage = (
        f"torch-mars train METHOD [settings]; METHOD is {', '.join(algos.LESSONS)}, or the module of your own lesson"
    )
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: {usage}\n`torch-mars train mars --help` shows its settings.")
        return 0 if argv else 2
    if argv[0] == "--list-tasks":
        print(task_list())
        return 0
    try:
        lesson = algos.lesson(argv[0])
    except (ValueError, OSError) as error:  # OSError: a path that is too long
        return _refuse(one_line(str(error)))
    if argv[0] != lesson.ALGORITHM and argv[0] in algos.algorithms(lesson):
        name = lesson.ALGORITHM
        return _refuse(f"{argv[0]} is what runs of {name} are called; torch-mars train {name} --help says how")
    return lesson.main(argv[1:])


def overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: torch-mars <command> ...", "", *lines, "", "torch-mars <command> --help says more."])


def _refuse(sentence: str) -> int:
    print(f"torch-mars: {sentence}", file=sys.stderr)
    return 2


def run() -> None:
    """The console script."""
    if not sys.argv[1:]:
        sys.exit(main())
    try:
        from torch_mars.run.cli import guarded
    except KeyboardInterrupt:  # while PyTorch is read, which takes seconds
        print("torch-mars: interrupted", file=sys.stderr)
        sys.exit(130)
    guarded(main, "torch-mars")


if __name__ == "__main__":
    run()
