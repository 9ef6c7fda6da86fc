"""Memory: the recurrent layer against PyTorch's own, and what must not be remembered."""

import pytest
import torch

from torch_mars.nn.recurrence import GRU


def layer(seeds, inputs, hidden):
    return GRU(inputs, hidden, [torch.Generator().manual_seed(p) for p in range(seeds)])


def theirs(own, p):
    """PyTorch's GRU with the weights of seed p."""
    gru = torch.nn.GRU(own.of_input.weight.shape[2], own.of_memory.weight.shape[2], batch_first=True)
    with torch.no_grad():
        gru.weight_ih_l0.copy_(own.of_input.weight[p])
        gru.weight_hh_l0.copy_(own.of_memory.weight[p])
        gru.bias_ih_l0.copy_(own.of_input.bias[p, 0])
        gru.bias_hh_l0.copy_(own.of_memory.bias[p, 0])
    return gru


@pytest.mark.parametrize("extra", [(), (3,)])
def test_values_and_gradients_are_those_of_torch(extra):
    P, S, L, inputs, hidden = 2, 4, 6, 5, 7
    own = layer(P, inputs, hidden)
    for part in (own.of_input, own.of_memory):  # biases start at 0
        torch.nn.init.normal_(part.bias)
    x = torch.randn(P, S, L, *extra, inputs, requires_grad=True)
    memory = torch.randn(P, S, *extra, hidden, requires_grad=True)
    weight = torch.randn(P, S, L, *extra, hidden)
    outputs, last = own(x, memory)
    (outputs * weight).sum().backward()
    assert torch.equal(outputs[:, :, -1], last)
    for p in range(P):
        gru = theirs(own, p)
        rows = x[p].detach().movedim(1, -2).reshape(-1, L, inputs).requires_grad_()  # [S * extra, L, inputs]
        start = memory[p].detach().reshape(1, -1, hidden).requires_grad_()
        found, _ = gru(rows, start)
        (found * weight[p].movedim(1, -2).reshape(-1, L, hidden)).sum().backward()
        close = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(outputs[p].movedim(1, -2).reshape(-1, L, hidden), found, **close)
        torch.testing.assert_close(x.grad[p].movedim(1, -2).reshape(-1, L, inputs), rows.grad, **close)
        torch.testing.assert_close(memory.grad[p].reshape(1, -1, hidden), start.grad, **close)
        torch.testing.assert_close(own.of_input.weight.grad[p], gru.weight_ih_l0.grad, **close)
        torch.testing.assert_close(own.of_memory.weight.grad[p], gru.weight_hh_l0.grad, **close)
        torch.testing.assert_close(own.of_input.bias.grad[p, 0], gru.bias_ih_l0.grad, **close)
        torch.testing.assert_close(own.of_memory.bias.grad[p, 0], gru.bias_hh_l0.grad, **close)


@torch.no_grad()
def test_steps_one_by_one_are_the_sequence_and_nothing_crosses_a_start():
    P, S, L, N = 2, 3, 8, 2
    own = layer(P, 4, 6)
    x, memory = torch.randn(P, S, L, N, 4), torch.randn(P, S, N, 6)
    is_start = torch.rand(P, S, L) < 0.3
    is_start[0, 0, 5] = True
    whole, last = own(x, memory, is_start)
    now = memory
    for step in range(L):
        one, now = own(x[:, :, step : step + 1], now, is_start[:, :, step : step + 1])
        torch.testing.assert_close(one[:, :, 0], whole[:, :, step])
    torch.testing.assert_close(now, last)
    x[0, 0, :5] += 1.0  # the episode before
    changed, _ = own(x, memory + 1, is_start)
    spoilt, _ = own(x, torch.full_like(memory, torch.nan), is_start)
    assert torch.equal(spoilt[0, 0, 5:], whole[0, 0, 5:]) and spoilt[0, 0, 0].isnan().all() != is_start[0, 0, 0]
    assert torch.equal(changed[0, 0, 5:], whole[0, 0, 5:]) and not torch.equal(changed[0, 0, :5], whole[0, 0, :5])


def test_it_starts_as_flax_s_does():
    """Specification 2.7: recurrent weights orthogonal gate by gate, those of the input of variance 1 / inputs."""
    gru = layer(1, 64, 32)
    for gate in gru.of_memory.weight[0].detach().chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(32), atol=1e-5, rtol=0)
    of_input = gru.of_input.weight[0].detach()
    assert of_input.std() * 64**0.5 == pytest.approx(1, abs=0.03)
    assert of_input.abs().max() * 64**0.5 <= 2 / 0.8796256610342398 + 1e-5
    assert not gru.of_input.bias.any() and not gru.of_memory.bias.any()
