"""A trained team as a file for programs without torch_mars: ONNX, TorchScript, or PyTorch's exported program (pt2).

    python -m torch_mars.export paxmen_5a
    python -m torch_mars.export runs/paxmen_5a/mars/<run> --format pt2 --out team.pt2

What goes in and comes out is in `teams/exports.py` and in the file itself.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from torch_mars import envs
from torch_mars.envs.options import allowed, shown
from torch_mars.run.cli import (
    Parser,
    UsageError,
    add_list_tasks,
    check_out,
    guarded,
    path_argument,
    whole_number,
)
from torch_mars.run.files import CHECKPOINT, POLICY, write_whole
from torch_mars.teams.exports import CHECKED, FORMATS, check_packages, exported
from torch_mars.teams.policies import add_own, read, task_or_path


def format_of(typed: str | None, out: str | None) -> str:
    """The format that was typed, else the one that the file's name ends in, else ONNX.

    Raises:
        UsageError: the name ends in another way.
    """
    suffixes = {format.suffix: name for name, format in FORMATS.items()}
    if out is None:
        return typed or "onnx"
    of_name = suffixes.get(Path(out).suffix.lower())
    if typed is None and of_name is None:
        *most, last = suffixes
        raise UsageError(f"--out is {shown(out)}; it must end in {', '.join(most)} or {last}")
    if typed is not None and typed != of_name:
        raise UsageError(f"--out is {shown(out)}; with --format {typed} it must end in {FORMATS[typed].suffix}")
    return of_name


def check_path(path: Path) -> None:
    """UsageError unless a file can be written to `path`: before a run is read for nothing."""
    if path.name in (POLICY, CHECKPOINT):
        raise UsageError(f"--out is {shown(str(path))}, the name of a run's own file, which holds more; choose another")
    check_out(path)


# ---- the command ----


def _format(text: str) -> str:
    if text not in FORMATS:
        raise argparse.ArgumentTypeError(f"unknown format {shown(text)}; {allowed(text, FORMATS)}")
    return text


def make_parser() -> Parser:
    parser = Parser(
        prog="export",
        description="Write a trained team to a file that other programs run: ONNX (any language; extra [export]), "
        "TorchScript (C++), or an exported program of PyTorch. It is compared with the team before it is written.",
        epilog="examples:\n"
        "  python -m torch_mars.export paxmen_5a\n"
        "  python -m torch_mars.export runs/paxmen_5a/mars/<run> --out team.pt2\n"
        "In the file: obs [B, N, O] (and mask [B, N, A], where actions can be forbidden) -> logits or mean and std, "
        "and the\nmost likely action; of a recurrent run also memory [B, N, H] -> next_memory; and all "
        "there is to know\nabout the task, as text.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", type=path_argument, metavar="RUN_OR_TASK",
        help="a run's folder, its policy.pt or checkpoint.pt, or a task with an installed team")  # fmt: skip
    endings = ", ".join(f"{name} ({format.suffix})" for name, format in FORMATS.items())
    add("--format", type=_format, metavar="NAME", help=f"{endings}; left out: by the ending of --out, else onnx")
    add("--out", type=path_argument, metavar="FILE", help="left out: <task>-<algorithm> with the format's ending")
    add("--policy-seed", type=whole_number(0), metavar="N", help="training seed; left out: the best of the run")
    add_own(parser)
    add_list_tasks(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    format = format_of(args.format, args.out)
    check_packages(format)
    if args.out:
        check_path(Path(args.out))
    task_or_path(args.run)
    trained = read(args.run, args.env, args.lesson)
    if args.out and os.path.exists(args.out) and os.path.samefile(args.out, trained.path):
        raise UsageError(f"--out is {shown(args.out)}, which is the team itself; choose another name")
    out = Path(args.out or f"{envs.folder_name(trained.task)}-{trained.algorithm}{FORMATS[format].suffix}")
    check_path(out)
    seed = trained.seeds[trained.index(args.policy_seed)]
    print(f"{trained.task}: {trained.algorithm.upper()}, {trained.what}, seed {seed}", flush=True)
    content = exported(trained, format, seed)
    write_whole(out, content)
    compared = f"it acts as the team does where {CHECKED} episodes begin"
    print(f"wrote {out} ({len(content) / 1e6:.1f} MB, {format}); {compared}")
    return 0


if __name__ == "__main__":
    guarded(main, "export")
