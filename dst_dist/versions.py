"""Compares installed packages with the bounds in setup.cfg, which pip does not do in every installation."""

import functools
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from dst_dist.errors import ConfigError

PACKAGE = "dst-dist"


def check_versions() -> None:
    """Raise ConfigError with every package that is missing or outside its bounds.

    Other versions may train wrongly without an error. A source tree that is not installed has no bounds to compare
    with.
    """
    if faults := version_faults():
        raise ConfigError([*faults, "install what setup.cfg names: pip install -c constraints.txt -e ."])


@functools.cache
def version_faults() -> tuple[str, ...]:
    """Return the faults of the installed packages, a line each."""
    # An extra is for those who ask for it.
    ours = [one for one in _needed() if one.marker is None or one.marker.evaluate({"extra": ""})]
    return tuple(filter(None, map(_fault, ours)))


def version_fault(name: str) -> str | None:
    """Return the fault of a package's version, which an extra may bound; None if it has none, or is not installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return None
    return next(filter(None, (_fault(one) for one in _needed() if one.name == name)), None)


def _needed() -> list[Requirement]:
    try:
        return [Requirement(line) for line in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        return []


def _fault(needed: Requirement) -> str | None:
    try:
        installed = version(needed.name)
    except PackageNotFoundError:
        return f"{needed.name} is not installed, {needed.name}{needed.specifier} is needed"
    # A build for one kind of device has its name behind a plus; nightly builds are before their release.
    if needed.specifier.contains(installed, prereleases=True):
        return None
    return f"{needed.name} {installed} is installed, {needed.name}{needed.specifier} is needed"
