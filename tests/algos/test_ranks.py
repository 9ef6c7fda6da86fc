"""Two processes that train one run compute what one would (`tests/helpers/rank_checks.py`, started by torchrun)."""

import json
from pathlib import Path

import pytest
import rank_checks
from launched import Launch


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    launch = Launch(folder, Path(rank_checks.__file__), folder / "found.json")
    assert launch.end() == 0, launch.said.read_text()
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("name", rank_checks.CHECKS)
def test_of_two_ranks(found, name):
    assert found[name] is None, found[name]
