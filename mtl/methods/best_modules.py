"""Each task's own modules at the task's best validation (`--model.best tasks`)."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from mtl.errors import UserError
from mtl.methods.added_tasks import IN_TRAINING, own_weights
from mtl.methods.evaluation import SplitResult, scores_by_task


class BestModules:
    """The weights of each task's own modules at its best validation, and its results there.

    Attributes:
        weights: Weights by task and name, on the CPU.
        results: Results of each task's splits.
    """

    def __init__(self) -> None:
        self.weights: dict[str, dict[str, Tensor]] = {}
        self.results: dict[str, SplitResult] = {}

    def update(self, module: nn.Module, results: Mapping[str, SplitResult]) -> None:
        """Stores the weights of tasks whose score is higher than before.

        Args:
            module: The method, with the weights that were validated.
            results: Results of the validation by split.
        """
        before, scores = scores_by_task(self.results), scores_by_task(results)
        better = [name for name in scores if name not in before or scores[name] > before[name]]
        if not better:
            return
        state = module.state_dict()
        for task in better:
            names = own_weights(module, [task])
            self.weights[task] = {name: state[name].detach().cpu().clone() for name in names}
        self.results |= {
            split: each for split, each in results.items() if split.partition("/")[0] in better
        }
        self.results = {split: self.results[split] for split in results}

    def state_dict(self) -> dict[str, Any]:
        """Weights and results."""
        return {"weights": self.weights, "results": self.results}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores weights and results."""
        self.weights, self.results = state["weights"], state["results"]

    def replace(self, state: dict[str, Tensor]) -> None:
        """Puts the stored weights into a state dict."""
        for weights in self.weights.values():
            state.update(weights)


def check_own_modules(module: nn.Module, tasks: Iterable[str], callbacks: Iterable[object]) -> None:
    """Checks that the modules of one validation fit those of another: no shared weight is trained.

    Args:
        module: The method.
        tasks: Names of its tasks.
        callbacks: The callbacks of its Trainer.

    Raises:
        UserError: If tasks share a trained weight, or a callback averages the weights.
    """
    own = set(own_weights(module, tasks))
    shared = [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and name not in own and name.split(".")[0] not in IN_TRAINING
    ]
    if shared:
        raise UserError(
            f"--model.best tasks: {type(module).__name__} trains weights that tasks share, such as "
            f"{shared[0]}, so that one task's modules do not fit those of another validation; "
            "choose LoRA or Adapters with per_task, or keep a checkpoint of each task with the "
            "callback ModelCheckpoint"
        )
    averages = [each for each in callbacks if type(each).__name__.endswith("WeightAveraging")]
    if averages:
        raise UserError(
            f"--model.best tasks: {type(averages[0]).__name__} validates averages of the weights; "
            "omit one of the two"
        )
