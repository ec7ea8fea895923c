"""Serving: answer requests for predictions over HTTP."""
