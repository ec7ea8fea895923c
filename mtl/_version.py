"""The version, in a module that imports nothing, so that every module can read it."""

__version__ = "0.1.0"
# The name on package indexes, where `mtl` is another project.
DISTRIBUTION = "mtl-text"
