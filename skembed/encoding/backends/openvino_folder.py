"""The folder of a converted model: its contents, and the model, libraries and format it was made for. Imports numpy."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zlib import crc32

from skembed.encoding.backends.openvino_trial import MODEL, POST_POOLING, unsealed
from skembed.encoding.backends.reader import Defaults, PostPoolingModule, TransformerSpec
from skembed.encoding.tokens import TextTokenizer

ABOUT, PROBE = "about.json", "probe.npy"
FORMAT = 3  # of the folder; raise it when the contents change
LIBRARIES = ("openvino", "transformers", "sentence-transformers", "tokenizers")  # whose versions shape the contents

_BYTES_PER_READ = 2**24


@dataclass(frozen=True)
class Conversion:
    """The description of a converted model.

    Attributes
    ----------
    folder : Path
    spec : TransformerSpec
    defaults : Defaults
    post_pooling : tuple of PostPoolingModule
    ends_normalized : bool
        Whether the model's last module is a Normalize, which is not in ``post_pooling``.
    checksums : dict of str to int
        By file name.
    """

    folder: Path
    spec: TransformerSpec
    defaults: Defaults
    post_pooling: tuple[PostPoolingModule, ...]
    ends_normalized: bool
    checksums: dict[str, int]

    def is_whole(self, name: str) -> bool:
        """Return whether a file and the weights that belong to it are as they were written."""
        names = [other for other in self.checksums if Path(other).stem == Path(name).stem]
        return bool(names) and all(checksum(self.folder / other) == self.checksums[other] for other in names)


def checksum(file: Path) -> int:
    """Return the CRC of a file: fast, but no protection from forgery, because the folder is the user's own."""
    digest = 0
    with file.open("rb") as content:
        while part := content.read(_BYTES_PER_READ):
            digest = crc32(part, digest)
    return digest


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a conversion depends on, without importing them."""
    return {library: version(library) for library in LIBRARIES}


def read_conversion(folder: Path) -> Conversion | None:
    """Read the description of a converted model; return None if there is none, or it is damaged or outdated."""
    try:
        about = unsealed((folder / ABOUT).read_bytes())
        if about["versions"] != versions():
            return None
        spec = {**about["reader"], "tokenizer": TextTokenizer.from_dict(about["reader"]["tokenizer"])}
        spec["special_ids"], spec["own_pooling"] = frozenset(spec["special_ids"]), tuple(spec["own_pooling"])
        conversion = Conversion(
            folder,
            TransformerSpec(**spec),
            Defaults(**about["defaults"]),
            tuple(PostPoolingModule(**module) for module in about["tail"]),
            about["ends_normalized"],
            about["checksums"],
        )
        files = [MODEL, PROBE, *([POST_POOLING] if conversion.post_pooling else [])]
        return conversion if all(conversion.is_whole(name) for name in files) else None
    except Exception:  # damage may raise anything, such as an error of the tokenizer's own
        return None


def conversion_folder(fingerprint: str, trust_remote_code: bool) -> Path | None:
    """Return the folder for a converted model, inside the user's cache folder; None if the user has none.

    Conversions of models that were trusted to run code of their own are kept apart from the others.
    """
    from platformdirs import user_cache_path

    try:
        caches = user_cache_path("skembed", appauthor=False)
    except RuntimeError:  # a user without a home, as in a container
        return None
    if caches.parts[0] == "~":  # the same in older versions of platformdirs
        return None
    return caches / "openvino" / f"{fingerprint[:32]}-{FORMAT}{'-trusted' if trust_remote_code else ''}"
