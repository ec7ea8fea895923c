"""Meta fine-tuning: prototypes, and files of prototypical scores."""
