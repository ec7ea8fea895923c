"""Modules whose optional package is not installed are not searched for doctests."""

from importlib.util import find_spec

SERVING = [f"mtl/serving/{name}.py" for name in ("api", "server")]
collect_ignore = [] if find_spec("litserve") else SERVING
