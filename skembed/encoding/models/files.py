"""Files of a model's folder: which ones loading reads, and what they say that shapes vectors.

Follows sentence-transformers and transformers without importing them, because a process that embeds with OpenVINO
fingerprints models and never imports torch. Imports the ground.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skembed.paths import SpecialFileError

# module of sentence-transformers -> its configuration, and whether it has weights; functions below read more
_MODULES = {
    "Pooling": ("config.json", False),
    "Normalize": ("config.json", False),
    "Dropout": ("config.json", False),
    "BoW": ("config.json", False),
    "WordWeights": ("config.json", False),  # saves weights, but computes them from its configuration
    "Dense": ("config.json", True),
    "LayerNorm": ("config.json", True),
    "WeightedLayerPooling": ("config.json", True),
    "CNN": ("cnn_config.json", True),
    "LSTM": ("lstm_config.json", True),
    "WordEmbeddings": ("wordembedding_config.json", True),
    "StaticEmbedding": (None, True),
}
_TRANSFORMERS = ("Transformer", "CLIPModel")
_ROUTERS = ("Router", "Asym")
_TRANSFORMER_CONFIGS = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]  # the first that is not empty counts
_WORD_TOKENIZERS = {
    "WhitespaceTokenizer": "whitespacetokenizer_config.json",
    "PhraseTokenizer": "phrasetokenizer_config.json",
}

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that exists counts
_SHARDED_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
_PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
_TEMPLATES = "additional_chat_templates"

# Classes of transformers' tokenizers that are not built from tokenizer.json. The files of their vocabularies have names
# of their own.
SLOW_TOKENIZERS = frozenset(
    {"BartphoTokenizer", "BertGenerationTokenizer", "BertJapaneseTokenizer", "BertTokenizerLegacy",
     "BertweetTokenizer", "BioGptTokenizer", "BlenderbotSmallTokenizer", "ByT5Tokenizer", "CTRLTokenizer",
     "CanineTokenizer", "ClvpTokenizer", "CpmAntTokenizer", "CpmTokenizer", "DiaTokenizer", "EsmTokenizer",
     "FSMTTokenizer", "FastSpeech2ConformerTokenizer", "FlaubertTokenizer", "GPTNeoXJapaneseTokenizer",
     "GPTSw3Tokenizer", "M2M100Tokenizer", "MarianTokenizer", "MgpstrTokenizer", "MyT5Tokenizer", "PLBartTokenizer",
     "PerceiverTokenizer", "PhobertTokenizer", "Pop2PianoTokenizer", "ProphetNetTokenizer", "RoCBertTokenizer",
     "SiglipTokenizer", "Speech2TextTokenizer", "SpeechT5Tokenizer", "TapasTokenizer", "VitsTokenizer",
     "Wav2Vec2CTCTokenizer", "Wav2Vec2PhonemeCTCTokenizer", "XLMTokenizer"}
)  # fmt: skip
_VOCABULARIES = (".txt", ".json", ".model", ".codes", ".tokenizer", ".bpe", ".tiktoken", ".spm")

# Entries that say who wrote a file, or in which state, and do not affect vectors. All others count, though some
# (labels, chat templates) seldom matter: a vector computed twice does no harm. "architectures" counts too, because
# transformers chooses a class by it, and sentence-transformers a pooling.
_OF_WRITER = {"transformers_version", "_name_or_path", "name_or_path", "_commit_hash"}
_NOT_IN_CONFIG = _OF_WRITER | {"torch_dtype", "dtype", "use_cache"}  # a model is loaded in the precision asked for
_NOT_IN_TOKENIZER_CONFIG = _OF_WRITER | {
    "is_local", "local_files_only", "backend", "padding", "truncation", "max_length", "stride", "truncation_strategy",
    "pad_to_multiple_of",
}  # fmt: skip
_NOT_IN_MODEL_CONFIG = {"__version__", "similarity_fn_name", "requirements"}
_HARMLESS_KWARGS = {"dtype", "torch_dtype", "attn_implementation", "trust_remote_code", "model_max_length"}
TUNER_FILE = "fine_tuner.json"  # which SentenceEmbeddingFineTuner.save adds to a model; no library reads it
_NOT_READ_BY_CODE = {".git", ".cache", "__pycache__", TUNER_FILE}

Stamp = tuple[int, ...]  # a cheap sign that a file or folder has not changed


@dataclass
class ModelFiles:
    """What loading a folder reads.

    Attributes
    ----------
    configurations : list of (str, str)
        Label and content of each configuration, as canonical JSON.
    binaries : list of (str, Path)
        Label and path of each file that counts by its bytes.
    stamps : dict of Path to Stamp
        Stamps from before reading: of every file that counts or decides which others are read, and of every folder
        in which a file that appears, vanishes or is renamed may be read.
    is_complete : bool
        Whether the folder alone determines the vectors; False with an adapter's base model or code from elsewhere.
    """

    configurations: list[tuple[str, str]] = field(default_factory=list)
    binaries: list[tuple[str, Path]] = field(default_factory=list)
    stamps: dict[Path, Stamp] = field(default_factory=dict)
    is_complete: bool = True

    def are_unchanged(self) -> bool:
        """Return whether no file has changed, as far as that is known without reading them."""
        return all(stamp_of(path) == stamp for path, stamp in self.stamps.items())


def find_model_files(folder: str | os.PathLike[str], *, trust_remote_code: bool = False) -> ModelFiles:
    """Return what loading a folder reads.

    Raises
    ------
    OSError
        If a file cannot be read.
    SpecialFileError
        If a file is a pipe or a device.
    ValueError
        If a configuration is not valid JSON.
    """
    return _Finder(Path(folder), trust_remote_code).find()


def stamp_of(path: Path) -> Stamp:
    """Return identity, size and times of a file or folder; an empty tuple if it does not exist.

    The time of a folder changes when a file in it appears, vanishes or is renamed.
    """
    try:
        found = path.stat()
    except OSError:
        return ()
    if stat.S_ISDIR(found.st_mode):
        return found.st_ino, found.st_mtime_ns
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class _Finder:
    """Walks through a model's modules in the order in which they are loaded."""

    def __init__(self, root: Path, trusted: bool) -> None:
        self.root, self.trusted, self.found = root, trusted, ModelFiles()

    def find(self) -> ModelFiles:
        self._look_into(self.root)
        _is_file(self.root / "README.md")  # loading reads it too, though it does not count
        modules = self._json(self.root / "modules.json")
        if modules is None:  # a model of transformers, which becomes a Transformer and a Pooling
            self._add_config("", "plain")
            self._transformer("0", self.root, ())
            return self.found
        config = self._json(self.root / "config_sentence_transformers.json") or {}
        config = {key: value for key, value in config.items() if value not in (None, {}, "SentenceTransformer")}
        self._add_config("model", _without(config, _NOT_IN_MODEL_CONFIG) or None)
        for number, module in enumerate({module["name"]: module for module in modules}.values()):
            self._add_config(f"{number}.kwargs", module.get("kwargs") or None)
            self._module(str(number), module["type"], module["path"])
        return self.found

    def _module(self, label: str, class_path: str, subfolder: str) -> None:
        folder = self.root
        for part in Path(subfolder).parts:  # each may be a link, which may be changed
            folder /= part
            self._look_into(folder)
        name = self._class(label, class_path)
        if name in _TRANSFORMERS:
            self._transformer(label, folder, _TRANSFORMER_CONFIGS)
        elif name in _ROUTERS:
            self._router(label, folder, subfolder)
        elif name in _MODULES:
            config, has_weights = _MODULES[name]
            content = self._json(folder / config) if config else None
            self._add_config(f"{label}.config", _without(content, {"tokenizer_class"}))
            if has_weights:
                self._weights(label, folder, _WEIGHTS, os.path.exists)
            if name == "StaticEmbedding":
                tokenizer = self._json(folder / "tokenizer.json")  # which truncates as it says, but never pads
                self._add_config(f"{label}.tokenizer", _without(tokenizer, {"version", "padding"}, deep=False))
            if name == "WordEmbeddings":
                self._word_tokenizer(label, folder, (content or {}).get("tokenizer_class", ""))

    def _class(self, label: str, class_path: str) -> str:
        """Return the name of the class that runs, without the module for sentence-transformers' own, which move."""
        name = class_path.rpartition(".")[2]
        if class_path.startswith("sentence_transformers."):
            known = (*_MODULES, *_TRANSFORMERS, *_ROUTERS, *_WORD_TOKENIZERS, "TransformersTokenizerWrapper")
            self.found.is_complete &= name in known
            self._add_config(f"{label}.class", "Router" if name == "Asym" else name)
            return name
        self._add_config(f"{label}.class", class_path)
        if self.trusted:  # otherwise it is not loaded
            self._own_code((self.root / f"{class_path.partition('.')[0]}.py").is_file())
        return class_path

    def _own_code(self, is_here: bool) -> None:
        """Add every file for a model with code of its own, which may read any; code elsewhere is not seen at all."""
        self.found.is_complete &= is_here
        self._every_file(self.root, "code")

    def _router(self, label: str, folder: Path, subfolder: str) -> None:
        config = self._json(folder / "router_config.json") or self._json(folder / "config.json") or {}
        # In order: the first route may be the default.
        self._add_config(f"{label}.routes", [list(config.get("structure", {}).items()), config.get("parameters")])
        for model_id, class_path in sorted(config.get("types", {}).items()):
            self._module(f"{label}.{model_id}", class_path, Path(subfolder, model_id).as_posix())

    def _word_tokenizer(self, label: str, folder: Path, class_path: str) -> None:
        name = self._class(f"{label}.tokenizer", class_path)
        if name in _WORD_TOKENIZERS:
            self._add_config(f"{label}.vocabulary", self._json(folder / _WORD_TOKENIZERS[name]))
        else:
            config = self._json(folder / "config.json") or {}
            own = _without(config, _NOT_IN_CONFIG)
            self._add_config(f"{label}.model_config", own if self.trusted else _without(own, {"auto_map"}, deep=False))
            self._tokenizer(label, folder, config)

    def _transformer(self, label: str, folder: Path, config_names: Iterable[str]) -> None:
        own: dict[str, Any] = next((content for name in config_names if (content := self._json(folder / name))), {})
        self._add_config(f"{label}.transformer", own)
        self._follow_kwargs(own)
        config = self._json(folder / "config.json") or {}
        for name in _names(config.get("configuration_files")):  # one per version of transformers
            self._add_config(f"{label}.{name}", self._json(folder / name))
        content = self._config_and_code(_without(config, _NOT_IN_CONFIG, but="quantization_config"))
        self._add_config(f"{label}.config", content)
        if (folder / "adapter_config.json").exists():  # its base model is elsewhere
            self._every_file(folder)
            self.found.is_complete = False
        explicit = config.get("transformers_weights")
        self._weights(label, folder, (explicit,) if explicit else _SHARDED_WEIGHTS, os.path.isfile)
        self._tokenizer(label, folder, config)
        for name in _PROCESSORS:
            self._add_config(f"{label}.{name}", self._config_and_code(self._json(folder / name)))
        if (folder / _PROCESSORS[0]).exists():  # it has parts in subfolders
            self._every_file(folder)

    def _follow_kwargs(self, own: dict[str, Any]) -> None:
        """Add every file if arguments of loading may name other files."""
        if own.get("tokenizer_name_or_path"):
            self.found.is_complete = False
        kinds = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
        if any(set(own.get(kind) or {}) - _HARMLESS_KWARGS for kind in kinds):
            self._every_file(self.root)

    def _tokenizer(self, label: str, folder: Path, model_config: dict[str, Any]) -> None:
        config = self._json(folder / "tokenizer_config.json") or {}
        class_name = str(config.get("tokenizer_class") or model_config.get("tokenizer_class") or "")
        content = self._config_and_code(_without(config, _NOT_IN_TOKENIZER_CONFIG, deep=False))
        content.pop("tokenizer_class", None)
        self._add_config(f"{label}.tokenizer_config", [class_name.removesuffix("Fast"), content])
        if config.get("fix_mistral_regex"):  # which depends on the version
            self._add_config(f"{label}.version", model_config.get("transformers_version"))
        if "added_tokens_decoder" not in config:  # otherwise neither is read
            for name in ("special_tokens_map.json", "added_tokens.json"):
                self._add_config(f"{label}.{name}", self._json(folder / name))
        fast = _names(config.get("fast_tokenizer_files"), "tokenizer.json")
        is_there = [self._fast_tokenizer(f"{label}.{name}", folder / name, config) for name in fast]
        if not any(is_there) or _is_slow(class_name, model_config.get("model_type")):
            self._vocabularies(label, folder)
        for template in (folder / "chat_template.jinja", folder / "chat_template.json"):
            self._add_binary(f"{label}.{template.name}", template)
        if (folder / _TEMPLATES).is_dir():
            self._look_into(folder / _TEMPLATES)
            for template in sorted((folder / _TEMPLATES).glob("*.jinja")):
                self._add_binary(f"{label}.{_TEMPLATES}/{template.name}", template)

    def _fast_tokenizer(self, label: str, file: Path, config: dict[str, Any]) -> bool:
        """Add tokenizer.json without its working state, the last truncation and padding; return whether it exists."""
        content = self._json(file)
        if content is None:
            return False
        truncation, padding = content.pop("truncation", None) or {}, content.pop("padding", None) or {}
        content.pop("version", None)
        sides = [config.get("truncation_side") or truncation.get("direction", "Right")]
        sides += [config.get("padding_side") or padding.get("direction", "Right")]
        pad = None if "pad_token" in config else (padding.get("pad_token"), padding.get("pad_id"))
        self._add_config(label, [content, [side.lower() for side in sides], pad])
        return True

    def _vocabularies(self, label: str, folder: Path) -> None:
        """Add every file that may be a vocabulary: each slow tokenizer has file names of its own."""
        known = {*_TRANSFORMER_CONFIGS, *_SHARDED_WEIGHTS, *_PROCESSORS, "config.json", "modules.json"}
        known |= {"config_sentence_transformers.json", "tokenizer_config.json", "tokenizer.json", "README.txt"}
        known |= {"special_tokens_map.json", "added_tokens.json", "generation_config.json"}
        known |= {"trainer_state.json", "requirements.txt", TUNER_FILE}
        for file in sorted(folder.iterdir()):
            if file.suffix in _VOCABULARIES and file.name not in known and not file.is_dir():
                self._add_binary(f"{label}.vocabulary.{file.name}", file)

    def _weights(self, label: str, folder: Path, names: Iterable[str], is_there: Callable[[Path], bool]) -> None:
        for name in names:
            _is_file(folder / name)  # a pipe is an error, even if another file exists
        found = next((name for name in names if is_there(folder / name)), None)
        if found is not None and found.endswith(".index.json"):
            for shard in sorted(set(self._json(folder / found)["weight_map"].values())):
                self._add_binary(f"{label}.{shard}", folder / shard)
        elif found is not None:
            self._add_binary(f"{label}.{found}", folder / found)

    def _every_file(self, folder: Path, label: str = "every") -> None:
        for file in _all_files(folder, self._look_into):
            self._add_binary(f"{label}.{file.relative_to(self.root).as_posix()}", file)

    def _config_and_code(self, config: Any) -> Any:
        """Return what counts of a configuration, and add the code that it names.

        If that code is not trusted, neither it nor its name counts: transformers runs its own code instead.
        """
        if not self.trusted:
            return _without(config, {"auto_map"}, deep=False)
        if references := list(_strings((config or {}).get("auto_map"))):
            self._own_code(not any("--" in reference for reference in references))
        return config

    def _look_into(self, folder: Path) -> None:
        self.found.stamps.setdefault(folder, stamp_of(folder))

    def _add_config(self, label: str, content: Any) -> None:
        if content is not None:
            self.found.configurations.append((label, json.dumps(content, sort_keys=True)))

    def _add_binary(self, label: str, file: Path) -> None:
        if self._is_there(file):
            self.found.binaries.append((label, file))

    def _is_there(self, file: Path) -> bool:
        is_there = _is_file(file)
        if is_there:
            self.found.stamps.setdefault(file, stamp_of(file))
        return is_there

    def _json(self, file: Path) -> Any:
        """Read a configuration; None if it does not exist."""
        if not self._is_there(file):
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is not valid JSON: {error}") from error


