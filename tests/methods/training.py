"""A short training without files and output."""

from typing import Any

from lightning.pytorch import Trainer

from mtl.methods import MultiTaskModule


def fit(module: MultiTaskModule, data: Any, **options: Any) -> Trainer:
    """Trains on the CPU, with further options of the Trainer."""
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, data)
    return trainer
