"""Packages that the core and each extra install, and their MB on the disk: of what is installed here.

    pip install -e ".[dev]" && python benchmarks/installed.py

`not here` names what an extra asks for and this environment lacks, which is not counted. Python files are counted
without what Python compiles of them.
"""

import json
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("", "evaluation", "train", "all", "onnx", "ray", "torch")


def main() -> None:
    """Prints a JSON object by extra; "" is the core."""
    print(json.dumps({extra: weight(extra) for extra in EXTRAS}, indent=1))


def weight(extra: str) -> dict:
    """{"packages", "MB", "not here"} of `pip install "tcm_jax[extra]"`."""
    found: dict[str, Distribution] = {}
    missing: set[str] = set()
    wanted, seen = [("tcm_jax", extra)], set()
    while wanted:
        name, with_extra = wanted.pop()
        if (name, with_extra) in seen:
            continue
        seen.add((name, with_extra))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        for one in map(Requirement, found[name].requires or ()):
            if one.marker is None or one.marker.evaluate({"extra": with_extra}):
                name_of_it = canonicalize_name(one.name)
                wanted += [(name_of_it, inner) for inner in ("", *one.extras)]
    size = sum(installed_bytes(found[name]) for name in found if canonicalize_name(name) != "tcm-jax")
    return {"packages": len(found) - 1, "MB": round(size / 1e6), "not here": sorted(missing)}


def installed_bytes(package: Distribution) -> int:
    """The bytes of a package's files."""
    files = (package.locate_file(file) for file in package.files or () if not file.name.endswith(".pyc"))
    return sum(path.stat().st_size for path in files if path.is_file())


if __name__ == "__main__":
    main()
