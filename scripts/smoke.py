"""Run the tests marked `smoke` against the built wheel, outside the checkout.

They run once on every supported Python of this machine, and once with the lowest versions that pyproject.toml declares.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED = ("3.11", "3.12", "3.13")
HELPERS = ("__init__.py", "conftest.py", "fake_server.py", "processes.py", "servers.py", "virtual_time.py")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        place = Path(folder)
        wheel = build_wheel(place)
        copy_tests(place)
        found = [version for version in SUPPORTED if interpreter(version)]
        print(f"smoke: {wheel.name} on Python {', '.join(found)}, and on the lowest dependencies", flush=True)
        runs = [(version, "highest") for version in found] + [(found[0], "lowest-direct")]
        failed = [
            f"{version} {resolution}" for version, resolution in runs if not passes(place, wheel, version, resolution)
        ]
    print("smoke: " + (f"failed on {', '.join(failed)}" if failed else "all passed"))
    return 1 if failed else 0


def interpreter(version: str) -> str | None:
    """Return the path of a Python of this version that starts (a version manager's shim may not)."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        return sys.executable
    path = shutil.which(f"python{version}")
    works = path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
    return path if works else None


def build_wheel(place: Path) -> Path:
    uv("build", "--wheel", "--quiet", "--out-dir", str(place), str(ROOT))
    return next(place.glob("*.whl"))


def copy_tests(place: Path) -> None:
    """Copy the files with smoke tests; the others import packages outside the dependency group `smoke`."""
    (place / "tests").mkdir()
    for source in (ROOT / "tests").glob("*.py"):
        if source.name in HELPERS or "mark.smoke" in source.read_text():
            shutil.copy(source, place / "tests")
    shutil.copy(ROOT / "pyproject.toml", place)


def passes(place: Path, wheel: Path, version: str, resolution: str) -> bool:
    """Return whether the smoke tests pass in a fresh environment of this Python and these dependencies."""
    venv = place / f"venv-{version}-{resolution}"
    python = str(venv / "bin" / "python")
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    uv("venv", "--quiet", "--python", str(interpreter(version)), str(venv))
    uv(
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "--resolution",
        resolution,
        f"{wheel}[langchain,redis]",
        *groups["smoke"],
    )
    command = [python, "-m", "pytest", "-q", "-m", "smoke", "-p", "no:cacheprovider", "tests"]
    print(f"smoke: Python {version}, {resolution}", flush=True)
    return subprocess.run(command, cwd=place, check=False).returncode == 0


def uv(*arguments: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("uv")), *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
