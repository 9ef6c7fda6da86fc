"""What comments in written pages become on the site, so that nothing is written twice.

| in a page | becomes |
|---|---|
| `<!-- section README.md: How to read the lessons -->` | that section of another page, without its heading |
| `<!-- source torch_mars/algos/mars.py: policy_objective -->` | a function of a file, as it stands there |
| `<!-- diff torch_mars/algos/mars.py: torch_mars/algos/mappo.py -->` | what differs between two files |
| `<!-- objective mars -->` | a lesson's objective and its pull at some ratios, computed by the lesson |
"""

import ast
import difflib
import re

import repository
import torch
from repository import LINK, ROOT, fenced

from torch_mars import algos

COMMENT = re.compile(r"^<!-- (section|source|diff|objective) ([^:\n]+?)(?:: ([^\n]+?))? -->$", re.M)
RATIOS = (0.05, 0.2, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 5.0)


def filled(page: str, text: str) -> str:
    """The page's Markdown with its comments filled.

    Raises:
        ValueError: a comment that names nothing.
    """
    kinds = {"section": section, "source": source, "diff": diff, "objective": objective}
    return COMMENT.sub(lambda comment: kinds[comment[1]](page, comment[2], comment[3]), text)


def section(page: str, other: str, heading: str) -> str:
    text = (ROOT / other).read_text()
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.M | re.S)
    if found is None:
        raise ValueError(f"{page}: {other} has no section {heading!r}")

    def moved(link: re.Match) -> str:
        name = repository.target(other, link[2])
        return f"{link[1]}{repository.relative(page, name)}{link[3]}" if name else link[0]

    return LINK.sub(moved, found[2].strip())


def source(page: str, name: str, function: str) -> str:
    text = (ROOT / name).read_text()
    for node in ast.parse(text).body:
        if getattr(node, "name", None) == function:
            return fenced(ast.get_source_segment(text, node), "python")
    raise ValueError(f"{page}: {name} has no {function}")


def diff(page: str, one: str, other: str) -> str:
    lines = ((ROOT / name).read_text().splitlines() for name in (one, other))
    return fenced("\n".join(difflib.unified_diff(*lines, one, other, n=1, lineterm="")), "diff")


def objective(page: str, method: str, _: None) -> str:
    """J and dJ / dlog r at some ratios, for A = 1 and A = -1, with the lesson's default trust region."""
    lesson = algos.lesson(method)
    rows = ["| r | J, A = 1 | pull, A = 1 | J, A = -1 | pull, A = -1 |", "|--:|--:|--:|--:|--:|"]
    log_ratio = torch.tensor(RATIOS, dtype=torch.float64).log()
    columns = [RATIOS]
    for advantage in (1.0, -1.0):
        place = log_ratio.clone().requires_grad_()
        value = lesson.policy_objective(place, torch.full_like(place, advantage), lesson.Args())
        columns += [value.tolist(), torch.autograd.grad(value.sum(), place)[0].tolist()]
    for row in zip(*columns):
        rows.append("| " + " | ".join(f"{number:.4g}" if abs(number) > 1e-9 else "0" for number in row) + " |")
    return "\n".join(rows)
