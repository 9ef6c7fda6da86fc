"""How many kernels a GPU would launch, counted without one (`benchmarks/kernel_counts.py`), has upper bounds.

Each kernel of a recorded iteration costs a GPU one to two microseconds whatever it computes. A bound that is passed for
a good reason is raised.
"""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import kernel_counts  # noqa: E402

from torch_mars.algos import mappo, mars  # noqa: E402

OF_A_STEP = {
    "paxmen_5a": 130,
    "jaxnav_7x7x2a": 890,
    "connector_5x5x3a": 330,
    "simple_spread_3ag": 100,
    "rware_tiny_2ag": 290,
    "smax_2s3z": 460,
    "aerojax_2v2": 960,
    "search_and_rescue_2x20": 460,
}


@pytest.mark.parametrize("task", OF_A_STEP)
def test_a_step_of_the_environments(task):
    assert kernel_counts.of_step(task, 1024).kernels <= OF_A_STEP[task]


@pytest.mark.parametrize(
    "task, lesson, of_a_rollout_step, of_a_minibatch",
    [("paxmen_5a", mappo, 32, 215), pytest.param("aerojax_2v2", mars, 95, 390, marks=pytest.mark.slow)],
)
def test_training_besides(task, lesson, of_a_rollout_step, of_a_minibatch, monkeypatch):
    monkeypatch.setattr(kernel_counts, "ROLLOUT_LENGTH", 8)
    training, step = kernel_counts.Training(task, 64, lesson), kernel_counts.of_step(task, 64)
    training.iteration()  # makes the constants that are kept
    collected, updated = kernel_counts.recorded(training.collect), kernel_counts.recorded(training.update)
    assert (collected.kernels - 8 * step.kernels) / 8 <= of_a_rollout_step
    assert updated.kernels / (training.args.epochs * training.args.minibatches) <= of_a_minibatch


def test_the_recorder_counts_launches():
    x, y = torch.zeros(2, 8, 4, device="meta"), torch.zeros(2, 4, 4, device="meta")

    def several():
        z = (x @ y).view(16, 4)[1:]  # 1
        z = torch.where(z > 0, z, 0.0)  # 3: the number is made a tensor
        return z.sort(0), torch.baddbmm(x, x, y)  # 3 and 2

    recorder = kernel_counts.recorded(several)
    assert recorder.kernels == 9 and recorder.seconds == pytest.approx(9 * recorder.model.launch)
    assert recorder.by == {"bmm": 1, "gt": 1, "scalar_tensor": 1, "where": 1, "sort": 3, "baddbmm": 2}
