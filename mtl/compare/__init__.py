"""Comparisons of training procedures: which runs answer a question, and what they say."""
