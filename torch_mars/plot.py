"""From runs to the paper's figures and tables.

    python -m torch_mars.plot runs --out figures

What is drawn is in `protocol/`: tables, figures, and the report that holds them all.
"""

from collections.abc import Sequence
from pathlib import Path

from torch_mars.protocol import report
from torch_mars.run.cli import Parser, check_folder, guarded, path_argument


def make_parser() -> Parser:
    parser = Parser(
        prog="plot",
        description="Figures and tables of the paper from runs: learning curves, IQM with intervals, probability of "
        "improvement, Table 1, ratios over training (Figure 3), the objectives (Figure 1).",
        epilog="Written to --out: curves_<environment>, iqm, improvement, ratios_<environment> and objectives as "
        "figures; table1.md, table1.csv, improvement.csv and tasks.csv; with ablations the same again, named "
        "..._ablations; evaluations.json (all evaluations, which marl-eval reads) and ratios.json, to draw from again "
        "without the runs.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=path_argument,
        metavar="RUNS",
        help="runs, folders of runs, or an evaluations.json of --out",
    )
    parser.add_argument(
        "--out", type=path_argument, default="figures", metavar="DIR", help="folder for the results (default figures)"
    )
    parser.add_argument(
        "--means", action="store_true", help="keep the mean of every evaluation, not all its episodes: small to publish"
    )
    parser.add_argument(
        "--diagnostics", action="store_true",
        help="also draw, for each task, what the objectives do to the samples of an update: the share without force, "
        "quantiles of the ratio, entropy, divergence",
    )  # fmt: skip
    parser.add_argument("--format", default="png", choices=("png", "pdf", "svg"), help="of figures (default png)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    check_folder(Path(args.out), "--out")
    for path in report.plot(args.runs, Path(args.out), args.format, args.means, args.diagnostics):
        print(path)
    return 0


if __name__ == "__main__":
    guarded(main, "plot")
