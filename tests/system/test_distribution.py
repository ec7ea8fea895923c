"""The name and the oldest libraries of the distribution."""

import configparser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from mtl._version import DISTRIBUTION

ROOT = Path(__file__).parents[2]


def setup_file() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_messages_name_the_distribution_of_setup_cfg() -> None:
    assert setup_file()["metadata"]["name"] == DISTRIBUTION


def test_the_oldest_constraints_are_versions_that_are_accepted() -> None:
    lines = setup_file()["options"]["install_requires"].splitlines()
    required = [Requirement(line) for line in lines if line and line[0] != "#"]
    pinned = {}
    for line in (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines():
        if line and line[0] != "#":
            name, _, number = line.partition("==")
            pinned[name] = Version(number)
    assert sorted(pinned) == sorted(each.name for each in required)
    for requirement in required:
        assert requirement.specifier.contains(pinned[requirement.name]), requirement
        if requirement.name in ("torch", "lightning", "transformers"):
            lowest = next(each for each in requirement.specifier if each.operator == ">=")
            release = Version(lowest.version).release
            assert pinned[requirement.name].release[: len(release)] == release
