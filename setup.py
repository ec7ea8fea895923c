"""Packages of the wheel; everything else is in setup.cfg.

The configurations and the tables are folders of the repository, and part of the installed package.
"""

from setuptools import find_packages, setup

DATA = {"mtl.configs": "configs", "mtl.tables": "experiments/tables"}

setup(
    packages=[*find_packages(include=["mtl", "mtl.*"]), *DATA],
    package_dir=DATA,
    package_data={
        "mtl": ["py.typed", "schemas/*.json"],
        "mtl.compare.page": ["*.html", "*.css", "*.js"],
        **{package: ["**/*.yaml", "**/*.csv"] for package in DATA},
    },
)
