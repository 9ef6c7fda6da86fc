"""The pages: what they link to exists."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

import torch_mars
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


def test_the_notebook_is_kept_without_outputs():
    """Whoever reads it runs it, and a nightly test does."""
    cells = json.loads((ROOT / "examples/first_team.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 8 and not any(cell["outputs"] or cell["execution_count"] for cell in code)
    for cell in code:
        ast.parse("".join(cell["source"]))
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        assert (ROOT / "examples" / link).exists(), link


def test_one_version_everywhere():
    """In the package, where it is cited, and in the changelog."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == torch_mars.__version__ and cited["cff-version"] == "1.2.0"
    assert f"\n## {torch_mars.__version__}" in (ROOT / "CHANGELOG.md").read_text()
