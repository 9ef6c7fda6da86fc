"""Many runs read together: their evaluations by task and method.

The evaluations of any number of runs make one dictionary in marl-eval's nesting, `{environment: {task: {method:
{run_<seed>: {step_<i>: {step_count, elapsed_time, episode_return: [...]}, absolute_metrics: {...}}}}}}` (Gorsane et
al. 2022), which `save` writes and marl-eval reads. Figures and tables are made from it and nothing else, but for the
figure of ratios: their extremes over training make a second one, `{task: {method: {run_<seed>: {step, ratio_max,
ratio_min: [...]}}}}`.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from torch_mars import envs
from torch_mars.nn.diagnostics import QUANTILES
from torch_mars.protocol import intervals, methods
from torch_mars.protocol.saved import Nested, SavedRun, find_runs, read_json, read_nested, steps_of, walk
from torch_mars.run.cli import UsageError, note, short
from torch_mars.run.files import to_json, write_whole
from torch_mars.run.settings import NOT_SETTINGS, is_about

RATIOS, LABELS, DIAGNOSTICS, DIVERGED = "ratios.json", "labels.json", "diagnostics.json", "diverged.json"
MECHANISM = ("frac_no_force", *QUANTILES, "entropy", "approx_kl")  # what `plot --diagnostics` shows
RATIO_BINS = 100  # points of a run's ratios; it has thousands of updates
# Settings in which the runs of one curve may differ; in all others they are different experiments.
MAY_DIFFER = (
    "seed",
    "num_seeds",
    "name",
    "run_dir",
    "device",
    "track",
    "keep_every",
    "film_every",
    "cuda_graphs",
    "compile",
    "checkpoint_every",
    "eval_every",
    "eval_episodes",
)
Place = tuple[str, str, str, str]  # environment, task, method and run_<seed>
Ratios = dict[str, dict[str, dict[str, dict[str, list[float]]]]]


def deciding(args: Any) -> dict[str, Any]:
    """The settings, of a lesson's `Args`, in which two runs must be alike to be the same experiment."""
    return {k: v for k, v in asdict(args).items() if k not in (*MAY_DIFFER, *NOT_SETTINGS)}


def gather(paths: Iterable[str | Path], seeds: Collection[int] | None = None) -> tuple[Nested, list[SavedRun]]:
    """The evaluations of runs, of folders of runs and of `evaluations.json` files that `save` wrote; and the runs.

    Within a method and task every seed counts once: of two runs of a seed, the one that got further.

    Args:
        seeds: of runs, those that count; None: all.

    Raises:
        UsageError: nothing to read, no evaluations, or runs that are different experiments under one name.
    """
    nested: Nested = {}
    folders = []
    for path in map(Path, paths):
        if path.is_file() and path.suffix == ".json" and not (path.parent / "config.yaml").exists():
            read = read_nested(path)
            _tell_of_strangers(path, read)
            for environment, task, method, name, run in walk(read):
                if not steps_of(run):
                    note(f"{path}: {short(name)} of {short(method)} on {short(task)} is left out: no evaluations")
                    continue
                methods.guest(method)
                _add(nested, (environment, task, method), name, run)
        else:
            folders.append(path)
    found = find_runs(folders)
    _refuse_different_settings(found)
    used: list[tuple[SavedRun, list[Place]]] = []
    owners: dict[Place, SavedRun] = {}
    for run in found:
        evaluations = {name: one for name, one in run.evaluations().items() if steps_of(one)}
        if not evaluations:
            note(f"{run.folder} has no evaluations yet and is left out")
            continue
        of_cell = run.family, run.task, run.method.name
        for name, one in evaluations.items():
            if (seeds is None or int(name.removeprefix("run_")) in seeds) and _add(nested, of_cell, name, one):
                owners[*of_cell, name] = run
        used.append((run, [(*of_cell, name) for name in evaluations]))
    if not nested:
        raise UsageError(f"no evaluations in {', '.join(map(str, paths))}: train first, or longer than --eval-every")
    return nested, _counting(used, owners)


