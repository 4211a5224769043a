"""The folder of a converted model: what it holds, and which model, libraries and format it is of. Imports numpy."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zlib import crc32

from skembed.encoding.backends.openvino_trial import MODEL, TAIL, unsealed
from skembed.encoding.backends.reader import Defaults, TailModule, TransformerSpec
from skembed.encoding.tokens import TextTokenizer

ABOUT, PROBE = "about.json", "probe.npy"
FORMAT = 3  # of the folder; to be raised when it comes to hold something else
LIBRARIES = ("openvino", "transformers", "sentence-transformers", "tokenizers")  # that have a say in what it holds
_BYTES_PER_READ = 2**24


@dataclass(frozen=True)
class Conversion:
    """A converted model as its folder describes it.

    Attributes
    ----------
    folder : Path
    reader : TransformerSpec
    defaults : Defaults
    tail : tuple of TailModule
    ends_normalized : bool
        Whether the model's last module is a Normalize, which is not among its tail.
    checksums : dict
        Of each file.
    """

    folder: Path
    reader: TransformerSpec
    defaults: Defaults
    tail: tuple[TailModule, ...]
    ends_normalized: bool
    checksums: dict[str, int]

    def is_whole(self, name: str) -> bool:
        """Whether a file of the folder, and the weights beside it, are as they were written."""
        names = [other for other in self.checksums if Path(other).stem == Path(name).stem]
        return bool(names) and all(checksum(self.folder / other) == self.checksums[other] for other in names)


def checksum(file: Path) -> int:
    """Digest a file, fast rather than safe from forgery: the folder is the user's own."""
    digest = 0
    with file.open("rb") as content:
        while part := content.read(_BYTES_PER_READ):
            digest = crc32(part, digest)
    return digest


def versions() -> dict[str, str]:
    """Look up the versions of the libraries that a conversion depends on, without importing them."""
    return {library: version(library) for library in LIBRARIES}


def read_conversion(folder: Path) -> Conversion | None:
    """Read what a folder says of its model; None if there is none that is of use here."""
    try:
        about = unsealed((folder / ABOUT).read_bytes())
        if about["versions"] != versions():
            return None
        reader = {**about["reader"], "tokenizer": TextTokenizer.from_dict(about["reader"]["tokenizer"])}
        reader["special_ids"], reader["own_pooling"] = frozenset(reader["special_ids"]), tuple(reader["own_pooling"])
        conversion = Conversion(
            folder,
            TransformerSpec(**reader),
            Defaults(**about["defaults"]),
            tuple(TailModule(**module) for module in about["tail"]),
            about["ends_normalized"],
            about["checksums"],
        )
        files = [MODEL, PROBE, *([TAIL] if conversion.tail else [])]
        return conversion if all(conversion.is_whole(name) for name in files) else None
    except Exception:  # damage may show in any way, e.g. as the tokenizer's own kind of error
        return None


def conversion_folder(fingerprint: str, trust_remote_code: bool) -> Path | None:
    """Return where a converted model is kept: where the operating system keeps a user's caches; None if nowhere.

    What brings code of its own is not served to those who do not trust it.
    """
    from platformdirs import user_cache_path

    try:
        caches = user_cache_path("skembed", appauthor=False)
    except RuntimeError:  # a user without a home, as in containers
        return None
    if caches.parts[0] == "~":  # as older platformdirs say it
        return None
    return caches / "openvino" / f"{fingerprint[:32]}-{FORMAT}{'-trusted' if trust_remote_code else ''}"
