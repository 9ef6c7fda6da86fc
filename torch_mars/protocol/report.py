"""Everything that runs allow: figures, tables, and their evaluations in two files, written to one folder."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch_mars.protocol import figures, gather, methods, tables
from torch_mars.protocol.methods import METHODS
from torch_mars.protocol.saved import EVALUATIONS, SavedRun
from torch_mars.protocol.tables import Task
from torch_mars.run.cli import UsageError, note
from torch_mars.run.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FLOOR_OF_SEEDS = 5  # below, an interval says little (Agarwal et al. 2021)


def plot(paths: Sequence[str | Path], out: Path, suffix: str = "png", means: bool = False) -> list[Path]:
    """Draw everything that the runs allow; the files written.

    Args:
        paths: runs, folders of runs, or files that `gather.save` wrote.
        out: folder for all of it.
        suffix: kind of figures, "png", "pdf" or "svg".
        means: save the mean of every evaluation in place of its episodes.

    Raises:
        UsageError: nothing to draw, or runs that do not belong together.
    """
    figures.need_matplotlib()
    import matplotlib

    nested, found = gather.gather(paths)
    ratios = gather.gather_ratios(paths, found)
    tasks = tables.tasks_of(nested)
    warn(tasks, found)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out is {str(out)!r}: cannot write there ({error.strerror})") from None
    written = []

    def write(name: str, content: bytes) -> None:
        write_whole(out / name, content)
        written.append(out / name)

    def draw(name: str, figure: "Figure") -> None:
        picture = io.BytesIO()
        figure.savefig(picture, format=suffix)
        write(f"{name}.{suffix}", picture.getvalue())

    with matplotlib.rc_context(figures.STYLE):
        environments = dict.fromkeys(task.environment for task in tasks)
        for environment in environments:
            here = [task for task in tasks if task.environment == environment]
            draw(f"curves_{environment}", figures.learning_curves(here))
        has_ablations = any(task.curves.keys() & set(methods.ABLATIONS) for task in tasks)
        main = (*methods.MAIN, *methods.guests())
        for among, ending in ((main, ""), (METHODS, "_ablations"))[: 1 + has_ablations]:
            compared = tables.comparisons(tasks, list(among))
            if not compared:
                continue
            draw(f"iqm{ending}", figures.iqm_curves([c for c in compared if c.environment != "all"]))  # lengths differ
            scores, better = list(tables.rows(compared)), list(tables.improvements(compared))
            per_task = list(tables.task_rows(tasks, list(among)))
            name, title = ("ablations", "Ablations") if ending else ("table1", "Table 1")
            write(f"{name}.md", tables.as_markdown(title, scores, better, per_task).encode())
            write(f"{name}.csv", tables.as_csv(scores).encode())
            write(f"tasks{ending}.csv", tables.as_csv(per_task).encode())
            if better:
                draw(f"improvement{ending}", figures.improvement_figure(better))
                write(f"improvement{ending}.csv", tables.as_csv(better).encode())
        for environment in environments:
            here = {task: ratios[task] for task in nested[environment] if task in ratios}
            if here:
                draw(f"ratios_{environment}", figures.ratio_curves(here))
        draw("objectives", figures.objectives_figure())
    for name, content in (
        (EVALUATIONS, gather.only_means(nested) if means else nested),
        (gather.RATIOS, ratios),
    ):
        gather.save(content, out / name)
        written.append(out / name)
    return written


def warn(tasks: list[Task], found: list[SavedRun]) -> None:
    """What makes a comparison weaker than it looks."""
    fewest = min(curves.seeds for task in tasks for curves in task.curves.values())
    if fewest < FLOOR_OF_SEEDS:
        note(f"only {fewest} seed{'s' * (fewest > 1)} in places: intervals from fewer than {FLOOR_OF_SEEDS} say little")
    unfinished = [run for run in found if not run.is_finished()]
    if unfinished:
        note(f"{len(unfinished)} of {len(found)} runs are not finished, such as {unfinished[0].folder}")
    for task in tasks:
        ends = {int(curves.steps[-1]) for curves in task.curves.values()}
        if len(ends) > 1:
            steps = ", ".join(f"{name} {int(curves.steps[-1]):,}" for name, curves in task.curves.items())
            note(f"{task.name}: final scores are after different numbers of steps ({steps})")
