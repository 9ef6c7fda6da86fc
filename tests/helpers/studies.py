"""A study of `tune` within a test's own process, and its refusals."""

import pytest

from torch_mars import tune
from torch_mars.protocol import studies
from torch_mars.run import cli

NARROW = ["--algo", "mars", "--env", "paxmen_4a", "--budget", "smoke"]


def study_of(*argv):
    plan = studies.Plan(tune.make_parser().parse_args([*NARROW, *argv]))
    plan.device = "cpu"
    return studies.open_study(plan), plan


def fails(capsys, *argv):
    """The one sentence with which `tune` refuses, and its exit code."""
    with pytest.raises(SystemExit) as stopped:
        cli.guarded(lambda: tune.main([str(arg) for arg in argv]), "tune")
    said = capsys.readouterr().err.strip()
    assert said.startswith("tune: ") and "\n" not in said, said
    return stopped.value.code, said
