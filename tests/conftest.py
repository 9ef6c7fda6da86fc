"""Tests use small tensors: one thread is fastest, and fair to whatever else runs on the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402 - after the number of threads is set
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The folder of a finished run: `paxmen_5a`, episodes of 6 steps, seeds 7 and 8."""
    from torch_mars.algos import mars

    parent = tmp_path_factory.mktemp("tiny")
    settings = "--num-envs 4 --rollout-length 6 --hidden-size 8 --eval-episodes 2 --device cpu --num-seeds 2 --seed 7"
    more = ["--env", "paxmen_5a", "--env-options", "{max_steps: 6}", "--total-steps", "96", "--actor-lr", "0.05"]
    assert mars.main([*settings.split(), *more, "--run-dir", str(parent)]) == 0
    (folder,) = parent.glob("*/*/*")
    return folder
