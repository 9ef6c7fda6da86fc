"""Flight in AeroJAX against textbook figures."""

import dataclasses
import math

import pytest
import torch

from torch_mars.envs.aerojax import physics
from torch_mars.envs.aerojax.physics import GRAVITY, Motion
from torch_mars.envs.aerojax.task import Options

C = Options()
WEIGHT = C.mass * GRAVITY


def motion(speed=120.0, alpha_deg=None, bank_deg=0.0, climb_deg=0.0, height=1500.0, throttle=None, dtype=torch.float64):
    """One aircraft flying east; bank to the right."""
    trim_alpha, trim_throttle = physics.trim(1.0, C)
    alpha = trim_alpha if alpha_deg is None else math.radians(alpha_deg)
    throttle = trim_throttle if throttle is None else throttle
    bank, climb = math.radians(bank_deg), math.radians(climb_deg)

    def number(x):
        return torch.tensor([[x]], dtype=dtype)

    def vector(*components):
        return torch.tensor(components, dtype=dtype).view(3, 1, 1)

    up = (-math.sin(climb) * math.cos(bank), -math.sin(bank), math.cos(climb) * math.cos(bank))
    return Motion(
        vector(0.0, 0.0, height), vector(math.cos(climb), 0.0, math.sin(climb)),
        number(speed), vector(*up), number(alpha), number(throttle),
    )  # fmt: skip


def fly(m, seconds, aileron=0.0, elevator=0.0, throttle=None, options=C):
    """`throttle` as a fraction 0..1; None holds the present one."""
    command = m.throttle.item() if throttle is None else throttle
    actions = torch.tensor([[[aileron, elevator, 2 * command - 1]]], dtype=m.speed.dtype)
    thrust = torch.tensor([options.max_thrust], dtype=m.speed.dtype)
    for _ in range(round(seconds / options.dt)):
        m, _ = physics.fly(m, actions, thrust, options)
    return m


def energy(m):
    return (m.speed.square() / 2 + GRAVITY * m.position[2]).item()


def heading_deg(m):
    return math.degrees(math.atan2(m.direction[1].item(), m.direction[0].item()))


def test_trim_of_every_engine():
    alpha, throttle = physics.trim(1.0, C)
    assert math.degrees(alpha) == pytest.approx(2.9696, abs=1e-4) and throttle == pytest.approx(0.34599, abs=1e-5)
    assert physics.trim(2.0, C)[1] == pytest.approx(0.17299, abs=1e-5)
    assert physics.trim(0.8, C)[1] == pytest.approx(0.43249, abs=1e-5)


def test_trimmed_flight_stays_level_and_straight():
    m = fly(motion(), 50)
    assert m.position[2].item() == pytest.approx(1500, abs=1e-6)
    assert m.speed.item() == pytest.approx(120, abs=1e-6)
    assert heading_deg(m) == pytest.approx(0, abs=1e-9)
    assert m.position[0].item() == pytest.approx(6000, abs=1e-5)


def test_lift_rises_to_the_stall_and_falls_beyond():
    def lift(degrees):
        return physics.lift_coefficient(torch.tensor(math.radians(degrees)), C).item()

    assert lift(16) == pytest.approx(1.117, abs=1e-3) and lift(24) == pytest.approx(lift(16) / 2, rel=1e-5)
    assert lift(20) < lift(16) > lift(12) and lift(-8) == pytest.approx(-lift(8), rel=1e-5)
    stall_speed = math.sqrt(2 * WEIGHT / (C.rho * C.wing_area * lift(16)))
    assert stall_speed == pytest.approx(52.0, abs=0.05)
    slow = fly(motion(speed=50, alpha_deg=16, throttle=0), 0.2)
    assert slow.direction[2] < 0  # below it even the best lift does not hold the aircraft


@pytest.mark.parametrize("speed, rate", [(80, 16.59), (110, 22.78), (140, 23.98), (180, 18.68)])
def test_turn_rate_at_ninety_degrees_of_bank(speed, rate):
    """g n / V with n from the lift limit or 6; in one step gravity and drag act too."""
    pressure_area = 0.5 * C.rho * speed**2 * C.wing_area
    alpha = min(math.radians(16), C.n_max * WEIGHT / (pressure_area * C.cl_alpha))
    before = motion(speed=speed, alpha_deg=math.degrees(alpha), bank_deg=90, throttle=0)
    after = fly(before, 0.2)
    turned = (heading_deg(before) - heading_deg(after)) / 0.2
    assert turned == pytest.approx(rate, abs=0.25)  # to the right


