"""Training runs: the Trainer, seeding, run folders and processes."""
