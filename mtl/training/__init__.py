"""Training runs: the Trainer, seeding, run folders, checkpoints, distributed training."""
