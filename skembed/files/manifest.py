"""The manifest of a folder of written files: what the files hold, and where the rows came from.

It is a JSON file beside the parquet files, with a checksum of itself and of each file. A parquet file is finished once
the manifest lists it. Imports the digest of a file from the engine, atomic writes, locks and paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import Timeout

from skembed.atomic import UNFINISHED, atomic_write
from skembed.encoding.models.fingerprint import sha256_file
from skembed.errors import DestinationError
from skembed.locks import locked
from skembed.paths import SpecialFileError, refuse_special_file

MANIFEST = "_manifest.json"  # readers of parquet folders skip names that start with _ or .
_LOCK = ".lock"
_PARTS = f"part-{'[0-9]' * 6}.parquet"
_FORMAT = 2


@dataclass
class Manifest:
    """What has been written into a folder so far.

    Attributes
    ----------
    model : str
        Name of the model or of the estimator, for human readers.
    settings : dict
        Everything that determines the rows: columns, model fingerprint, pooling and so on.
    sources : list of dict
        The files whose rows are in finished parts, in order; see ``stamps`` of :class:`skembed.files.sources.Source`.
    parts : list of dict
        ``file``, ``rows``, ``bytes`` and ``sha256`` of each finished parquet file, in order.
    """

    model: str
    settings: dict[str, Any]
    sources: list[dict[str, Any]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)
    format: int = _FORMAT

    @property
    def n_rows(self) -> int:
        """Number of rows in finished parts."""
        return sum(part["rows"] for part in self.parts)

    @property
    def next_part(self) -> str:
        """File name of the part after the finished ones."""
        return f"part-{len(self.parts):06d}.parquet"

    def add_part(self, part: Path, n_rows: int) -> None:
        """Add a finished parquet file to the list."""
        n_bytes, sha256 = part.stat().st_size, sha256_file(part)
        self.parts.append({"file": part.name, "rows": n_rows, "bytes": n_bytes, "sha256": sha256})

    def save(self, folder: Path) -> None:
        """Replace the manifest in the folder atomically."""
        values = asdict(self)
        with atomic_write(folder / MANIFEST) as file:
            file.write(json.dumps({**values, "sha256": _sha256(values)}, indent=1).encode())

    def remove_unlisted_parts(self, folder: Path) -> None:
        """Remove parts that are not listed: a killed run left them, or the caller starts anew."""
        listed = {part["file"] for part in self.parts}
        for path in folder.glob(_PARTS):
            if path.name not in listed:
                path.unlink()

    @classmethod
    def load(cls, folder: Path) -> Manifest | None:
        """Read the manifest of a folder and verify the parts that it lists.

        All parts are read, at the speed of the disk or of a checksum, about 1 GB a second.

        Returns
        -------
        Manifest or None
            None if the folder has none.

        Raises
        ------
        DestinationError
            If it is damaged or of another version, or a part that it lists is missing or damaged.
        """
        try:
            refuse_special_file(folder / MANIFEST)
            values = json.loads((folder / MANIFEST).read_bytes())
            if values["format"] != _FORMAT:
                raise DestinationError(
                    f"{folder / MANIFEST} has format {values['format']!r}; this version of skembed has {_FORMAT}. "
                    "Choose another destination, or pass resume=False to start anew."
                )
            if values.pop("sha256") != _sha256(values):
                raise ValueError("sha256")
            manifest = cls(**values)
            parts = [(folder / part["file"], part["bytes"], part["sha256"]) for part in manifest.parts]
        except FileNotFoundError:
            return None
        except DestinationError:
            raise
        except (SpecialFileError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise DestinationError(f"{folder / MANIFEST} is damaged. Pass resume=False to start anew.") from error
        for file, n_bytes, sha256 in parts:
            if not file.is_file() or file.stat().st_size != n_bytes or sha256_file(file) != sha256:
                raise DestinationError(
                    f"{file} is missing or has changed. Restore it, or pass resume=False to start anew."
                )
        return manifest


def _sha256(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextmanager
def locked_destination(folder: Path) -> Iterator[None]:
    """Make a folder and lock it against other processes; the lock of a dead process is void.

    Raises
    ------
    DestinationError
        If another process is writing into it, or it holds files that are not skembed's.
    """
    if folder.exists() and not folder.is_dir():
        raise DestinationError(f"{folder} is a file. Choose an empty or a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MANIFEST).exists():
        own = {_LOCK, MANIFEST, *(path.name for path in folder.glob(f"*{UNFINISHED}"))}  # another run may be starting
        foreign = [path.name for path in folder.iterdir() if path.name not in own]
        if foreign:
            raise DestinationError(f"{folder} holds other files ({foreign[0]}). Choose an empty or a new folder.")
    with locked(folder / _LOCK, timeout=0, taking=_no_other_run(folder)):
        for name in (_PARTS, MANIFEST):
            for path in folder.glob(f"{name}{UNFINISHED}"):  # a killed process left it
                path.unlink()
        yield


@contextmanager
def _no_other_run(folder: Path) -> Iterator[None]:
    try:
        yield
    except Timeout:
        raise DestinationError(
            f"Another process is writing into {folder}. Wait for it, or choose another folder."
        ) from None


def check_same_settings(folder: Path, before: Manifest, settings: dict[str, Any]) -> None:
    """Raise DestinationError if the folder was written with other settings: its rows would be of two kinds."""
    differing = [name for name in settings if settings[name] != before.settings.get(name)]
    if differing:
        given = {name: (_as_given(before.settings.get(name)), _as_given(settings[name])) for name in differing}
        if "truncate_dim" in given:
            given.pop("columns", None)  # they differ for the same reason
        was = ", ".join(f"{name}={then}" for name, (then, now) in given.items() if then != now)
        now = ", ".join(f"{name}={now}" for name, (then, now) in given.items() if then != now)
        raise DestinationError(
            f"{folder} was written with {was}, not {now}. Choose another destination, the same settings, or "
            "resume=False to start anew."
        )


def _as_given(value: Any) -> str:
    """Write a setting as a caller gives it: 'mean' for [['mean']], a list of values for each recipe."""
    if isinstance(value, list) and value and all(isinstance(one, list) for one in value):
        value = tuple(dict.fromkeys(chain.from_iterable(value)))
        value = value[0] if len(value) == 1 else value
    return repr(value)


def check_same_sources(folder: Path, before: Manifest, stamps: list[dict[str, Any]]) -> None:
    """Raise DestinationError if finished rows may no longer be those of the source."""
    for number, seen in enumerate(before.sources):
        now = stamps[number] if number < len(stamps) else {"file": None}
        if now != seen:
            is_same_file = now["file"] == seen["file"]
            what = "has changed" if is_same_file else f"is no longer the source's file number {number + 1}"
            raise DestinationError(
                f"{seen['file']!r} {what}, but its rows are in {folder} already. Choose another destination, or "
                "resume=False to start anew; with cache='disk' unchanged texts are not encoded again."
            )