def _tell_of_strangers(path: Path, nested: Nested) -> None:
    """Methods and tasks that may be somebody's own, or misspelt."""
    for name in dict.fromkeys(method for _, _, method, _, _ in walk(nested)):
        if name not in methods.names():
            note(f"{path}: method {short(name)!r} is not known here and gets a look of its own")
    for environment, task in dict.fromkeys((environment, task) for environment, task, *_ in walk(nested)):
        if task not in envs.tasks() or envs.family(task) != environment:
            note(f"{path}: task {short(task)!r} of environment {short(environment)!r} is not known here")


def _counting(used: list[tuple[SavedRun, list[Place]]], owners: dict[Place, SavedRun]) -> list[SavedRun]:
    """Runs without the seeds of which another counts; of those with none left nothing."""
    counting = []
    for run, places in used:
        lost = {name for *_, name in (place for place in places if owners.get(place) is not run)}
        if len(lost) < len(places):
            counting.append(replace(run, left_out=frozenset(seed for seed in run.seeds if f"run_{seed}" in lost)))
    return counting


def _add(nested: Nested, place: tuple[str, str, str], name: str, run: dict[str, Any]) -> bool:
    """Whether it counts: of two of one name it is the one that got further."""
    environment, task, method = place
    runs = nested.setdefault(environment, {}).setdefault(task, {}).setdefault(method, {})
    if name in runs:
        note(f"{name} of {method} on {task} is there twice; the one that got further counts")
        if _progress(run) < _progress(runs[name]):
            return False
    absolute = {"absolute_metrics": run["absolute_metrics"]} if run.get("absolute_metrics") else {}
    runs[name] = {**{step: run[step] for step in steps_of(run)}, **absolute}  # marl-eval stumbles over an empty one
    return True


def _progress(run: dict[str, Any]) -> tuple[float, bool, int]:
    """How far a run got: its last step, whether its best policy was measured again at the end, its evaluations."""
    steps = steps_of(run)
    return max(run[step]["step_count"] for step in steps), bool(run.get("absolute_metrics")), len(steps)


def _refuse_different_settings(found: list[SavedRun]) -> None:
    first: dict[tuple[str, str], SavedRun] = {}
    for run in found:
        other = first.setdefault((run.task, run.method.name), run)
        for name in run.settings.keys() | other.settings.keys():
            ours, theirs = run.setting(name), other.setting(name)
            if name not in MAY_DIFFER and not is_about(name, ours or theirs) and ours != theirs:
                raise UsageError(
                    f"{other.folder} and {run.folder} are both {run.method.label} on {run.task}, but of different "
                    f"experiments ({name} is {theirs} and {ours}); give the runs of one"
                )


def save(content: Nested | Ratios | dict[str, str], path: Path) -> None:
    """Write evaluations as the JSON that marl-eval and `gather` read; or ratios, or labels, as read from beside it."""
    write_whole(path, to_json(content).encode())


def only_means(nested: Nested) -> Nested:
    """The same with one number for each evaluation's metric, to six digits: its mean over the episodes."""
    result: Nested = {}
    for environment, task, method, name, run in walk(nested):
        place = result.setdefault(environment, {}).setdefault(task, {}).setdefault(method, {})
        place[name] = {
            step: {
                metric: [float(f"{np.mean(values):.6g}")] if isinstance(values, list) else values
                for metric, values in evaluation.items()
            }
            for step, evaluation in run.items()
        }
    return result


