"""Everything that runs allow: figures, tables, and their evaluations in two files, written to one folder."""

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch_mars import envs
from torch_mars.protocol import figures, gather, methods, tables
from torch_mars.protocol.gather import Ratios
from torch_mars.protocol.methods import METHODS
from torch_mars.protocol.saved import EVALUATIONS, Nested, SavedRun
from torch_mars.protocol.tables import Task
from torch_mars.run.cli import UsageError, make_folder, note
from torch_mars.run.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Group:
    """Methods that are compared with one another, and how the files of the comparison are called."""

    methods: tuple[str, ...]
    table: str
    title: str
    ending: str = ""  # of the other files' names


def groups_of(tasks: list[Task]) -> list[Group]:
    """The main methods with those that are none of the paper's; where there are ablations, all methods once more."""
    groups = [Group((*methods.MAIN, *methods.guests()), "table1", "Table 1")]
    if any(task.curves.keys() & set(methods.ABLATIONS) for task in tasks):
        groups.append(Group(tuple(METHODS), "ablations", "Ablations", "_ablations"))
    return groups


class Folder:
    """Where figures and tables go, whole; `written` are the files so far."""

    def __init__(self, path: Path, suffix: str):
        self.path, self.suffix, self.written = make_folder(path, "--out"), suffix, []

    def write(self, name: str, text: str) -> None:
        self._write(name, text.encode())

    def draw(self, name: str, figure: "Figure") -> None:
        picture = io.BytesIO()
        figure.savefig(picture, format=self.suffix)
        self._write(f"{name}.{self.suffix}", picture.getvalue())

    def save(self, name: str, content: Nested | Ratios) -> None:
        gather.save(content, self.path / name)
        self.written.append(self.path / name)

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self.path / name, content)
        self.written.append(self.path / name)


def plot(
    paths: Sequence[str | Path],
    out: Path,
    suffix: str = "png",
    means: bool = False,
    diagnostics: bool = False,
    seeds: Collection[int] | None = None,
) -> list[Path]:
    """Draw everything that the runs allow; the files written.

    Args:
        paths: runs, folders of runs, or files that `gather.save` wrote.
        out: folder for all of it.
        suffix: kind of figures, "png", "pdf" or "svg".
        means: save the mean of every evaluation in place of its episodes.
        diagnostics: also draw what the objectives do to the samples of an update, for each task.
        seeds: of runs, those that count; None: all.

    Raises:
        UsageError: nothing to draw, or runs that do not belong together.
    """
    figures.need_matplotlib()
    import matplotlib

    nested, found = gather.gather(paths, seeds)
    ratios = gather.gather_ratios(paths, found)
    tasks = tables.tasks_of(nested)
    diverged = gather.gather_diverged(paths, found)
    warn(tasks, found, diverged)
    labels = gather.labels_of(paths, found)
    mechanism = gather.gather_diagnostics(found) if diagnostics else {}
    if diagnostics and not mechanism:
        raise UsageError("--diagnostics: none of these runs logged what it shows; it takes runs, not evaluations.json")
    folder = Folder(out, suffix)
    by_environment = {name: [task for task in tasks if task.environment == name] for name in nested}
    with matplotlib.rc_context(figures.STYLE), methods.labelled(labels):
        for environment, here in by_environment.items():
            folder.draw(f"curves_{environment}", figures.learning_curves(here, diverged))
        for group in groups_of(tasks):
            compare(tasks, group, folder)
        for environment, here in by_environment.items():
            known = {task.name: ratios[task.name] for task in here if task.name in ratios}
            if known:
                folder.draw(f"ratios_{environment}", figures.ratio_curves(known))
        for task, by_method in mechanism.items():
            folder.draw(f"diagnostics_{envs.folder_name(task)}", figures.diagnostics_figure(by_method, task))
        folder.draw("objectives", figures.objectives_figure())
    folder.save(EVALUATIONS, gather.only_means(nested) if means else nested)
    folder.save(gather.RATIOS, ratios)
    folder.save(gather.LABELS, labels)
    for name, content in ((gather.DIAGNOSTICS, mechanism), (gather.DIVERGED, diverged)):
        if content:
            folder.save(name, content)
    return folder.written


def compare(tasks: list[Task], group: Group, folder: Folder) -> None:
    """Figures and tables of a group of methods; nothing where no task has all of them."""
    compared = tables.comparisons(tasks, group.methods)
    if not compared:
        return
    ending = group.ending
    each = [comparison for comparison in compared if comparison.environment != "all"]  # of all, lengths differ
    folder.draw(f"iqm{ending}", figures.iqm_curves(each))
    scores, better = list(tables.rows(compared)), list(tables.improvements(compared))
    per_task = list(tables.task_rows(tasks, group.methods))
    folder.write(f"{group.table}.md", tables.as_markdown(group.title, scores, better, per_task))
    folder.write(f"{group.table}.csv", tables.as_csv(scores))
    folder.write(f"tasks{ending}.csv", tables.as_csv(per_task))
    if better:
        folder.draw(f"improvement{ending}", figures.improvement_figure(better))
        folder.write(f"improvement{ending}.csv", tables.as_csv(better))


def warn(tasks: list[Task], found: list[SavedRun], diverged: dict) -> None:
    """What makes a comparison weaker than it looks."""
    for task, by_method in diverged.items():
        for method, steps in by_method.items():
            names = ", ".join(f"{name} at step {step:,}" for name, step in steps.items())
            note(f"{method} on {task} diverged: {names}; from there on the curve is that of the last good weights")
    fewest = min(curves.seeds for task in tasks for curves in task.curves.values())
    floor = tables.FLOOR_OF_SEEDS
    if fewest < floor:
        note(f"only {fewest} seed{'s' * (fewest > 1)} in places: intervals from fewer than {floor} say little")
    unfinished = [run for run in found if not run.is_finished()]
    if unfinished:
        note(f"{len(unfinished)} of {len(found)} runs are not finished, such as {unfinished[0].folder}")
    for task in tasks:
        ends = {int(curves.steps[-1]) for curves in task.curves.values()}
        if len(ends) > 1:
            steps = ", ".join(f"{name} {int(curves.steps[-1]):,}" for name, curves in task.curves.items())
            note(f"{task.name}: final scores are after different numbers of steps ({steps})")
