"""Predictions of trained models for new texts."""
