"""Minutes long: learning curves against an independent implementation, and the built wheel outside the checkout.

python -m pytest -m slow tests/test_nightly.py
"""

import collections
import importlib
import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torch_mars.algos import mappo, mars, maspo

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
WINDOW = 12  # updates of 64 environments x 128 steps: 98,304 steps


def window_returns(folder):
    """Mean return over the episodes that ended in each window of 98k steps, over all seeds."""
    total, count = collections.Counter(), collections.Counter()
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "update" and record["episodes"]:
            window = (record["update"] - 1) // WINDOW
            count[window] += record["episodes"]
            total[window] += record["episodes"] * record["episode_return"]
    return [total[w] / count[w] for w in sorted(count)]


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    torch.set_num_threads(2)
    found = {}
    for module in (mappo, mars):
        run_dir = tmp_path_factory.mktemp(module.ALGORITHM)
        settings = "--env paxmen_5a --num-envs 64 --num-seeds 3 --total-steps 700k --eval-every 1M --device cpu".split()
        assert module.main([*settings, "--run-dir", str(run_dir)]) == 0
        (folder,) = [path.parent for path in run_dir.glob("*/*/*/metrics.jsonl")]
        found[module.ALGORITHM] = window_returns(folder)
    torch.set_num_threads(1)
    return found


@pytest.mark.timeout(1800)
def test_paxmen_curves_match_an_independent_jax_implementation(curves):
    """Its mean training returns over three seeds at 98k, 197k, 295k, 393k and 492k steps, within about 1.0."""
    expected = {"mappo": [-12.6, -8.8, -7.7, -7.6, -7.5], "mars": [-13.6, -13.2, -11.9, -9.9, -8.0]}
    for algorithm, returns in expected.items():
        assert curves[algorithm][:5] == pytest.approx(returns, abs=1.1), (algorithm, curves[algorithm])


@pytest.mark.timeout(1800)
def test_mars_overtakes_mappo_on_paxmen(curves):
    assert curves["mappo"][1] > -10 and curves["mappo"][3] > -8.3, curves
    assert curves["mars"][4] > -10.5 and -7 < curves["mars"][6] < -4.5, curves
    assert curves["mars"][6] > curves["mappo"][6], curves


def test_the_wheel_works_outside_the_checkout(tmp_path):
    """The yaml files travel with it."""
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "runs", "*.egg-info"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True)
    code = (
        "import sys; sys.path.insert(0, 'site')\n"
        "import torch_mars; assert 'site' in torch_mars.__file__\n"
        "from torch_mars import config; from torch_mars.algos import mars\n"
        "assert (config.YAML_DIRECTORY / 'paxmen.yaml').exists() and 'site' in str(config.YAML_DIRECTORY)\n"
        "sys.exit(mars.main('--num-envs 2 --rollout-length 8 --total-steps 64 --hidden-size 8'.split()))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (target / "torch_mars" / "py.typed").exists()


@pytest.mark.timeout(1800)
def test_the_readme_s_commands_lead_to_the_paper_s_figures(tmp_path):
    """Word for word, but with the smoke budget."""
    section = (ROOT / "README.md").read_text().split("## From training to the paper's figures")[1]
    commands = [line for line in section.split("```")[1].splitlines() if line.startswith("python -m ")]
    assert len(commands) == 6
    for command in commands:
        module, *arguments = shlex.split(command.replace("quick", "smoke"))[2:]
        if importlib.util.find_spec(module) is None:
            continue  # evaluate and play are still to be built
        if module == "torch_mars.algos.mars":
            arguments += ["--total-steps", "1024"]
        runs = [str(path.parent.relative_to(tmp_path)) for path in tmp_path.glob("runs/paxmen_5a/mars/*/policy.pt")]
        arguments = [runs[0] if argument.endswith("<run>") else argument for argument in arguments]
        done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
    for name in ("curves_paxmen", "iqm", "improvement", "ratios_paxmen", "objectives"):
        assert (tmp_path / "figures" / f"{name}.png").exists(), name
    assert (tmp_path / "print" / "iqm.pdf").exists()
    assert "| PaxMen | 3 | 10 | " in (tmp_path / "print" / "table1.md").read_text()


@pytest.mark.timeout(1800)
def test_aerojax_is_learned_from_its_sparse_reward(tmp_path):
    """A million steps of 2 v 2 with the family's settings; random play shoots 0.04 enemies a game and returns -0.23."""
    settings = "--env aerojax_2v2 --total-steps 1M --eval-every 10M --device cpu".split()
    assert mars.main([*settings, "--run-dir", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/*/*/metrics.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    last = [r for r in records if r["kind"] == "update" and r["episodes"] and r["step"] > 800_000]
    games = sum(r["episodes"] for r in last)
    kills, returned = (
        sum(r["episodes"] * r[name] for r in last) / games for name in ("episode_kills", "episode_return")
    )
    assert kills > 0.25 and returned > -0.12, (kills, returned)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lesson", [mappo, maspo, mars], ids=lambda lesson: lesson.ALGORITHM)
def test_smax_2s3z_is_won(lesson, tmp_path):
    """800,000 steps with the family's settings won 88 to 94% of the battles; random play wins none."""
    settings = "--env smax_2s3z --total-steps 800k --eval-every 10M --device cpu".split()
    assert lesson.main([*settings, "--run-dir", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/*/*/metrics.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    last = [r for r in records if r["kind"] == "update" and r["episodes"] and r["step"] > 720_000]
    won = sum(r["episodes"] * r["won"] for r in last) / sum(r["episodes"] for r in last)
    assert won > 0.6, won


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("algorithm", ["mappo", "maspo", "mars"])
def test_simple_spread_is_learned_with_per_agent_rewards(algorithm, tmp_path):
    """Random play returns -26.4."""
    settings = "--env simple_spread_3ag --total-steps 600k --eval-every 10M --device cpu".split()
    lesson = importlib.import_module(f"torch_mars.algos.{algorithm}")
    assert lesson.main([*settings, "--run-dir", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/*/*/metrics.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    last = [r["episode_return"] for r in records if r["kind"] == "update" and r["step"] > 500_000]
    assert sum(last) / len(last) > -23.5, last
