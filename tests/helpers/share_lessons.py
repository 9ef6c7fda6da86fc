"""Write the part of mars.py that all lessons share into the other lessons, so that an edit is made once.

python tests/helpers/share_lessons.py     # writes torch_mars/algos/mappo.py and maspo.py, examples/mechanism/tails.py
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LESSONS = ROOT / "torch_mars" / "algos"
SOURCE = LESSONS / "mars.py"
# lesson -> what it imports in another way
OTHERS = {
    LESSONS / "mappo.py": (),
    LESSONS / "maspo.py": (),
    ROOT / "examples" / "mechanism" / "tails.py": (
        ("from dataclasses import dataclass, field\n", "import math\nfrom dataclasses import dataclass\n"),
    ),
}
# In every lesson, text of its own and shared text take turns, parted by these lines, which belong to the latter.
BORDERS = (
    r'^ALGORITHM = "\w+"\n',
    r"^@dataclass\nclass Args\(RunArgs\):\n",
    r"^    # ---- the same in every lesson from here to the objective ----\n",
    r"^# ---- the objective: where the three lessons differ ----\n",
    r"^# ---- the same in every lesson from here to the end ----\n",
)


def parted(text: str) -> list[tuple[str, str]]:
    """A lesson as (own, shared) texts: docstring, imports; name, Args; own arguments, the others; objective, rest."""
    docstring = text.index('"""\n', 3) + 4
    name, args, same, objective, end_of_own = (re.search(border, text, re.M) for border in BORDERS)
    return [
        (text[:docstring], text[docstring : name.start()]),
        (name[0], text[name.end() : args.end()]),
        (text[args.end() : same.start()], text[same.start() : objective.end()]),
        (text[objective.end() : end_of_own.start()], text[end_of_own.start() :]),
    ]


def shared(text: str) -> str:
    """What a lesson has in common with the others."""
    return "".join(part for _, part in parted(text))


def with_shared_part_of(source: str, own: str, imports: tuple[tuple[str, str], ...] = ()) -> str:
    """The lesson `own` with the shared text of `source`, but for some imports."""
    text = "".join(mine + common for (mine, _), (_, common) in zip(parted(own), parted(source)))
    for theirs, ours in imports:
        text = text.replace(theirs, ours, 1)
    return text


def main() -> None:
    source = SOURCE.read_text()
    for path, imports in OTHERS.items():
        text = path.read_text()
        new = with_shared_part_of(source, text, imports)
        path.write_text(new)
        print(f"{path}: {'written' if new != text else 'unchanged'}")


if __name__ == "__main__":
    main()
