from torchjd.aggregation import PCGrad

from mtl.balancing import Surgery
from mtl.data import RoundRobinDataModule
from mtl.methods import MultiHead
from mtl.system.resource_estimate import estimate_resources
from mtl.tasks import Task


def test_the_estimate_is_the_sum_of_its_parts(tasks: list[Task], backbone: str) -> None:
    data = RoundRobinDataModule(
        tasks=tasks, backbone=backbone, batch_size=4, max_length=16, mixed=True
    )
    surgery = Surgery(PCGrad, mode="stored")
    model = MultiHead(tasks=tasks, backbone=backbone, balancer=surgery)
    count = sum(parameter.numel() for parameter in model.parameters())
    estimate = estimate_resources(model, data, examples=100, half=True)
    assert estimate.memory["weights"] == 4 * count
    assert estimate.memory["optimizer (two moments)"] == 8 * count
    # examples, tasks, tokens, width, layers, bytes
    assert estimate.memory["activations, at most"] == 4 * 3 * 16 * 32 * 2 * 34
    assert estimate.memory["gradients of 3 tasks, at most"] == 3 * 4 * count
    assert estimate.checkpoints == 4 * 4 * count
    assert estimate.cache == 100 * 16 * 5
