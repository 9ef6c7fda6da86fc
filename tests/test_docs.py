"""The pages: what they link to exists."""

import re
from pathlib import Path

import pytest

import torch_mars.envs as envs

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "results", "benchmarks") for page in (ROOT / folder).rglob("*.md")),
    ]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not missing


def test_the_readme_lists_the_environments_and_only_tasks_that_there_are():
    table = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ") and "`" in line]
    rows = [line for line in table if "`_" in line or "in all" in line]
    found = {}
    for row in rows:
        first, *more = re.findall(r"`(\w+)`", row)
        stem = first.rpartition("_")[0]
        found[envs.family(first)] = [first, *(stem + name if name.startswith("_") else name for name in more)]
    assert found.keys() == envs.ENVIRONMENTS.keys()
    for family, names in found.items():
        assert set(names) <= set(envs.ENVIRONMENTS[family]), names
        assert len(names) == len(envs.ENVIRONMENTS[family]) or family in ("rware", "smax")
