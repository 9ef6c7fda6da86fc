"""Linear layers of P seeds side by side: every weight has a leading P axis and seeds share nothing."""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """P linear layers, one per seed: [P, rows, inputs] -> [P, rows, outputs], with or without a ReLU behind.

    Args:
        inputs, outputs: sizes of one seed's layer.
        gain: of the orthogonal start of the weights [P, outputs, inputs]; biases [P, 1, outputs] start at 0.
        generators: P of them, one per seed.
        relu: whether negative outputs become 0.
    """

    def __init__(self, inputs: int, outputs: int, gain: float, generators: list[torch.Generator], relu: bool = False):
        super().__init__()
        weights = [nn.init.orthogonal_(torch.empty(outputs, inputs), gain, generator=g) for g in generators]
        self.weight = nn.Parameter(torch.stack(weights))
        self.bias = nn.Parameter(torch.zeros(len(generators), 1, outputs))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        return _Affine.apply(x, self.weight, self.bias, self.relu)


class _Affine(torch.autograd.Function):
    """x W' + b, and a ReLU in place: what autograd does by itself, with fewer passes over memory.

    The weights' gradient is a product with a long inner axis, [outputs, rows] x [rows, inputs]. BLAS libraries are up
    to five times faster at it with the shorter of the outer axes first, which autograd does not look at.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        y = torch.baddbmm(bias, x, weight.mT)
        if relu:
            y.relu_()
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight, y = ctx.saved_tensors
        if y is not None:
            grad = torch.ops.aten.threshold_backward(grad, y, 0)
        _, outputs, inputs = weight.shape
        x_grad = grad @ weight if ctx.needs_input_grad[0] else None
        weight_grad = grad.mT @ x if outputs <= inputs else (x.mT @ grad).mT
        return x_grad, weight_grad, grad.sum(1, keepdim=True), None