def gather_ratios(paths: Iterable[str | Path], found: Iterable[SavedRun]) -> Ratios:
    """Extremes of the ratios over the training of `found`, and those saved beside the `evaluations.json` in `paths`.

    Raises:
        UsageError: a saved file is damaged.
    """
    ratios: Ratios = {}
    for path in (Path(path).with_name(RATIOS) for path in paths if Path(path).suffix == ".json"):
        if path.is_file():
            for task, by_method in _read_ratios(path).items():
                for method, by_seed in by_method.items():
                    ratios.setdefault(task, {}).setdefault(method, {}).update(by_seed)
    for run in found:
        for seed, rows in run.updates_of(("ratio_max", "ratio_min")).items():
            place = ratios.setdefault(run.task, {}).setdefault(run.method.name, {})
            place[f"run_{seed}"] = _binned_ratios(*rows.T)
    return ratios


def labels_of(paths: Iterable[str | Path], found: Iterable[SavedRun]) -> dict[str, str]:
    """What methods of these runs are called other than usual, {} or MARS's with one target; with what is saved beside
    the `evaluations.json` in `paths`.

    Raises:
        UsageError: a saved file is damaged.
    """
    labels: dict[str, str] = {}
    for path in (Path(path).with_name(LABELS) for path in paths if Path(path).suffix == ".json"):
        if path.is_file():
            content = read_json(path)
            if not isinstance(content, dict) or not all(isinstance(label, str) for label in content.values()):
                raise UsageError(f"{path} is no file of labels that torch_mars.plot wrote")
            labels |= content
    for name, label in methods.INVERSE_LABELS.items():
        are_inverse = [methods.has_inverse_targets(run.settings) for run in found if run.method.name == name]
        if are_inverse and all(are_inverse):
            labels[name] = label
        elif are_inverse:
            labels.pop(name, None)
            if any(are_inverse):
                it = methods.METHODS[name].label
                note(f"{it} has two targets in some runs and r* and 1/r* in others: two methods under one name")
    return labels


def _read_ratios(path: Path) -> Ratios:
    """Ratios may be infinite where one overflowed in training; texts in the file, as JSON has no infinity."""
    try:
        content = read_json(path)
        ratios: Ratios = {}
        for task, by_method in content.items():
            for method, by_seed in by_method.items():
                for name, line in by_seed.items():
                    columns = {key: np.array(line[key], float) for key in ("step", "ratio_max", "ratio_min")}
                    if np.isnan(list(columns.values())).any() or (np.diff(columns["step"], prepend=-1) <= 0).any():
                        raise ValueError
                    if not columns["step"].size:
                        raise ValueError
                    place = ratios.setdefault(task, {}).setdefault(method, {})
                    place[name] = {key: column.tolist() for key, column in columns.items()}
    except (UsageError, AttributeError, KeyError, TypeError, ValueError):
        raise UsageError(f"{path} is no file of ratios that torch_mars.plot wrote") from None
    return ratios


def gather_diverged(paths: Iterable[str | Path], found: Iterable[SavedRun]) -> dict[str, dict[str, dict[str, int]]]:
    """The steps at which seeds diverged: {task: {method: {run_<seed>: step}}}; with those saved beside the evaluations.

    Raises:
        UsageError: a saved file is damaged.
    """
    diverged: dict[str, dict[str, dict[str, int]]] = {}
    for path in (Path(path).with_name(DIVERGED) for path in paths if Path(path).suffix == ".json"):
        if path.is_file():
            try:
                for task, by_method in read_json(path).items():
                    for method, steps in by_method.items():
                        steps = {name: int(step) for name, step in steps.items()}
                        diverged.setdefault(task, {}).setdefault(method, {}).update(steps)
            except (AttributeError, TypeError, ValueError):
                raise UsageError(f"{path} is no file of diverged seeds that torch_mars.plot wrote") from None
    for run in found:
        for seed, update in run.diverged().items():
            step = update * run.settings["rollout_length"] * run.setting("num_envs")
            diverged.setdefault(run.task, {}).setdefault(run.method.name, {})[f"run_{seed}"] = step
    return diverged


