"""Meta fine-tuning (MFT): class prototypes, prototypical scores, and the files that hold them."""
