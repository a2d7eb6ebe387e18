"""Whether other processors, emulated by QEMU, write the same bytes and decode to the same scales and pixels.

    apt-get install qemu-user-static
    python benchmarks/emulated.py FOLDER [--on avx2 aarch64] [--weights W]

Nine small files: three crops of scikit-image's photographs at three qualities. This machine codes them, then so does
each emulated one, which also decodes this machine's files. Exit status 1 if anything differs. `avx2` is this Python on
an x86-64 without AVX-512; `aarch64` is Debian's Python with the wheels of the versions installed here, both fetched
into FOLDER. A second run goes on where the first one was.
"""

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
QUALITIES = (20.0, 50.0, 98.0)  # the last with a residual layer
CROPS = {"coffee": (100, 200, 64, 96), "astronaut": (100, 200, 90, 70), "chelsea": (100, 150, 128, 128)}
GLIBC = (17, 27, 28, 31, 34, 35)  # manylinux_2_N
# Whatever else decides the numbers comes with these.
PINNED = ("flax", "jax", "jaxlib", "llvmlite", "ml_dtypes", "numba", "numpy", "pillow", "safetensors", "scipy")


def main() -> int:
    """Prints a JSON object; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--on", nargs="+", choices=("avx2", "aarch64"), default=("avx2", "aarch64"))
    parser.add_argument("--weights", help="default: the embedded model; of one rate they make three files")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # who codes: the script runs itself
    flags = parser.parse_args()
    folder = flags.folder.resolve()
    if flags.side:
        code(folder, flags.side, flags.weights)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    write_crops(folder)
    commands = {"host": ([sys.executable], {})}
    commands |= {name: {"avx2": avx2, "aarch64": aarch64}[name](folder) for name in flags.on}
    for name, (python, environment) in commands.items():
        if not (folder / f"{name}.npz").exists():
            run(folder, name, python, environment, flags.weights)
    found = {name: differences(folder, name) for name in flags.on}
    print(json.dumps(found, indent=1))
    return int(any(one["differ"] for one in found.values()))


def write_crops(folder: Path) -> None:
    """The pictures as .npy files, which need no library to read."""
    from skimage import data

    for name, (top, left, height, width) in CROPS.items():
        np.save(folder / f"{name}.npy", getattr(data, name)()[top : top + height, left : left + width])


def avx2(folder: Path) -> tuple[list[str], dict[str, str]]:
    """(a command that runs this Python on a processor with AVX2 and no AVX-512, its environment)."""
    python = ["qemu-x86_64-static", "-cpu", "Haswell", os.path.realpath(sys.executable)]
    return python, {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path[1:])])}


def aarch64(folder: Path) -> tuple[list[str], dict[str, str]]:
    """(a command that runs Debian's Python on an ARM processor, its environment); fetches both into `folder`."""
    system, wheels = folder / "aarch64", folder / "wheels"
    if not system.exists():
        unpack_debian(folder / "apt", system)
    (python,) = system.glob("usr/bin/python3.[0-9]*[0-9]")
    if not wheels.exists():
        names = [
            requirement.split(";")[0] for requirement in requires("tcm_jax") or () if "extra ==" not in requirement
        ]
        pins = [f"{name}=={version(name)}" for name in PINNED]
        platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in GLIBC]
        fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target", str(wheels)]
        of_python = f"--python-version={python.name.removeprefix('python')}"
        subprocess.run([*fetch, of_python, *platforms, *names, *pins], check=True)
    environment = {"QEMU_LD_PREFIX": str(system), "PYTHONPATH": f"{ROOT}:{wheels}", "PYTHONHOME": str(system / "usr")}
    return ["qemu-aarch64-static", str(python)], environment


def unpack_debian(apt: Path, system: Path) -> None:
    """Python and libstdc++ of Debian's ARM64, with all that they need, from the sources that apt has here."""
    (apt / "lists" / "partial").mkdir(parents=True)
    (apt / "cache" / "archives" / "partial").mkdir(parents=True)
    (apt / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::Cache": apt / "cache",
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
    }
    get = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*get, "update"], check=True)
    subprocess.run([*get, "-y", "--download-only", "--no-install-recommends", "install", "python3", "libstdc++6"],
                   check=True)  # fmt: skip
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(system)], check=True)


def run(folder: Path, name: str, python: list[str], environment: dict[str, str], weights: str | None) -> None:
    """Codes on one side; nothing that another processor compiled is taken."""
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / f"cache-{name}")} | environment
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    chosen = ["--weights", weights] if weights else []
    with (folder / f"{name}.log").open("wb") as log:  # QEMU warns of each instruction that it lacks
        done = subprocess.run([*python, __file__, str(folder), "--side", name, *chosen], env=environment, stderr=log)
    if done.returncode:
        raise SystemExit(f"{name} failed; see {folder}/{name}.log")


def code(folder: Path, side: str, weights: str | None) -> None:
    """Writes this side's files, and an .npz of what it decodes from the first side's."""
    import jax
    from portability import observed

    from tcm_jax.codec.codec import Codec
    from tcm_jax.weights.files import load_weights

    codec = Codec(load_weights(weights), coder="native")
    qualities = QUALITIES if codec.weights.config.levels else (None,)
    (folder / side).mkdir(exist_ok=True)
    for name in CROPS:
        for quality in qualities:
            data = codec.compress(np.load(folder / f"{name}.npy"), quality)
            (folder / side / f"{name}-{quality}.tcm").write_bytes(data)
            print(f"{side}: {name}, quality {quality}, {len(data)} bytes", flush=True)
    kept = {"jax": np.array(jax.__version__)}
    for path in sorted((folder / "host").glob("*.tcm")):
        arrays, error = observed(codec, path.read_bytes())
        kept |= {f"{path.stem}/{part}": array for part, array in arrays.items()}
        kept[f"{path.stem}/error"] = np.array(error or "")
    temporary = folder / f"{side}.part.npz"
    np.savez(temporary, **kept)
    temporary.replace(folder / f"{side}.npz")


def differences(folder: Path, side: str) -> dict:
    """What of one side's files, means, scales and pictures differs from this machine's."""
    files = sorted((folder / "host").glob("*.tcm"))
    differ = [file.name for file in files if (folder / side / file.name).read_bytes() != file.read_bytes()]
    ours, theirs = np.load(folder / "host.npz"), np.load(folder / f"{side}.npz")
    arrays = sorted(set(ours) & set(theirs) - {"jax"})
    differ += sorted(set(ours) ^ set(theirs))
    differ += [name for name in arrays if not np.array_equal(ours[name], theirs[name])]
    scales = sum(ours[name].size for name in arrays if name.endswith("/sigma"))
    return {"jax": str(theirs["jax"]), "files": len(files), "arrays": len(arrays), "scales": scales, "differ": differ}


if __name__ == "__main__":
    sys.exit(main())