def gather_diagnostics(found: Iterable[SavedRun]) -> Ratios:
    """The mechanism over the training of `found`, in hundredths: {task: {method: {run_<seed>: {step, <name>: [...]}}}}.

    Runs that logged none of it (of a version before) are left out.
    """
    diagnostics: Ratios = {}
    for run in found:
        for seed, rows in run.updates_of(MECHANISM).items():
            place = diagnostics.setdefault(run.task, {}).setdefault(run.method.name, {})
            ends, starts = _bins(rows[:, 0])
            counts = np.diff(np.append(starts, len(rows)))
            means = np.add.reduceat(rows[:, 1:], starts) / counts[:, None]
            columns = {name: [float(f"{x:.6g}") for x in means[:, i]] for i, name in enumerate(MECHANISM)}
            place[f"run_{seed}"] = {"step": ends.tolist(), **columns}
    return diagnostics


def _bins(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last step [bins] and the first update [bins] of each hundredth of training, or of every update."""
    edges = np.linspace(0, step[-1], min(RATIO_BINS, len(step)) + 1)[1:]
    starts = np.unique(np.searchsorted(step, np.concatenate([[0], edges[:-1]]), side="right"))
    return step[np.append(starts[1:], len(step)) - 1], starts


def _binned_ratios(step: np.ndarray, largest: np.ndarray, smallest: np.ndarray) -> dict[str, list[float]]:
    """The extremes within each hundredth of training, or of every update where there are fewer."""
    ends, starts = _bins(step)
    values = (ends, np.maximum.reduceat(largest, starts), np.minimum.reduceat(smallest, starts))
    return {
        name: [float(f"{number:.7g}") if name != "step" else number for number in column.tolist()]
        for name, column in zip(("step", "ratio_max", "ratio_min"), values)
    }


# ---- curves ----


@dataclass(frozen=True)
class Curves:
    """The seeds of one method on one task."""

    steps: np.ndarray  # [points] environment steps
    returns: np.ndarray  # [seeds, points] mean over the episodes of an evaluation
    final: np.ndarray  # [seeds] mean over the last fifth of the evaluations
    absolute: np.ndarray | None  # [seeds] the best policy measured again; None where a seed lacks it

    @property
    def seeds(self) -> int:
        return len(self.returns)


def curves(runs: dict[str, dict[str, Any]]) -> Curves:
    """`run_<seed>` -> evaluations, as curves over common steps.

    Where seeds were evaluated at different steps, curves are interpolated linearly over the range that all of them
    cover; where the steps are the same, as within an experiment, nothing is changed.
    """
    per_seed = [evaluation_means(run) for run in runs.values()]
    grid, returns = on_common_steps(per_seed)
    absolute = [run["absolute_metrics"]["episode_return"] for run in runs.values() if run.get("absolute_metrics")]
    return Curves(
        steps=grid,
        returns=np.stack(returns),
        final=np.array([intervals.final_score(returns) for _, returns in per_seed]),
        absolute=np.array([np.mean(a) for a in absolute]) if len(absolute) == len(runs) else None,
    )


def evaluation_means(run: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Steps [points] and the mean return of each evaluation [points] of one `run_<seed>`."""
    evaluations = sorted((run[name] for name in steps_of(run)), key=lambda evaluation: evaluation["step_count"])
    steps = np.array([evaluation["step_count"] for evaluation in evaluations], float)
    return steps, np.array([np.mean(evaluation["episode_return"]) for evaluation in evaluations])


def on_common_steps(lines: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Curves (steps [points], values [..., points]), interpolated at all steps within the range that all cover."""
    low, high = max(steps[0] for steps, _ in lines), min(steps[-1] for steps, _ in lines)
    everywhere = np.unique(np.concatenate([steps for steps, _ in lines]))
    grid = everywhere[(low <= everywhere) & (everywhere <= high)]
    if not len(grid):  # one ended before another's first evaluation
        grid = np.array([low])
    return grid, [np.apply_along_axis(lambda v, s=s: np.interp(grid, s, v), -1, values) for s, values in lines]
