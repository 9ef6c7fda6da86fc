"""docs/interop.md: its blocks run, each in an environment of its own that the section's pip line made.

python -m pytest -m slow tests/test_interop_docs.py
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from own_environment import ROOT, python_with

PAGE = ROOT / "docs" / "interop.md"
OFFLINE = {"WANDB_MODE": "offline", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}


@dataclass
class Section:
    title: str
    pip: list[str]  # the pip lines
    python: list[str]  # the blocks of Python


def sections(page: str) -> list[Section]:
    found = []
    for text in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        pip = [line for kind, block in blocks if kind == "bash" for line in block.splitlines()]
        python = [block for kind, block in blocks if kind == "python"]
        found.append(Section(text.splitlines()[0], pip, python))
    return found


SECTIONS = sections(PAGE.read_text())
every_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)


def requirements(pip: str, checkout: Path) -> list[str]:
    """What a pip line asks for, from `checkout` instead of the current folder and with the torch that is here."""
    words = shlex.split(pip)
    assert words[:2] == ["pip", "install"], pip
    here = [re.sub(r"^\.(?=$|\[)", str(checkout), word) for word in words[2:]]
    return [f"torch=={metadata.version('torch')}" if word.startswith("torch==") else word for word in here]


@every_section
def test_a_section_has_one_pip_line_and_one_block(section):
    assert len(section.pip) == 1, section.pip
    assert "-e" in requirements(section.pip[0], ROOT), "the package itself"
    assert len(section.python) == 1
    compile(section.python[0], section.title, "exec")
    assert "assert " in section.python[0]


def test_the_page_leads_to_its_sections():
    places = re.findall(r"\]\(#([^)]*)\)", PAGE.read_text())
    titles = [re.sub(r"[^\w -]", "", section.title).lower().replace(" ", "-") for section in SECTIONS]
    assert len(titles) >= 5 and set(places) <= set(titles)


def test_a_pip_line_is_read_as_pip_reads_it():
    torch = f"torch=={metadata.version('torch')}"
    line = 'pip install torch==2.0.0 -e ".[sb3]" "torchrl>=0.14,<0.15"'
    assert requirements(line, Path("/here")) == [torch, "-e", "/here[sb3]", "torchrl>=0.14,<0.15"]
    assert requirements("pip install -e . torchvision==0.28.0", Path("/here")) == ["-e", "/here", "torchvision==0.28.0"]


# ---- nightly ----


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy: installing writes into the checkout."""
    folder = tmp_path_factory.mktemp("checkout") / "torch_mars"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "build", "runs", "*.egg-info"))
    return folder


@pytest.fixture
def folder():
    """Of a short name, as Ray's sockets need it; half a gigabyte may lie in it, so it goes at once."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def run(python: Path, script: Path, checkout: Path, folder: Path) -> None:
    """Run `script` with both adapters on the path, and with nothing written outside `folder`."""
    inside = {"HOME": str(folder), "RAY_TMPDIR": str(folder), "PYTHONPATH": str(checkout / "examples"), **OFFLINE}
    command = [str(python), str(script)]
    done = subprocess.run(command, cwd=folder, env=os.environ | inside, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{script}:\n{done.stdout[-5000:]}\n{done.stderr[-10000:]}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_section
def test_the_block_runs(section, checkout, folder):
    python = python_with(folder / "own", *requirements(section.pip[0], checkout))
    script = folder / "block.py"
    script.write_text(section.python[0])
    run(python, script, checkout, folder)
    if section.title in ("TorchRL", "BenchMARL"):  # which need different versions of TorchRL
        run(python, checkout / "tests" / "helpers" / "check_torchrl_env.py", checkout, folder)
