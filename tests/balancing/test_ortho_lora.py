"""Ortho-LoRA: PCGrad for each matrix of a shared LoRA, against algorithm 1 written out."""

import itertools

import torch
import torchjd.aggregation as aggregation

from mtl.balancing import Surgery
from mtl.methods import LoRA
from tests.balancing.helpers import (
    gradients_by_separate_passes,
    make_method,
    mixed_batch,
    training_step,
)
from tests.balancing.test_surgery import pcgrad


def test_each_matrix_is_projected_by_its_own_inner_products(backbone: str) -> None:
    method = make_method(LoRA, backbone, Surgery(aggregation.PCGrad, by="matrix"), rank=2)
    method.balancer.on_fit_start(method, {})
    batch = mixed_batch(seed=3)
    training_step(method, batch)
    method.balancer.on_fit_end()
    shared = method.balancer.shared
    assert {name.split(".")[-2] for name in shared} == {"a", "b"}
    combined = [parameter.grad.flatten() for parameter in shared.values()]
    _, rows, _ = gradients_by_separate_passes(method, batch)
    pieces = rows.split([parameter.numel() for parameter in shared.values()], dim=1)
    signs = {tuple((piece @ piece.t() < 0).flatten().tolist()) for piece in pieces}
    assert len(signs) > 1  # other tasks conflict in other matrices
    orders = [list(each) for each in itertools.permutations(range(3))]
    # The tasks are projected in one random order, which is that of every matrix.
    errors = [
        max(
            float((gradient - pcgrad(piece, list(chosen))).abs().max())
            for gradient, piece in zip(combined, pieces, strict=True)
        )
        for chosen in itertools.product(orders, repeat=3)
    ]
    assert min(errors) < 1e-5
    whole = [pcgrad(rows, list(chosen)) for chosen in itertools.product(orders, repeat=3)]
    together = torch.cat(combined)
    assert min(float((together - each).abs().max()) for each in whole) > 1e-4
