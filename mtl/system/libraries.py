"""The installed libraries, compared with the requirements of the package."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from typing import NamedTuple

from packaging.requirements import Requirement

# The package's extras, and what each is for.
EXTRAS = {
    "quickstart": "the encoder of `make quickstart`",
    "solvers": "CAGrad, Nash-MTL, FairGrad",
    "slurm": "tables on a cluster",
    "search": "tables with hyper-parameter search",
    "onnx": "`mtl export --onnx` and `--int8`, `mtl serve --runtime onnx`",
    "serve": "`mtl serve`",
}


class Library(NamedTuple):
    """A required library.

    Attributes:
        name: Its name.
        version: The installed version; None if it is not installed.
        required: The versions that the package requires, such as `>=2.6.4,<2.7`.
        compatible: Whether the installed version is one of them.
        extra: The extra that requires it; None if the package itself does.
    """

    name: str
    version: str | None
    required: str
    compatible: bool
    extra: str | None


def libraries() -> list[Library]:
    """Returns the libraries that the installed package and its `EXTRAS` require.

    The list is empty if the package is not installed, but runs from its source.
    """
    result = []
    for extra in (None, *EXTRAS):
        for requirement in _requirements(own_requirements(), extra):
            result.append(_library(requirement, extra))
            result += [
                _library(indirect, extra)
                for inner in requirement.extras
                for indirect in _requirements(_requirement_lines(requirement.name), inner)
            ]
    return result


def own_requirements() -> list[str]:
    """The requirements of the distribution that the command `mtl` belongs to; empty without one."""
    scripts = entry_points(group="console_scripts", name="mtl")
    return next((script.dist.requires or [] for script in scripts if script.dist), [])


def _requirement_lines(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def _requirements(lines: Sequence[str], extra: str | None) -> list[Requirement]:
    """The requirements of an installed library, or those that one of its extras adds."""
    requirements = [Requirement(line) for line in lines]

    def applies(requirement: Requirement, extra: str) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({"extra": extra})

    always = [each for each in requirements if applies(each, "")]
    if extra is None:
        return always
    return [each for each in requirements if each not in always and applies(each, extra)]


def _library(requirement: Requirement, extra: str | None) -> Library:
    name, required = requirement.name, str(requirement.specifier)
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Library(name, None, required, False, extra)
    compatible = requirement.specifier.contains(installed, prereleases=True)
    return Library(name, installed, required, compatible, extra)
