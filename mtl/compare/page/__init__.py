"""The page of a comparison: one HTML file that needs no server and no other file."""

from mtl.compare.page.data import PageData
from mtl.compare.page.template import render

__all__ = ["PageData", "render"]
