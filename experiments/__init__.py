"""Tables (questions and the runs that answer them), benchmarks, and stored results."""
