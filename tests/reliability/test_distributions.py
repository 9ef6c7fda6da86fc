"""Policies in odd corners: saturated, nearly certain, with forbidden actions; and networks that leave Python."""

import io
import math

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_mars
from torch_mars.nn.distributions import Categorical, Policy, TanhNormal

LARGEST = 1 - 2**-24  # random number
exactly = settings(derandomize=True, deadline=None, max_examples=200)


def by_a_tree(values, dim):
    """Sums as a GPU forms them."""
    reach = 1
    while reach < values.shape[-1]:
        moved = values.clone()
        moved[..., reach:] = values[..., reach:] + values[..., :-reach]
        values, reach = moved, 2 * reach
    return values


def backwards(values, dim):
    """Sums that are rounded differently still, and need not grow."""
    total = values.sum(-1, keepdim=True)
    return total - torch.flip(torch.cumsum(torch.flip(values, [-1]), -1), [-1]) + values


def policies(actions, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(4096, actions, generator=generator)
    mask = torch.rand(logits.shape, generator=generator) < 0.5
    mask[torch.arange(4096), torch.randint(actions, (4096,), generator=generator)] = True
    noise = torch.randint(2**24, (4096,), generator=generator) * 2.0**-24
    noise[:512], noise[512:1024] = 0, LARGEST
    return logits, mask, noise


def is_allowed(actions, mask):
    return (actions >= 0).all() and (actions < mask.shape[-1]).all() and mask.gather(-1, actions[..., None]).all()


@pytest.mark.parametrize("sums", [None, by_a_tree, backwards])
@pytest.mark.parametrize("may_look", [True, False])
@pytest.mark.parametrize("actions", [1, 2, 5, 17, 61])
def test_a_forbidden_action_is_never_drawn(actions, may_look, sums, monkeypatch):
    if sums:
        monkeypatch.setattr(torch.Tensor, "cumsum", sums)
    monkeypatch.setattr("torch_mars.nn.distributions.may_look", lambda tensor: may_look)
    for seed, scale in enumerate((0.01, 2.0, 30.0, 1e4, 1e10, 1e30)):
        logits, mask, noise = policies(actions, scale, seed)
        assert is_allowed(Categorical(logits, mask).sample(noise), mask)
        assert is_allowed(Categorical(logits, mask).mode(), mask)
        free = Categorical(logits, None).sample(noise)
        assert (free >= 0).all() and (free < actions).all()


@pytest.mark.parametrize("may_look", [True, False])
def test_actions_are_those_of_plain_inversion(may_look, monkeypatch):
    monkeypatch.setattr("torch_mars.nn.distributions.may_look", lambda tensor: may_look)
    for actions in (2, 5, 17, 61):
        for mask_too in (True, False):
            logits, mask, noise = policies(actions, 2.0, actions)
            policy = Categorical(logits, mask if mask_too else None)
            cumulative = policy.log_probs.exp().cumsum(-1)
            plain = (cumulative <= noise[..., None] * cumulative[..., -1:]).sum(-1)
            drawn = policy.sample(noise)
            assert torch.equal(drawn[plain < actions], plain[plain < actions])


def log_prob(mean, log_std, action, dtype):
    mean, log_std = (torch.tensor([[x]], dtype=dtype, requires_grad=True) for x in (mean, log_std))
    value = TanhNormal(mean, log_std).log_prob(torch.tensor([[action]], dtype=dtype)).sum()
    return [value.item(), *(g.item() for g in torch.autograd.grad(value, (mean, log_std)))]


@exactly
@given(
    st.floats(-(2.0**40), 2.0**40, width=32) | st.floats(-30, 30, width=32),
    st.floats(-20, 20, width=32),
    st.floats(-1, 1, width=32) | st.sampled_from((1.0, -1.0, 0.9990000128746033, -0.9990000128746033)),
)
def test_slopes_of_a_saturated_policy_are_those_of_double_precision(mean, log_std, action):
    ours, exact = (log_prob(mean, log_std, action, dtype) for dtype in (torch.float32, torch.float64))
    assert all(map(math.isfinite, ours))
    if 1e-6 < abs(abs(action) - TanhNormal.EDGE):  # there float32 may take the other formula
        deviation = math.log1p(math.exp(log_std)) + 1e-3
        for name, mine, theirs in zip(("value", "of mean", "of log_std"), ours, exact):
            slack = 1e-3 * (1 + abs(theirs)) + 2e-3 * abs(exact[1]) + 2e-5 * (1 + abs(mean)) / deviation**2
            assert abs(mine - theirs) <= slack, name


@pytest.mark.parametrize("mean", [0.0, 1e13, -1e20, 3e38])
@pytest.mark.parametrize("action", [1.0, -1.0, 0.0])
def test_slopes_are_finite_as_far_out_as_float32_is(mean, action):
    for log_std in (-100.0, -20.0, 0.0, 20.0):
        assert all(map(math.isfinite, log_prob(mean, log_std, action, torch.float32)))


# ---- ways out ----


@pytest.fixture(scope="module")
def network():
    """With weights of its own: those of an installed team, and so how much is rounded, change with the team."""
    network, generator = torch_mars.load_policy("paxmen_5a")._actor.network.eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / (2 * weight.shape[-1] ** 0.5))
    return network


def inputs_of(network, rows=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, rows, 5, network.hidden_1.weight.shape[-1], generator=generator)


def test_a_network_can_be_traced_saved_and_loaded_elsewhere(network):
    inputs, buffer = inputs_of(network), io.BytesIO()
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(network, inputs), buffer)
        buffer.seek(0)
        torch.testing.assert_close(torch.jit.load(buffer)(inputs), network(inputs), rtol=1e-5, atol=1e-6)


def test_a_network_can_be_exported_with_as_many_rows_as_one_likes(network):
    rows = torch.export.Dim("rows", min=2, max=100_000)
    with torch.no_grad():
        program = torch.export.export(network, (inputs_of(network),), dynamic_shapes=({1: rows},))
        assert not any("mkldnn" in str(node.target) for node in program.graph.nodes)
        for count in (2, 3, 5000):
            inputs = inputs_of(network, count)
            torch.testing.assert_close(program.module()(inputs), network(inputs), rtol=1e-5, atol=1e-6)


def test_a_seed_that_has_diverged_acts_within_bounds_beside_the_others():
    policy = Policy(gymnasium.spaces.Box(np.float32([0, -2]), np.float32([1, 6])), 2)
    action = torch.full((2, 3, 4, 2), 0.5)
    action[1] = torch.nan
    taken = policy.to_env(action)
    assert (taken[:3] == torch.tensor([0.75, 4.0])).all() and (taken[3:] == torch.tensor([0.5, 2.0])).all()
