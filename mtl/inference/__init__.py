"""Inference: load a trained model and predict for new texts."""
