"""A run that is killed, at whatever moment, goes on to the bit; after a power cut, too."""

import json
import random
from pathlib import Path

import pytest
from faults import STEPS, TINY, Disk, assert_same, in_child

from torch_mars.algos import mars
from torch_mars.protocol import saved
from torch_mars.run import files

UPDATES = 7
RUN = [*TINY.split(), "--total-steps", str(UPDATES * STEPS), "--eval-every", str(3 * STEPS), "--checkpoint-every", "2"]
RUN += ["--num-seeds", "2"]
CLOCKS = ("seconds", "steps_per_second")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to, and how often it asked something of the disk."""
    place = tmp_path_factory.mktemp("whole")
    count = place / "count"

    def work():
        disk = Disk()
        disk.attach()
        mars.main([*RUN, "--run-dir", str(place / "runs")])
        count.write_text(str(disk.count))

    assert in_child(work) == 0
    return the_run(place / "runs"), int(count.read_text())


def the_run(run_dir):
    (config,) = Path(run_dir).glob("*/*/*/config.yaml")
    return config.parent


def timeless(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]


def evaluations(folder):
    runs = saved.open_run(folder).evaluations()
    return {n: {s: {k: v for k, v in e.items() if k != "elapsed_time"} for s, e in r.items()} for n, r in runs.items()}


def ends_like(folder, whole):
    """Go on with a run in a child to its end; it must be the run that nothing happened to."""
    said = folder.parent / "said"
    assert in_child(lambda: mars.main(["--resume", str(folder)]), said) == 0, said.read_text()
    assert timeless(folder) == timeless(whole)
    assert evaluations(folder) == evaluations(whole)
    for name in ("checkpoint.pt", "policy.pt"):
        assert_same(files.load_checkpoint(folder / name), files.load_checkpoint(whole / name))
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}
    assert saved.open_run(folder).is_finished()
    return said.read_text()


def killed(place, fatal, is_power_cut):
    """The folder of a run that ended at the event `fatal`; None if it had not begun."""

    def work():
        Disk(fatal, is_power_cut).attach()
        mars.main([*RUN, "--run-dir", str(place)])

    assert in_child(work, Path(f"{place}-said")) == -9, Path(f"{place}-said").read_text()
    configs = list(Path(place).glob("*/*/*/config.yaml"))
    return configs[0].parent if configs else None


def check(place, fatal, is_power_cut, whole):
    folder = killed(place, fatal, is_power_cut)
    if folder and (folder / "checkpoint.pt").exists():
        assert "not as it was saved" not in ends_like(folder, whole), "the checkpoint was ahead of its metrics"
        return True
    return False


@pytest.mark.parametrize("is_power_cut", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_killed_at_a_write_a_sync_or_a_rename_goes_on_to_the_bit(is_power_cut, whole, tmp_path):
    folder, count = whole
    moments = random.Random(is_power_cut).sample(range(count // 3, count), 6)
    resumed = [check(tmp_path / str(fatal), fatal, is_power_cut, folder) for fatal in moments]
    assert sum(resumed) >= 4


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("is_power_cut", [False, True])
def test_at_every_write_sync_and_rename(is_power_cut, whole, tmp_path):
    folder, count = whole
    resumed = [check(tmp_path / str(fatal), fatal, is_power_cut, folder) for fatal in range(1, count + 1)]
    print(f"{count} events, {sum(resumed)} of them with a checkpoint to go on from")
    assert sum(resumed) > count / 2


@pytest.mark.slow
def test_at_fifty_random_moments_one_after_another(whole, tmp_path):
    """A run killed again and again, each time a little further."""
    folder, chance, kills = whole[0], random.Random(1), 0
    for number in range(10):
        place = tmp_path / str(number)
        in_child(lambda place=place: mars.main([*RUN, "--run-dir", str(place)]), kill_after=chance.uniform(0.5, 2.0))
        for _ in range(5):
            kills += 1
            found = list(place.glob("*/*/*/checkpoint.pt"))
            if found:
                resume = ["--resume", str(found[0].parent)]
                in_child(lambda resume=resume: mars.main(resume), kill_after=chance.uniform(0.2, 1.0))
        if found := list(place.glob("*/*/*/checkpoint.pt")):
            ends_like(found[0].parent, folder)
    assert kills == 50
