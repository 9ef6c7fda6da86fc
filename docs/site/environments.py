"""One page an environment, made from what its folder says: docstrings, options, tasks, and what was measured of it."""

import ast
import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import repository
from repository import ROOT, fenced

from torch_mars import envs
from torch_mars.envs.core import BatchedEnv
from torch_mars.envs.options import shown
from torch_mars.run.finding import TEAMS

MEASURED = ROOT / "results" / "gpu" / "h200"
TEAMS_FILE = "docs/teams.json"
PICTURES = "docs/pictures"
AXES = (
    "Shapes are those of one environment: N agents, and what else the page names. In a batch of B environments "
    "(`envs.make`) each has a leading B."
)


def pages() -> dict[str, str]:
    return {"environments/README.md": overview()} | {page_name(name): page(name) for name in envs.ENVIRONMENTS}


def page_name(family: str) -> str:
    return f"environments/{family}.md"


def page(family: str) -> str:
    name, sentence, rest = described(family)
    folder = f"../torch_mars/envs/{family}"
    files = ", ".join(f"[{path.name}]({folder}/{path.name})" for path in sources(family))
    first = next(iter(installed(family)), envs.ENVIRONMENTS[family][0])
    parts = [
        f"# {name}",
        sentence,
        picture(family),
        rest,
        AXES,
        "## Tasks",
        task_table(tasks_of(family)),
        star_explained(family),
        "## Train, and use",
        fenced(f"torch-mars train mars --env {first}\ntorch-mars play {first}", "bash"),
        fenced(
            f'import torch_mars.envs as envs\n\nenv = envs.make("{first}", num_envs=64)\nts = env.reset()', "python"
        ),
        f"Settings of its trainings: [{family}.yaml](../yaml/{family}.yaml).",
        *team_section(family),
        "## Options",
        f"{inspect.getdoc(options_of(family))} On the command line: `--env-options '{{max_steps: 50}}'`.",
        options_table(family),
        *speed_section(family),
        "## Source",
        f"{files}: the rules are `env.py` from top to bottom. Beside them stand `loops.py`, the same as loops, "
        "and `draw.py`, the pictures.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def overview() -> str:
    """All tasks on one page."""
    parts = [
        "# All tasks",
        f"The {len(envs.TASKS)} tasks of the benchmark, in {len(envs.ENVIRONMENTS)} environments, and extensions of it "
        "(*). All numbers are those of `envs.make(task)`: what an agent sees, what the critic sees, the actions of an "
        "agent, the length of an episode that nothing ends sooner.",
    ]
    for family in envs.ENVIRONMENTS:
        name, sentence, _ = described(family)
        parts += [f"## [{name}]({family}.md)", sentence, task_table(tasks_of(family))]
    return "\n\n".join(parts) + "\n"


def sources(family: str) -> list[Path]:
    """The files that explain an environment, its rules first."""
    folder = ROOT / "torch_mars" / "envs" / family
    others = {path.name for path in folder.glob("*.py") if not path.name.endswith("loops.py")}
    others -= {"__init__.py", "env.py", "task.py", "draw.py"}
    return [folder / name for name in ("env.py", "task.py", *sorted(others))]


# ---- what the docstrings say ----


def described(family: str) -> tuple[str, str, str]:
    """Name, first sentence and the rest of an environment's docstring, as Markdown."""
    text = ast.get_docstring(ast.parse(sources(family)[0].read_text()))
    first, _, rest = text.partition("\n\n")
    name, _, sentence = first.partition(": ")
    return name, capital(sentence), with_whole_tables(rest)


def with_whole_tables(text: str) -> str:
    """Docstrings break long cells over rows and leave out the heads of lists of names; Markdown has neither."""
    blocks = groupby(text.split("\n"), key=lambda line: line.startswith("|"))
    return "\n".join("\n".join(whole_table(list(lines)) if is_table else lines) for is_table, lines in blocks)


def whole_table(lines: list[str]) -> list[str]:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    has_head = len(rows) > 1 and set("".join(rows[1])) <= set("-: ")
    head, body = (rows[0], rows[2:]) if has_head else (["name", "meaning"], rows)
    whole: list[list[str]] = []
    for row in body:
        if row[0] or not whole:
            whole.append(row)
        else:  # goes on with the row above; where it has a shape of its own, on a line of its own
            joint = "<br>" if any(row[1:-1]) else " "
            whole[-1] = [above + (joint + cell if cell else "") for above, cell in zip(whole[-1], row)]
    return [bar(head), bar("---" for _ in head), *map(bar, whole)]


def bar(cells) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def picture(family: str) -> str:
    """The film of the installed team where there is one, else a drawn situation; and what `draw.py` says is in it."""
    film, drawn = ROOT / f"docs/{family}.gif", ROOT / PICTURES / f"{family}.png"
    path = film if film.exists() else drawn
    caption = capital(
        ast.get_docstring(ast.parse(sources(family)[0].with_name("draw.py").read_text())).partition(": ")[2]
    )
    link = repository.relative(page_name(family), repository.name_of(path))
    return f"![{caption}]({link})\n{{.picture}}\n\n*{caption}*"


def capital(sentence: str) -> str:
    sentence = " ".join(sentence.split())
    return sentence[0].upper() + sentence[1:]


# ---- what the code says ----


def tasks_of(family: str) -> list[str]:
    return [task for task in envs.tasks() if envs.family(task) == family]


def task_table(tasks: list[str]) -> str:
    rows = [bar(("task", "agents", "observation", "global state", "actions", "steps", "options"))]
    rows.append("|---|--:|--:|--:|---|--:|---|")
    for task in tasks:
        env = envs.make(task)
        options = ", ".join(f"{name}={value}" for name, value in envs.task_options(task).items())
        star = "" if task in envs.TASKS else " \\*"
        sizes = env.num_agents, env.observation_size, env.state_size, actions_of(env), env.max_steps
        rows.append(bar((f"`{task}`{star}", *sizes, options)))
    return "\n".join(rows)


def star_explained(family: str) -> str:
    has_extensions = any(task not in envs.TASKS for task in tasks_of(family))
    return "\\* An extension, outside the 47 tasks of the benchmark." if has_extensions else ""


def actions_of(env: BatchedEnv) -> str:
    space = env.action_space
    if hasattr(space, "n"):
        is_masked = type(env).action_mask is not BatchedEnv.action_mask
        return f"{space.n}, masked" if is_masked else str(space.n)
    bounds = dict.fromkeys(f"[{low:.4g},&nbsp;{high:.4g}]" for low, high in zip(space.low, space.high))
    return f"{space.shape[0]} numbers in {' and '.join(bounds)}"


def options_of(family: str) -> type:
    return envs.environment_class(envs.ENVIRONMENTS[family][0]).Options


def options_table(family: str) -> str:
    """Name, default and the comment beside it, of every option."""
    options = options_of(family)
    comments = dict(re.findall(r"^    (\w+): [^#\n]*(?:# (.*))?$", inspect.getsource(options), re.M))
    rows = [bar(("option", "default", "meaning")), "|---|---|---|"]
    for field in dataclasses.fields(options):
        rows.append(bar((f"`{field.name}`", f"`{shown(field.default)}`", comments.get(field.name, ""))))
    return "\n".join(rows)


# ---- what was measured ----


def installed(family: str) -> list[str]:
    """Its tasks with a team that comes with the package."""
    return [task for task in tasks_of(family) if (TEAMS / f"{task}.pt").exists()]


def team_section(family: str) -> Iterator[str]:
    """The installed teams of an environment."""
    file = ROOT / TEAMS_FILE
    measured = json.loads(file.read_text()) if file.exists() else {}
    for task in installed(family):
        if task not in measured:
            raise ValueError(f"{TEAMS_FILE} lacks the installed team {task}: run `python docs/teams.py`")
        team = measured[task]
        rows = [bar(("of an episode", "mean [95% interval]", "median", "above 0 in")), "|---|---|--:|--:|"]
        for name, metric in team["metrics"].items():
            interval = f"{metric['mean']:.2f} [{metric['low']:.2f}, {metric['high']:.2f}]"
            rows.append(bar((name, interval, f"{metric['median']:.2f}", f"{metric['share_above_0']:.0%}")))
        yield f"## The installed team: {task}"
        yield (
            f"Trained with {team['algorithm'].upper()}; `torch-mars play {task}` shows it, "
            f'`torch_mars.load_policy("{task}")` loads it. {team["episodes"]} episodes (`{team["command"]}`):'
        )
        yield "\n".join(rows)


def speed_section(family: str) -> Iterator[str]:
    """The benchmarks' numbers of environment steps, with the machines they are of."""
    yield "## Speed"
    yield "Environment steps a second, of all environments together, with random actions."
    machine = json.loads((MEASURED / "machine.json").read_text().splitlines()[0])
    rows = [json.loads(line) for line in (MEASURED / "environments.json").read_text().splitlines()]
    rows = [
        bar((row["task"], f"{row['num_envs']:,}", f"{row['steps_per_second']:,.0f}"))
        for row in rows
        if envs.family(row["task"]) == family
    ]
    if rows:
        yield f"One {machine['device']}, {machine['date']}, torch {machine['torch']} (`{machine['command']}`):"
        yield "\n".join([bar(("task", "environments", "steps/s")), "|---|--:|--:|", *rows])
    yield from measured_in("benchmarks/README.md", tasks_of(family))
    yield "More, and how it was measured: [benchmarks](../benchmarks/README.md)."


def measured_in(name: str, tasks: list[str]) -> Iterator[str]:
    """A page's tables of environment steps ("ours", or "loops" of one environment), cut to the rows of these tasks.

    Before each stand the machine, which the first paragraph of its section tells, and its caption.
    """
    machine, told, before = "", "", ""
    for block in (ROOT / name).read_text().split("\n\n"):
        if before.startswith("#"):
            machine = block
        if block.startswith("|"):
            head, _, *rows = ([cell.strip() for cell in row.strip("|").split("|")] for row in block.split("\n"))
            for columns in halves(head):
                heads = [head[i] for i in columns]
                mine = [bar(row[i] for i in columns) for row in rows if row[columns[heads.index("task")]] in tasks]
                if mine:
                    if told != machine:
                        yield machine
                    yield before
                    yield "\n".join([bar(heads), bar("---" for _ in heads), *mine])
                    told = machine
        before = block


def halves(head: list[str]) -> list[list[int]]:
    """Columns of the tables about environment steps that stand side by side, parted by a column without a name."""
    gaps = [-1, *(i for i, cell in enumerate(head) if not cell), len(head)]
    parts = [list(range(start + 1, end)) for start, end in zip(gaps, gaps[1:])]
    names = [{head[i] for i in part} for part in parts]
    return [part for part, named in zip(parts, names) if "task" in named and named & {"ours", "loops"}]
