"""TEMP."""

from mtl.cli.lightning import report_user_errors as report_user_errors
