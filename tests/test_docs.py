"""The pages: what they link to exists; and the site made of them, which is built here as its readers get it."""

import ast
import html.parser
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import types
import urllib.parse
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from mkdocs.exceptions import PluginError

import torch_mars
import torch_mars.envs as envs
from torch_mars import algos
from torch_mars.__main__ import COMMANDS
from torch_mars.envs.rware.task import SIZES
from torch_mars.envs.smax.scenarios import UNIT_TYPES
from torch_mars.run.finding import TEAMS

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


# ---- the site ----


class Content(html.parser.HTMLParser):
    """Of one page: ids, links, what the browser loads, the cells of tables by rows, and all text that is no code."""

    def __init__(self, page: Path):
        super().__init__()
        self.ids, self.links, self.loaded, self.rows, self.words = set(), [], [], [], []
        self._inside = []
        self.feed(page.read_text())
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.add(found.get("id"))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        self.loaded += [found[key] for key in ("src", "srcset") if key in found]
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(found["href"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag in ("code", "script", "style", "math", "td", "th"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data):
        if {"td", "th"} & set(self._inside):
            self.rows[-1][-1] += data
        elif not self._inside:
            self.words.append(data)


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> dict[str, Content]:
    """Address within the site -> page; built strictly, once for all processes that test."""
    parent = tmp_path_factory.getbasetemp()
    folder = (parent.parent if "PYTEST_XDIST_WORKER" in os.environ else parent) / "site"
    with FileLock(f"{folder}.lock"):
        if not (folder / "sitemap.xml").exists():
            words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
            surroundings = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
            built = subprocess.run(words, cwd=ROOT, env=surroundings, capture_output=True, text=True)
            assert built.returncode == 0, built.stdout + built.stderr
    pages = folder.rglob("*.html")
    return {f"/{page.relative_to(folder).as_posix()}": Content(page) for page in pages} | {"": folder}


def pages_of(site: dict) -> dict[str, Content]:
    return {name: page for name, page in site.items() if name}


def place(site: dict, page: str, link: str) -> str:
    """The file within the site that a link of a page means."""
    path = urllib.parse.unquote(urllib.parse.urljoin(page, urllib.parse.urlsplit(link).path or page))
    return f"{path}index.html" if path.endswith("/") else path


def is_remote(link: str) -> bool:
    return bool(urllib.parse.urlsplit(link).netloc)


def test_links_of_the_site_lead_to_pages_and_to_places_in_them(site):
    wrong = []
    for name, page in pages_of(site).items():
        for link in page.links:
            anchor = urllib.parse.unquote(urllib.parse.urlsplit(link).fragment)
            if is_remote(link) or link.startswith(("mailto:", "javascript:")) or name == "/404.html":
                continue
            target = place(site, name, link)
            if not (site[""] / target.lstrip("/")).is_file():
                wrong.append((name, link))
            elif anchor and target in site and anchor not in site[target].ids:
                wrong.append((name, link))
    assert not wrong


def test_the_site_loads_nothing_from_elsewhere_and_every_picture_is_there(site):
    for name, page in pages_of(site).items():
        for link in page.loaded:
            assert not is_remote(link), f"{name} loads {link}"
            assert link.startswith("data:") or (site[""] / place(site, name, link).lstrip("/")).is_file(), (name, link)
    for sheet in site[""].rglob("*.css"):
        assert not re.search(r"""(@import|url\()\s*["']?(https?:)?//""", sheet.read_text()), sheet


def test_lists_and_formulas_are_none_of_the_text(site):
    for name, page in pages_of(site).items():
        items = [line for line in page.text.splitlines() if line.startswith(("- ", "1. ", "2. "))]
        assert not items, f"{name}: a list without a blank line before it"
        assert not re.search(r"\$\$|\\frac|\\\(|\\\[", page.text), f"{name}: a formula is shown as it is typed"
        assert "<!-- " not in page.text


def test_every_lesson_has_a_page():
    assert set(algos.LESSONS) == {page.stem for page in (ROOT / "docs" / "lessons").glob("*.md")} - {"README"}


@pytest.mark.parametrize("lesson", algos.LESSONS)
def test_a_lesson_page_shows_formulas_and_source(site, lesson):
    page = (site[""] / f"docs/lessons/{lesson}/index.html").read_text()
    assert page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') >= 2
    text = re.sub("<[^>]*>", "", page)
    assert "def policy_objective(log_ratio: Tensor, advantage: Tensor, args" in text
    assert f"../../../torch_mars/algos/{lesson}.py/" in page
    source = re.sub("<[^>]*>", "", (site[""] / f"torch_mars/algos/{lesson}.py/index.html").read_text())
    assert f'ALGORITHM = "{lesson}"' in html.unescape(source)


def pull(lesson: str, ratio: float, advantage: float) -> tuple[float, float]:
    """J and dJ / dlog r at the lessons' defaults, from the formulas of the specification in another form."""
    sign = math.copysign(1, advantage)
    if lesson == "mars":
        place, target = math.log(ratio), sign * math.log(1.5)
        objective = abs(advantage) * (math.exp(target) - math.cosh(place - target)) / math.sinh(abs(target))
        return objective, abs(advantage) * math.sinh(target - place) / math.sinh(abs(target))
    if lesson == "maspo":
        slope = advantage - abs(advantage) / 0.5 * (ratio - 1)
        return ratio * advantage - abs(advantage) * (ratio - 1) ** 2, ratio * slope
    is_out = ratio > 1.2 if advantage > 0 else ratio < 0.8
    return (1 + 0.2 * sign if is_out else ratio) * advantage, 0 if is_out else ratio * advantage


@pytest.mark.parametrize("lesson", ["mappo", "maspo", "mars"])
def test_the_numbers_of_a_lesson_page_are_those_of_its_formula(site, lesson):
    rows = site[f"/docs/lessons/{lesson}/index.html"].rows
    start = rows.index(["r", "J, A = 1", "pull, A = 1", "J, A = -1", "pull, A = -1"]) + 1
    assert [row[0] for row in rows[start : start + 9]] == "0.05 0.2 0.5 0.8 1 1.2 1.5 2 5".split()
    for ratio, *shown in (map(float, row) for row in rows[start : start + 9]):
        if lesson == "mappo" and ratio in (0.8, 1.2):
            continue  # the edge of the range has two gradients
        expected = [*pull(lesson, ratio, 1.0), *pull(lesson, ratio, -1.0)]
        assert shown == pytest.approx(expected, rel=1e-3, abs=1e-9), ratio


@pytest.mark.parametrize(
    ("family", "row"),  # sizes by the originals
    [
        ("paxmen", ["paxmen_5a", "5", "25", "140", "5", "115", "num_agents=5"]),
        ("smax", ["smax_27m_vs_30m", "27", "738", "684", "35, masked", "101", "scenario=27m_vs_30m"]),
        ("mpe", ["simple_spread_10ag", "10", "60", "600", "5 numbers in [0,\xa01]", "26", "num_agents=10"]),
        ("connector", ["connector_7x7x5a", "5", "54", "270", "5, masked", "49", "grid_size=7, num_agents=5"]),
    ],
)
def test_an_environment_page_has_the_sizes_of_its_tasks(site, family, row):
    assert row in site[f"/environments/{family}/index.html"].rows


@pytest.mark.parametrize("family", envs.ENVIRONMENTS)
def test_an_environment_page_is_complete(site, family):
    page = site[f"/environments/{family}/index.html"]
    first = [row[0].rstrip(" *") for row in page.rows if row]
    assert {"observation", "global state", "action", "reward", "start", "end", "tasks"} <= set(first)
    assert set(envs.ENVIRONMENTS[family]) <= set(first)
    options = envs.environment_class(envs.ENVIRONMENTS[family][0]).Options.__dataclass_fields__
    assert set(options) <= set(first)
    assert [link for link in page.loaded if link.endswith((f"{family}.png", f"{family}.gif"))]
    assert any("16,384" in row for row in page.rows), "it has no speed"
    teams = [team.stem for team in TEAMS.glob("*.pt") if envs.family(team.stem) == family]
    assert len(teams) == first.count("episode_return")


def test_tables_in_docstrings_are_those_of_the_code():
    rware, smax = (importlib.import_module(f"torch_mars.envs.{name}.env").__doc__ for name in ("rware", "smax"))
    for size, (rows, columns) in SIZES.items():
        options = envs.make(f"rware_{size}_4ag").options
        shelves = 16 * (rows * columns - 1)  # blocks of 8 x 2, but for the one above the goals
        height, width = options.grid_size
        assert f"| {size} | {rows} x {columns} | {height} x {width} | {shelves} |" in rware
    for kind in UNIT_TYPES:
        row = next(line for line in smax.splitlines() if line.startswith(f"| {kind.name} |"))
        numbers = [float(cell.split()[0]) for cell in row.strip("|").split("|")[-6:]]
        found = kind.speed, kind.damage, kind.attack_range, kind.sight_range, kind.max_health, kind.cooldown
        assert numbers == list(map(float, found)), row


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_page_shows_its_help(site, command):
    page = (site[""] / f"commands/{command}/index.html").read_text()
    assert f"$ torch-mars {command} --help" in re.sub("<[^>]*>", "", page)
    assert ("--clip-low" if command == "train" else "-h, --help") in re.sub("<[^>]*>", "", page)


def test_the_start_page_is_the_readme_and_the_reference_has_the_doors(site):
    assert "Multi-agent policy gradients with trust regions, in PyTorch" in site["/index.html"].text
    assert "torch_mars.envs.make" in site["/reference/environments/index.html"].ids
    assert "torch_mars.envs.core.BatchedEnv.step" in site["/reference/batched/index.html"].ids
    assert "torch_mars.teams.policies.load_policy" in site["/reference/policies/index.html"].ids


def test_the_numbers_of_installed_teams_are_those_of_their_files():
    spec = importlib.util.spec_from_file_location("docs_teams", ROOT / "docs" / "teams.py")
    teams = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(teams)
    measured = json.loads((ROOT / "docs/teams.json").read_text())
    files = {team.stem: teams.digest(team) for team in TEAMS.glob("*.pt")}
    assert {task: team["sha256"] for task, team in measured.items()} == files, "run: python docs/teams.py"
    assert (ROOT / "docs/teams.md").read_text() == teams.page(measured), "run: python docs/teams.py"
    assert {envs.family(task) for task in measured} == set(envs.ENVIRONMENTS), "a team of each environment"


# ---- how it is made ----


@pytest.fixture
def making(monkeypatch):
    """The modules of docs/site/, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in {"blocks", "commands", "environments", "hooks", "reference", "repository"} & set(sys.modules) - before:
        del sys.modules[name]


def test_navigation_takes_what_is_there(making):
    given = [
        "README.md",
        {"Guides": ["docs/b.md", "docs/missing.md", "docs/"]},
        {"More": [{"All": "x/README.md"}, "x/"]},
    ]
    pages = ["README.md", "docs/a.md", "docs/b.md", "docs/deeper/c.md", "x/README.md", "x/y.md"]
    expected = ["README.md", {"Guides": ["docs/b.md", "docs/a.md"]}, {"More": [{"All": "x/README.md"}, "x/y.md"]}]
    assert making("hooks").navigation(given, pages) == expected


@pytest.mark.parametrize(
    ("comment", "sentence"),
    [
        ("<!-- section README.md: No such -->", "README.md has no section 'No such'"),
        ("<!-- source torch_mars/algos/mars.py: nobody -->", "mars.py has no nobody"),
        ("<!-- objective marz -->", "unknown lesson 'marz'"),
    ],
)
def test_a_comment_that_names_nothing_is_refused(making, comment, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        making("blocks").filled("docs/a.md", comment)


def test_what_is_wrong_in_a_page_ends_the_build_in_one_sentence(making):
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="docs/a.md"))
    with pytest.raises(PluginError, match="unknown lesson 'marz'"):
        making("hooks").on_page_markdown("<!-- objective marz -->", page=page)


def test_other_comments_stay_as_they_are(making):
    assert making("blocks").filled("docs/a.md", "<!-- the tests' command -->\n") == "<!-- the tests' command -->\n"


def test_a_broken_row_of_a_docstring_becomes_one(making):
    head = ["| | shape | values |", "|---|---|---|"]
    body = ["| a | [N] | one, |", "| | | two |", "| | or [M] | three |", "| b | | x |"]
    whole = making("environments").whole_table(head + body)
    assert whole[2:] == ["| a | [N]<br>or [M] | one, two<br>three |", "| b |  | x |"]
    assert making("environments").whole_table(["| `x` | 1 |"]) == ["| name | meaning |", "| --- | --- |", "| `x` | 1 |"]


def test_links_to_sources_lead_to_their_pages(making):
    to_site = making("repository").to_site
    assert to_site("docs/a.md", "[x](../torch_mars/algos/mars.py)") == "[x](../torch_mars/algos/mars.py.md)"
    for same in ("[x](faces.md#batched)", "![x](play.png)", "[x](https://example.org/a.py)", "[x](../no/such.py)"):
        assert to_site("docs/a.md", same) == same


def test_a_notebook_becomes_a_page(making, tmp_path, monkeypatch):
    repository = making("repository")
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    cells = [
        {"cell_type": "markdown", "source": ["# A tour\n", "of two lines"]},
        {
            "cell_type": "code",
            "source": ["1 + 1"],
            "outputs": [{"data": {"text/plain": ["2"]}}, {"text": ["printed\n"]}],
        },
    ]
    (tmp_path / "tour.ipynb").write_text(json.dumps({"cells": cells}))
    blocks = repository.notebook(tmp_path / "tour.ipynb").split("\n\n")
    assert blocks[:2] == ["# A tour\nof two lines", "```python\n1 + 1\n```"]
    assert blocks[2:4] == ["```text\n2\n```", "```text\nprinted\n```"]


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
