"""Linear layers of P seeds side by side: every weight has a leading P axis and seeds share nothing.

On CPU their float32 products are done by oneDNN or by MKL, which both come with PyTorch, each where it is the faster:

- oneDNN adds bias and ReLU in the same pass. On AMD's processors with AVX-512 its products take half the time of
  MKL's, which stays with AVX2 there; on others both are alike.
- A weight's gradient has a long inner axis. There MKL takes 0.6 (Intel with AMX) to 0.8 (AMD with AVX2) of the time of
  oneDNN, which copies what lies the wrong way round; but not on AMD's with AVX-512.
- oneDNN takes one seed at a time, and what comes must be copied together. On Intel's processors an update of several
  seeds takes 0.85 to 0.91 of that time with MKL, which takes them at once.
"""

import platform
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

# torch.compile's own way to oneDNN; some builds of PyTorch, such as those for macOS, lack it
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_LINEAR = torch.ops.mkldnn._linear_pointwise.default if HAS_ONEDNN else None


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return "AuthenticAMD" in platform.processor()


LONG_BY_ONEDNN = HAS_ONEDNN and torch.backends.cpu.get_cpu_capability().startswith("AVX512") and _is_amd()
SEEDS_BY_ONEDNN = not torch.backends.mkl.is_available() or _is_amd()


def is_leaving() -> bool:
    """Whether a program is made of the network that others shall run: nothing private to this machine goes into it."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def _zeros(*shape: int) -> Tensor:
    """Whatever the defaults of the process are: networks start on the CPU, where their generators are."""
    return torch.zeros(*shape, dtype=torch.float32, device="cpu")


class Linear(nn.Module):
    """P linear layers, one per seed: [P, rows, inputs] -> [P, rows, outputs], with or without a ReLU behind.

    Args:
        inputs, outputs: sizes of one seed's layer.
        gain: of the start of the weights [P, outputs, inputs]; biases [P, 1, outputs] start at 0.
        generators: P of them, one per seed.
        agents: N, each with a layer of its own: weights [P, N, outputs, inputs], x [P * N, rows, inputs]; 0: one.
        relu: whether negative outputs become 0.
        start: fills the weights [outputs, inputs] of one layer, with a gain and `generator=`.
    """

    def __init__(
        self, inputs: int, outputs: int, gain: float, generators: list[torch.Generator], agents: int = 0,
        relu: bool = False, start: Callable[..., Tensor] = nn.init.orthogonal_,
    ):  # fmt: skip
        super().__init__()
        count = max(1, agents)
        weights = [start(_zeros(outputs, inputs), gain, generator=g) for g in generators for _ in range(count)]
        copies = (len(generators), agents) if agents else (len(generators),)
        self.weight = nn.Parameter(torch.stack(weights).view(*copies, outputs, inputs))
        self.bias = nn.Parameter(_zeros(*copies, 1, outputs))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.flatten(0, -3), self.bias.flatten(0, -3)
        if is_leaving():
            y = torch.baddbmm(bias, x, weight.mT)
            return y.relu() if self.relu else y
        if not torch.is_grad_enabled():
            return product(x, weight, bias, self.relu)
        return _Affine.apply(x, weight, bias, self.relu)

    def by_rows(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`network`, made of layers like this one, of x [P, ..., inputs]; of agents' own: of [P, ..., N, inputs]."""
        if self.weight.dim() == 3:
            return network(x.flatten(1, -2)).view(*x.shape[:-1], -1)
        P, N = self.weight.shape[:2]
        agents_first = x.movedim(-2, 1)  # beside the seeds: [P, N, ..., inputs]
        y = network(agents_first.flatten(0, 1).flatten(1, -2))
        return y.view(*agents_first.shape[:-1], -1).movedim(1, -2)


class _Affine(torch.autograd.Function):
    """x W' + b and a ReLU, with fewer passes over memory and faster products than autograd would choose by itself."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        y = product(x, weight, bias, relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight, y = ctx.saved_tensors
        if y is not None:
            grad = torch.ops.aten.threshold_backward(grad, y, 0)
        x_grad = product(grad, weight.mT) if ctx.needs_input_grad[0] else None
        return x_grad, _weight_grad(x, grad), grad.sum(1, keepdim=True), None


def _weight_grad(x: Tensor, grad: Tensor) -> Tensor:
    """[P, outputs, inputs]: a product with a long inner axis, which is faster with the shorter of the others first."""
    inputs, outputs = x.shape[2], grad.shape[2]
    if outputs > inputs:
        return torch.bmm(x.mT, grad).mT  # `@` would turn a single seed's rows round in memory before a bfloat16 product
    return product(grad.mT, x.mT) if LONG_BY_ONEDNN else torch.bmm(grad.mT, x)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x W' + b and a ReLU: [P, rows, inputs], [P, outputs, inputs], [P, 1, outputs] -> [P, rows, outputs]."""
    by_onednn = HAS_ONEDNN and (SEEDS_BY_ONEDNN or len(x) == 1)
    if by_onednn and x.device.type == "cpu" and x.dtype == torch.float32:
        after = "relu" if relu else "none"
        biases = [None] * len(x) if bias is None else bias[:, 0]
        products = [_LINEAR(*seed, after, [], "") for seed in zip(x, weight, biases)]
        return products[0][None] if len(products) == 1 else torch.stack(products)
    if bias is not None and len(x) == 1:  # cuBLAS adds the bias, and a ReLU, where it writes the product
        affine = torch._addmm_activation if relu else torch.addmm
        return affine(bias[0, 0], x[0], weight[0].T)[None]
    y = torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias, x, weight.mT)
    return y.relu_() if relu else y
