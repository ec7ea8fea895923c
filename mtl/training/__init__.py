"""Training runs: the Trainer, seeding, run folders, checkpoints and communication between processes."""
