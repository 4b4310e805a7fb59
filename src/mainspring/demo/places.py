"""Where the demo finds its definitions, and the folder in which it makes its project."""

from __future__ import annotations

import shutil
from pathlib import Path

from mainspring.core import NotFoundError, RefusedError

MARK = ".mainspring-demo"

_HERE = Path(__file__).resolve().parent


def example_folder() -> Path:
    """The flights example: inside the installed package, or in the repository it was cloned from.

    Raises:
        NotFoundError: Neither the wheel nor the repository holds it (MS-L134).
    """
    for folder in (_HERE / "project", _HERE.parents[2] / "examples" / "flights"):
        if (folder / "definitions.py").is_file():
            return folder
    raise NotFoundError(
        "MS-L134", "the flights example is not there", where=str(_HERE), hint="pip install --force-reinstall mainspring"
    )


def prepare_folder(folder: Path) -> None:
    """Make a clean project folder; one that the demo has made before is emptied, any other is left alone.

    Raises:
        RefusedError: The folder holds something that is not the demo's (MS-L130).
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise RefusedError(
                "MS-L130", f"{folder} is not empty and not the demo's", hint="name another folder with --folder"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for name in ("definitions.py", "mainspring.toml"):
        shutil.copyfile(example_folder() / name, folder / name)
