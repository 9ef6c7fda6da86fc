"""Cosines, sines and directions: right, and the same as tensors and in loops."""

import math

import numpy as np
import torch

from torch_mars.envs import angles, angles_loops


def test_angles_are_right_and_the_same_in_both_forms():
    angle = torch.cat([torch.linspace(-20, 20, 40_001), torch.arange(-8, 9) * (math.pi / 4)])
    cosine, sine = angles.cosine_sine(angle)
    np.testing.assert_allclose(cosine, angle.double().cos(), atol=2e-7)
    np.testing.assert_allclose(sine, angle.double().sin(), atol=2e-7)
    assert [angles_loops.cosine_sine(a) for a in angle.numpy()[::20]] == [
        *zip(cosine[::20].tolist(), sine[::20].tolist())
    ]

    radius = torch.logspace(-8, 0, 9)[:, None]
    turn = torch.linspace(-math.pi, math.pi, 4001).double()
    y, x = (radius * turn.sin()).float().flatten(), (radius * turn.cos()).float().flatten()
    y, x = torch.cat([y, torch.tensor([0.0, 0, 0, 1, -1])]), torch.cat([x, torch.tensor([0.0, 1, -1, 0, 0])])
    direction = angles.angle_of(y, x)
    np.testing.assert_allclose(direction, torch.atan2(y.double(), x.double()), atol=5e-7)
    assert direction[-5:].tolist() == [
        0,
        0,
        float(np.float32(math.pi)),
        *(float(np.float32(s * math.pi / 2)) for s in (1, -1)),
    ]
    assert [angles_loops.angle_of(b, a) for b, a in zip(y.numpy()[::9], x.numpy()[::9])] == direction[::9].tolist()

    squares = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(angles.root(squares), np.sqrt(squares.numpy()))


def test_cosines_and_sines_of_any_angle_are_at_most_1():
    angle = torch.cat([torch.logspace(-3, 18, 5001), -torch.logspace(-3, 18, 5001)])
    cosine, sine = angles.cosine_sine(angle)
    assert max(cosine.abs().max(), sine.abs().max()) <= 1
    assert [angles_loops.cosine_sine(a) for a in angle.numpy()] == [*zip(cosine.tolist(), sine.tolist())]
