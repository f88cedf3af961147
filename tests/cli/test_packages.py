"""The packages that CI installs: hashed without exception, and the wheel that the hashes name."""

from pathlib import Path

import pytest

from rackwright import __version__
from rackwright.cli.packages import read_packages
from rackwright.errors import ChangeRefused
from tests.support.wheel_directory import CONTENT, OTHER, OURS, WHEEL, write_wheel


def test_the_wheel_and_all_hashes_are_read(tmp_path: Path) -> None:
    packages = read_packages(write_wheel(tmp_path, OTHER + OURS))

    assert (packages.wheel, packages.content) == (WHEEL, CONTENT)
    assert packages.requirements == (f"attrs==25.1 --hash=sha256:{'a' * 64} --hash=sha256:{'b' * 64}\n{OURS.strip()}\n")


@pytest.mark.parametrize(
    "line",
    [
        f"rackwright=={__version__}",
        "attrs==25.1",
        "attrs",
        f"attrs>=25 --hash=sha256:{'a' * 64}",
        f"attrs==25.1 --hash=md5:{'a' * 32}",
        f"attrs==25.1 --hash=sha256:{'a' * 63}",
        "--extra-index-url https://example.org/simple",
        "--index-url https://example.org/simple",
        "-e .",
        "# a remark \\\n--extra-index-url https://example.org/simple",
        "# a remark \\\n--trusted-host example.org",
        "-r others.txt",
        "./attrs.whl",
        "attrs @ https://example.org/attrs.whl",
        "git+https://example.org/attrs",
    ],
)
def test_a_requirement_without_hash_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ChangeRefused, match="each line has a name, a version and SHA-256 digests"):
        read_packages(write_wheel(tmp_path, f"{OURS}{line}\n"))


@pytest.mark.parametrize(
    ("requirements", "wheel", "problem"),
    [
        (OTHER, WHEEL, "the wheel is not the one of requirements-s3.txt"),
        (OURS.replace(OURS[-5:-1], "0000"), WHEEL, "the wheel is not the one of requirements-s3.txt"),
        (OURS, "rackwright-9.9.9-py3-none-any.whl", "got rackwright-9.9.9-py3-none-any.whl"),
        (OURS, "other.whl", "got other.whl"),
    ],
)
def test_another_wheel_is_refused(tmp_path: Path, requirements: str, wheel: str, problem: str) -> None:
    with pytest.raises(ChangeRefused) as refused:
        read_packages(write_wheel(tmp_path, requirements, wheel))
    assert problem in str(refused.value)


def test_a_directory_without_requirements_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChangeRefused, match="Run `make wheel`"):
        read_packages(tmp_path)
