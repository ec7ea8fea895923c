"""TEMP."""

from mtl.cli.lightning import Parser as Parser
