"""Which weights a run starts from, trains and saves."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import BaseFinetuning

from mtl.errors import UserError
from mtl.methods.added_tasks import freeze_other_modules, load_for_added_tasks
from mtl.methods.best_modules import BestModules, check_own_modules
from mtl.methods.evaluation import EvaluatedModel, SplitResult
from mtl.methods.frozen import FrozenWeights
from mtl.methods.same_answers import AnswerOptions
from mtl.methods.warm_start import load_matching_weights


class RunWeights:
    """The weights of a method during a run.

    Args:
        init_from: A checkpoint or a run whose weights are loaded at the start; None for none.
        train_only: Names of the tasks whose own modules are trained and nothing else; if empty,
            everything is trained.
        best: Whether the best checkpoint holds the weights of one validation (`run`), or each
            task's own modules at its best one (`tasks`).

    Attributes:
        frozen: The weights that the backbone restores.
        best: Each task's best modules; None if they are not kept.
    """

    def __init__(
        self, init_from: Path | None, train_only: Sequence[str], best: Literal["run", "tasks"]
    ) -> None:
        self.init_from, self.train_only = init_from and Path(init_from), train_only
        self.frozen = FrozenWeights()
        self.best = BestModules() if best == "tasks" else None

    def setup(self, module: EvaluatedModel, training: bool) -> None:
        """Computes the digest of the frozen weights, and freezes what is not to be trained.

        Call it while the weights are in fp32 and not sharded.

        Raises:
            UserError: If the method cannot train single tasks' modules, or keep them.
        """
        self.frozen.compute_digest(module)
        if not training:
            return
        self.freeze(module)
        if self.best:
            trainer: Any = module.trainer
            check_own_modules(module, [task.name for task in module.tasks], trainer.callbacks)

    def freeze(self, module: EvaluatedModel) -> None:
        """Freezes all weights but those of the tasks in `train_only`, if there are some.

        Raises:
            UserError: If the method has no modules of their own for the tasks.
        """
        if self.train_only:
            self.frozen.trained_before |= freeze_other_modules(module, self.train_only)

    def start(self, module: EvaluatedModel, common: Collection[str]) -> None:
        """Loads the weights that the run starts from.

        Args:
            module: The method.
            common: Names of the arguments that every method has.

        Raises:
            UserError: If they do not fit the method, or the data are of other tasks.
        """
        trainer: Any = module.trainer
        others = [task for task in module.scheme.sizes if task not in self.train_only]
        if self.train_only and others:
            raise UserError(
                f"train_only {' '.join(self.train_only)}: the data module trains on "
                f"{', '.join(others)} as well; give it the same train_only"
            )
        if self.init_from and self.train_only:
            options = AnswerOptions(module.tasks, module.hparams, module.scheme.hparams, common)
            loaded = load_for_added_tasks(
                module, self.train_only, self.init_from, options, self.frozen
            )
            self.frozen.loaded(module, loaded)
        elif self.init_from:
            matching = load_matching_weights(module, module.tasks, self.init_from)
            self.frozen.loaded(module, matching)
        if any(isinstance(callback, BaseFinetuning) for callback in trainer.callbacks):
            self.frozen.in_checkpoints = True

    def best_results(
        self, module: EvaluatedModel, results: dict[str, SplitResult]
    ) -> dict[str, SplitResult]:
        """The results of the checkpoint that would be written after a validation.

        Args:
            module: The method, with the weights that were validated.
            results: The results of the validation by split.
        """
        if self.best is None:
            return results
        self.best.update(module, results)
        return self.best.results

    def save(self, module: EvaluatedModel, checkpoint: dict[str, Any]) -> None:
        """Removes the weights that the backbone restores from a checkpoint.

        A checkpoint from which training is not resumed gets each task's best modules, if kept.
        """
        self.frozen.save(module, checkpoint)
        if self.best and "optimizer_states" in checkpoint:
            checkpoint["best_modules"] = self.best.state_dict()
        elif self.best:
            self.best.replace(checkpoint["state_dict"])

    def load(self, module: EvaluatedModel, checkpoint: dict[str, Any], backbone: str) -> None:
        """Restores the weights; a resumed run does not start from those of another run again.

        Raises:
            UserError: If the backbone's weights are not those of the training.
        """
        self.frozen.restore(module, checkpoint, backbone)
        if self.best and "best_modules" in checkpoint:
            self.best.load_state_dict(checkpoint["best_modules"])
        self.init_from = None
