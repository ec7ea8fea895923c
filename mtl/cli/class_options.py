"""TEMP."""

from mtl.cli.lightning import classes as class_options

__all__ = ["class_options"]
