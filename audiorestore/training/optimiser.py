"""Muon for hidden matrices and kernels, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

OUTER = ("head.", "entrance.", "encoder.0.", "stem.", "out.1.")
"""First and last layers of the networks, by how the names of their weights begin."""


@dataclass(frozen=True)
class OptimiserConfig:
    """Peak learning rates and decays.

    Args:
        matrix_rate, other_rate: learning rates of Muon and of AdamW.
        momentum: of Muon. betas: of AdamW.
        weight_decay: decoupled, of matrices only.
        clip: largest norm of the averaged gradient.
    """

    matrix_rate: float = 3e-3
    other_rate: float = 2e-3
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is replaced by the nearest orthogonal matrix.

    A kernel [out, in, ...] counts as the matrix [out, in * ...]. Updates are scaled to the size that AdamW's
    have, so that one learning rate serves matrices of any shape.
    Source: Jordan et al., "Muon", 2024 (the quintic Newton-Schulz iteration); Liu et al., "Muon is scalable
    for LLM training", 2025 (the scale 0.2 * sqrt(max(rows, columns))).
    """

    def __init__(self, parameters: Iterable[Tensor], *, rate: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                nesterov = parameter.grad.lerp(momentum, group["momentum"])
                matrix = orthogonalise(nesterov.flatten(1))
                scale = 0.2 * max(matrix.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(matrix.view_as(parameter), alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, *, steps: int = 5) -> Tensor:
    """Return about the nearest matrix with orthonormal rows (or columns), by a quintic Newton-Schulz iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    nearest: Tensor = (x.T if tall else x).to(matrix.dtype)
    return nearest


def make_optimisers(network: nn.Module, config: OptimiserConfig) -> list[torch.optim.Optimizer]:
    """Return Muon over matrices and kernels, AdamW over gains, biases, and the first and last layers."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in network.named_parameters():
        outer = name.removeprefix("before.").startswith(OUTER)
        hidden = parameter.ndim >= 2 and not outer
        (matrices if hidden else others).append(parameter)
    return [
        Muon(matrices, rate=config.matrix_rate, momentum=config.momentum, weight_decay=config.weight_decay),
        torch.optim.AdamW(others, lr=config.other_rate, betas=config.betas, weight_decay=0.0),
    ]
