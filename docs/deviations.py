"""Where the settings of `yaml/` deviate from the paper's preset, read from the files themselves.

    python docs/deviations.py            # writes docs/deviations.md

Of every environment, task and method the settings that training would have without any flag, against those of
`--preset paper`: one line per setting and value. Lengths of training are not compared: they are the budgets'. What
holds for a method holds for it with memory, too.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from torch_mars import algos, envs
from torch_mars.run import settings
from torch_mars.run.files import read_yaml

PAGE = Path(__file__).with_suffix(".md")
HEADING = """# Where ours deviates from the paper

Made from `yaml/` by `python docs/deviations.py`. `--preset paper` has the right-hand values: "paper" where its Table 3
fixes them, "Mava" where it is silent and Mava's default of October 2024 stands, "reading" where both leave room,
"matched" for the trust regions: Mava's clip and its strength in the others. Without the preset, training has the
left-hand ones.

| setting | ours | preset | source | where |
|---|---|---|---|---|
"""


LESSONS = [lesson for lesson in map(algos.lesson, algos.LESSONS) if lesson.ALGORITHM in algos.algorithms(lesson)]


def sources() -> dict[str, str]:
    """Where the preset has each setting from; trust regions: matched."""
    content = read_yaml(settings.YAML_DIRECTORY / "preset_paper.yaml")
    named = {"paper": "paper", "mava": "Mava", "reading": "reading"}
    return {name: label for section, label in named.items() for name in content[section]}


def deviations() -> Iterator[tuple[str, object, object, str, str]]:
    """(setting, ours, preset's, lesson, task) of every task and lesson where the two differ."""
    for lesson in LESSONS:
        preset = settings.preset_settings(lesson.Args, "paper", lesson.ALGORITHM)
        for task in envs.TASKS:
            ours = settings.family_settings(lesson.Args, task, lesson.ALGORITHM)
            for name in {**ours, **preset}:
                default = getattr(lesson.Args, name)
                mine, theirs = ours.get(name, default), preset.get(name, default)
                if name != "total_steps" and mine != theirs:
                    yield name, mine, theirs, lesson.ALGORITHM, task


def where(places: set[tuple[str, str]]) -> str:
    """Lessons and tasks in words: whole environments by their names."""
    lessons = sorted({lesson for lesson, _ in places})
    tasks = {task for _, task in places}
    words = []
    for family, own in envs.ENVIRONMENTS.items():
        here = [task for task in own if task in tasks]
        words += [envs.title(family)] if len(here) == len(own) else here
    everywhere = "everywhere" if len(tasks) == len(envs.TASKS) else ", ".join(words)
    return everywhere if len(lessons) == len(LESSONS) else f"{', '.join(lessons)}: {everywhere}"


def page() -> str:
    rows: dict[tuple, set[tuple[str, str]]] = {}
    for name, mine, theirs, lesson, task in deviations():
        rows.setdefault((name, mine, theirs), set()).add((lesson, task))
    source = sources()
    lines = [
        f"| `{name}` | {shown(mine)} | {shown(theirs)} | {source.get(name, 'matched')} | {where(places)} |"
        for (name, mine, theirs), places in sorted(rows.items(), key=lambda row: (row[0][0], -len(row[1])))
    ]
    return HEADING + "\n".join(lines) + "\n"


def shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(page())
