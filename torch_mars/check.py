"""Whether an environment of one's own keeps its promises, tried on random play, before anything is trained on it.

    python -m torch_mars.check my_module.py:MyEnvironment

`torch_mars.envs.check` does the same from Python.
"""

from collections.abc import Sequence

from torch_mars import envs
from torch_mars.run.cli import Parser, UsageError, add_list_tasks, guarded, whole_number
from torch_mars.run.screen import say

STEPS = 100


def make_parser() -> Parser:
    parser = Parser(
        prog="check",
        description="Play an environment at random and look whether its rules do what is asked of them: shapes and "
        "kinds, seeds, a State that is all that lasts, environments that do not mix, bounds, pictures.",
        epilog="Exit codes: 0 all held, 1 something did not, 2 wrong usage.",
        allow_abbrev=False,
    )
    parser.add_argument("env", metavar="TASK", help="my_module.py:MyEnvironment, or a task by name")
    parser.add_argument(
        "--steps", type=whole_number(1, 10**6), default=STEPS, metavar="N", help=f"steps to play (default {STEPS})"
    )
    add_list_tasks(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    try:
        held = envs.check(args.env, args.steps)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for sentence in held:
        say(f"ok  {sentence}")
    return 0


if __name__ == "__main__":
    guarded(main, "check")