def _is_file(file: Path) -> bool:
    """Return whether a file exists, following links. Raise SpecialFileError for a pipe or a device."""
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):  # also for a broken link, which loading ignores
        return False
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise SpecialFileError(f"{file} is not a regular file but a pipe, a socket or a device. Remove it.")
    return stat.S_ISREG(mode)


def _all_files(folder: Path, look_into: Callable[[Path], None]) -> Iterator[Path]:
    seen = set()
    for here, subfolders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(here) in seen:  # a circle of links
            subfolders.clear()
            continue
        seen.add(os.path.realpath(here))
        look_into(Path(here))
        subfolders[:] = sorted(name for name in subfolders if name not in _NOT_READ_BY_CODE)
        yield from (Path(here, name) for name in sorted(names) if name not in _NOT_READ_BY_CODE)


def _is_slow(class_name: str, model_type: Any) -> bool:
    if class_name:
        return class_name.removesuffix("Fast") in SLOW_TOKENIZERS
    spelled = str(model_type or "").replace("-", "").replace("_", "").lower()  # "bert-japanese": BertJapaneseTokenizer
    return any(name.removesuffix("Tokenizer").lower() == spelled for name in SLOW_TOKENIZERS)


def _names(listed: Any, *otherwise: str) -> list[str]:
    return sorted({*otherwise, *(name for name in listed or () if isinstance(name, str) and "/" not in name)})


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, (dict, list)):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _strings(part)


def _without(content: Any, names: Iterable[str], *, but: str = "", deep: bool = True) -> Any:
    """Remove entries, at every depth if ``deep``, except those inside ``but``."""
    if isinstance(content, list) and deep:
        return [_without(part, names, but=but) for part in content]
    if not isinstance(content, dict):
        return content
    return {
        key: value if key == but or not deep else _without(value, names, but=but)
        for key, value in content.items()
        if key not in names
    }
