"""Which tasks to train together: estimates of what groups gain, and the best groups."""
