"""Model merging: one encoder from encoders that were fine-tuned on different tasks."""