def test_sustained_level_turn_at_full_thrust():
    """130 m/s: 4.71 g, 19.88 degrees a second, radius 375 m, speed and height kept."""
    pressure_area = 0.5 * C.rho * 130**2 * C.wing_area
    low, high = 0.0, math.radians(16)
    for _ in range(100):  # the angle of attack at which drag is full thrust
        alpha = (low + high) / 2
        drag = pressure_area * (C.cd0 + C.k_ind * (C.cl_alpha * alpha) ** 2)
        low, high = (alpha, high) if C.max_thrust * math.cos(alpha) > drag else (low, alpha)
    load = (pressure_area * C.cl_alpha * alpha + C.max_thrust * math.sin(alpha)) / WEIGHT
    assert load == pytest.approx(4.71, abs=0.01)
    bank = math.degrees(math.acos(1 / load))
    m = fly(motion(speed=130, alpha_deg=math.degrees(alpha), bank_deg=bank, throttle=1), 1)
    after = fly(m, 1)
    assert heading_deg(m) - heading_deg(after) == pytest.approx(19.88, abs=0.1)
    later = fly(after, 18)
    assert later.speed.item() == pytest.approx(130, abs=1) and later.position[2].item() == pytest.approx(1500, abs=25)


@pytest.mark.parametrize("throttle, lost", [(1.0, 102), (0.0, 419)])
def test_a_hard_turn_costs_energy(throttle, lost):
    """150 m/s, 14 degrees (6 g), banked for a level turn, five seconds; in metres of energy height."""
    before = motion(speed=150, alpha_deg=14, bank_deg=80, throttle=throttle)
    assert (energy(before) - energy(fly(before, 5))) / GRAVITY == pytest.approx(lost, abs=5)


@pytest.mark.parametrize("speed, power", [(80, 38.3), (100, 44.8), (120, 47.9), (150, 45.0), (180, 31.1)])
def test_specific_excess_power(speed, power):
    """V (T cos a - D) / W at full thrust in level flight, m/s."""
    pressure_area = 0.5 * C.rho * speed**2 * C.wing_area
    alpha = 0.0
    for _ in range(50):
        alpha = (WEIGHT - C.max_thrust * math.sin(alpha)) / (pressure_area * C.cl_alpha)
    before = motion(speed=speed, alpha_deg=math.degrees(alpha), throttle=1)
    after = fly(before, 0.2)
    assert (energy(after) - energy(before)) / GRAVITY / 0.2 == pytest.approx(power, abs=0.5)


@pytest.mark.parametrize("throttle, speed", [(0.0, 274.7), (1.0, 348.7)])
def test_vertical_dive_reaches_its_terminal_speed(throttle, speed):
    m = motion(alpha_deg=0, climb_deg=-90, height=1e6, throttle=throttle)
    assert fly(m, 100).speed.item() == pytest.approx(speed, abs=0.3)


def test_without_thrust_and_drag_energy_is_kept():
    options = dataclasses.replace(C, cd0=0.0, k_ind=0.0)
    m = motion(speed=150, height=5000, throttle=0)
    start = energy(m)
    for k in range(10):
        m = fly(m, 2, aileron=math.sin(k), elevator=0.3 * math.cos(3 * k), throttle=0, options=options)
        assert energy(m) == pytest.approx(start, abs=2e-5 * 150**2 / 2 + 0.5)


def test_load_factor_is_limited():
    m = fly(motion(speed=200, throttle=1), 1, elevator=1)
    load = 0.5 * C.rho * m.speed.item() ** 2 * C.wing_area * C.cl_alpha * m.alpha.item() / WEIGHT
    assert load <= C.n_max * 1.03  # the speed changes within a substep
    m = fly(motion(speed=200, throttle=1), 1, elevator=-1)
    assert 0.5 * C.rho * m.speed.item() ** 2 * C.wing_area * C.cl_alpha * m.alpha.item() / WEIGHT >= C.n_min * 1.03


def test_positive_aileron_rolls_right_and_elevator_raises_the_nose():
    m = fly(motion(), 0.2, aileron=1)
    assert m.lift_dir[1] < -0.3  # east-bound: right is south
    assert fly(motion(), 0.2, elevator=1).alpha > physics.trim(1.0, C)[0]


def test_float32_stays_near_float64():
    for dtype_seed in range(3):
        generator = torch.Generator().manual_seed(dtype_seed)
        controls = [(torch.rand(3, generator=generator, dtype=torch.float64) - 0.5).tolist() for _ in range(50)]
        ends = []
        for dtype in (torch.float32, torch.float64):
            m = motion(height=5000, dtype=dtype)
            for aileron, elevator, throttle in controls:
                m = fly(m, 2, aileron=0.3 * aileron, elevator=0.05 * elevator, throttle=0.5 + throttle)
            ends.append(torch.cat([p.double().flatten() for p in m.position]))
        assert (ends[0] - ends[1]).abs().max() < 3.0, dtype_seed  # metres, after 100 s
