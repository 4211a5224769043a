"""Which files of a model's folder loading reads, and what they say that shapes vectors.

Resolves them as sentence-transformers and transformers do, without either: a process that embeds with OpenVINO
fingerprints a model and never imports torch. Imports the standard library.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What sentence-transformers' modules read beside what their own functions below add: a configuration, and weights.
_MODULES = {
    "Pooling": ("config.json", False),
    "Normalize": ("config.json", False),
    "Dropout": ("config.json", False),
    "BoW": ("config.json", False),
    "WordWeights": ("config.json", False),  # saves weights, but makes them anew from its configuration
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
]  # the first that says anything
_WORD_TOKENIZERS = {
    "WhitespaceTokenizer": "whitespacetokenizer_config.json",
    "PhraseTokenizer": "phrasetokenizer_config.json",
}

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
_SHARDED_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
_PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
_TEMPLATES = "additional_chat_templates"

# Tokenizers of transformers that are not built from tokenizer.json, by their classes and the models they are the
# default of. They read vocabularies by names of their own.
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

# Entries that say who wrote a file, or in which state, and leave the vectors as they are. Whatever is not surely one of
# them counts, though some (labels, chat templates) seldom have a say: a vector computed twice does no harm. So does
# "architectures", by which transformers chooses among several classes, and sentence-transformers a pooling.
_OF_WRITER = {"transformers_version", "_name_or_path", "name_or_path", "_commit_hash"}
_NOT_IN_CONFIG = _OF_WRITER | {"torch_dtype", "dtype", "use_cache"}  # a model is read in the precision asked for
_NOT_IN_TOKENIZER_CONFIG = _OF_WRITER | {
    "is_local", "local_files_only", "backend", "padding", "truncation", "max_length", "stride", "truncation_strategy",
    "pad_to_multiple_of",
}  # fmt: skip
_NOT_IN_MODEL_CONFIG = {"__version__", "similarity_fn_name", "requirements"}
_HARMLESS_KWARGS = {"dtype", "torch_dtype", "attn_implementation", "trust_remote_code", "model_max_length"}
_NOT_READ_BY_CODE = {".git", ".cache", "__pycache__"}


Stamp = tuple[int, ...]  # a cheap sign that a file or folder is as it was


class SpecialFileError(OSError):
    """A pipe or a device where loading would read a file."""


@dataclass
class ModelFiles:
    """What loading a folder reads.

    Attributes
    ----------
    said : list of (str, str)
        What configuration says, each with where; written in one way only.
    read : list of (str, Path)
        Files that count by their bytes, likewise.
    stamps : dict of Path to Stamp
        Every file that had a say, also in which others are read, and every folder in which files that appear, vanish
        or are renamed may be read: as they were before they were read.
    is_all : bool
        Whether nothing else has a say, such as an adapter's base or code from elsewhere.
    """

    said: list[tuple[str, str]] = field(default_factory=list)
    read: list[tuple[str, Path]] = field(default_factory=list)
    stamps: dict[Path, Stamp] = field(default_factory=dict)
    is_all: bool = True

    def are_unchanged(self) -> bool:
        """Whether all files are as they were, as far as can be told without reading them."""
        return all(stamp_of(path) == stamp for path, stamp in self.stamps.items())


def find_model_files(folder: str | os.PathLike[str], *, trust_remote_code: bool = False) -> ModelFiles:
    """Find what loading a folder reads.

    Raises
    ------
    OSError
        If a file cannot be read.
    SpecialFileError
        If one is a pipe or a device.
    ValueError
        If a configuration is no JSON.
    """
    return _Finder(Path(folder), trust_remote_code).find()


def stamp_of(path: Path) -> Stamp:
    """Say cheaply how a file or folder is: which one, its size and its times; empty if it is not there.

    The times of a folder tell which files appeared, vanished or were renamed.
    """
    try:
        found = path.stat()
    except OSError:
        return ()
    if stat.S_ISDIR(found.st_mode):
        return found.st_ino, found.st_mtime_ns
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class _Finder:
    """Walks a model's modules in the order in which they are loaded."""

    def __init__(self, root: Path, trusted: bool) -> None:
        self.root, self.trusted, self.found = root, trusted, ModelFiles()

    def find(self) -> ModelFiles:
        self._look_into(self.root)
        _is_file(self.root / "README.md")  # is read as well, though it has no say
        modules = self._json(self.root / "modules.json")
        if modules is None:  # a model of transformers, which becomes a Transformer and a Pooling
            self._say("", "plain")
            self._transformer("0", self.root, ())
            return self.found
        config = self._json(self.root / "config_sentence_transformers.json") or {}
        config = {key: value for key, value in config.items() if value not in (None, {}, "SentenceTransformer")}
        self._say("model", _without(config, _NOT_IN_MODEL_CONFIG) or None)
        for number, module in enumerate({module["name"]: module for module in modules}.values()):
            self._say(f"{number}.kwargs", module.get("kwargs") or None)
            self._module(str(number), module["type"], module["path"])
        return self.found

    def _module(self, label: str, class_path: str, subfolder: str) -> None:
        folder = self.root
        for part in Path(subfolder).parts:  # each may be a link that is set anew
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
            self._say(f"{label}.config", _without(content, {"tokenizer_class"}))
            if has_weights:
                self._weights(label, folder, _WEIGHTS, os.path.exists)
            if name == "StaticEmbedding":
                tokenizer = self._json(folder / "tokenizer.json")  # which is padded in no case, but cut as it says
                self._say(f"{label}.tokenizer", _without(tokenizer, {"version", "padding"}, deep=False))
            if name == "WordEmbeddings":
                self._word_tokenizer(label, folder, (content or {}).get("tokenizer_class", ""))

    def _class(self, label: str, class_path: str) -> str:
        """Say which class runs; of sentence-transformers' own by name, as they move between its versions."""
        name = class_path.rpartition(".")[2]
        if class_path.startswith("sentence_transformers."):
            known = (*_MODULES, *_TRANSFORMERS, *_ROUTERS, *_WORD_TOKENIZERS, "TransformersTokenizerWrapper")
            self.found.is_all &= name in known
            self._say(f"{label}.class", "Router" if name == "Asym" else name)
            return name
        self._say(f"{label}.class", class_path)
        if self.trusted:  # else it is not loaded
            self._own_code((self.root / f"{class_path.partition('.')[0]}.py").is_file())
        return class_path

    def _own_code(self, is_here: bool) -> None:
        """Count every file for code of the model's own, which may read any; none suffices if it lies elsewhere."""
        self.found.is_all &= is_here
        for file in _all_files(self.root, self._look_into):
            self._read(f"code.{file.relative_to(self.root).as_posix()}", file)

    def _router(self, label: str, folder: Path, subfolder: str) -> None:
        config = self._json(folder / "router_config.json") or self._json(folder / "config.json") or {}
        structure = list(config.get("structure", {}).items())  # the first route may be the default
        self._say(f"{label}.routes", [structure, config.get("parameters")])
        for model_id, class_path in sorted(config.get("types", {}).items()):
            self._module(f"{label}.{model_id}", class_path, Path(subfolder, model_id).as_posix())

    def _word_tokenizer(self, label: str, folder: Path, class_path: str) -> None:
        name = self._class(f"{label}.tokenizer", class_path)
        if name in _WORD_TOKENIZERS:
            self._say(f"{label}.vocabulary", self._json(folder / _WORD_TOKENIZERS[name]))
        else:
            config = self._json(folder / "config.json") or {}
            self._say(f"{label}.model_config", self._less_code(_without(config, _NOT_IN_CONFIG)))
            self._tokenizer(label, folder, config)

    def _transformer(self, label: str, folder: Path, config_names: Iterable[str]) -> None:
        own: dict[str, Any] = next((content for name in config_names if (content := self._json(folder / name))), {})
        self._say(f"{label}.transformer", own)
        self._follow_kwargs(own)
        config = self._json(folder / "config.json") or {}
        for name in _names(config.get("configuration_files")):  # one for each version of transformers
            self._say(f"{label}.{name}", self._json(folder / name))
        self._code_of(config)
        self._say(f"{label}.config", self._less_code(_without(config, _NOT_IN_CONFIG, but="quantization_config")))
        if (folder / "adapter_config.json").exists():  # its base lies elsewhere
            self._every_file(folder)
            self.found.is_all = False
        explicit = config.get("transformers_weights")
        self._weights(label, folder, (explicit,) if explicit else _SHARDED_WEIGHTS, os.path.isfile)
        self._tokenizer(label, folder, config)
        for name in _PROCESSORS:
            content = self._json(folder / name)
            self._code_of(content or {})
            self._say(f"{label}.{name}", self._less_code(content))
        if (folder / _PROCESSORS[0]).exists():  # has parts in folders of their own
            self._every_file(folder)

    def _follow_kwargs(self, own: dict[str, Any]) -> None:
        """Leave nothing out where arguments of loading may name other files."""
        if own.get("tokenizer_name_or_path"):
            self.found.is_all = False
        kinds = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
        if any(set(own.get(kind) or {}) - _HARMLESS_KWARGS for kind in kinds):
            self._every_file(self.root)

    def _tokenizer(self, label: str, folder: Path, model_config: dict[str, Any]) -> None:
        config = self._json(folder / "tokenizer_config.json") or {}
        self._code_of(config)
        class_name = str(config.get("tokenizer_class") or model_config.get("tokenizer_class") or "")
        content = self._less_code(_without(config, _NOT_IN_TOKENIZER_CONFIG, deep=False))
        content.pop("tokenizer_class", None)
        self._say(f"{label}.tokenizer_config", [class_name.removesuffix("Fast"), content])
        if config.get("fix_mistral_regex"):  # which looks for old versions
            self._say(f"{label}.version", model_config.get("transformers_version"))
        if "added_tokens_decoder" not in config:  # else both are not read
            for name in ("special_tokens_map.json", "added_tokens.json"):
                self._say(f"{label}.{name}", self._json(folder / name))
        fast = _names(config.get("fast_tokenizer_files"), "tokenizer.json")
        is_there = [self._fast_tokenizer(f"{label}.{name}", folder / name, config) for name in fast]
        if not any(is_there) or _is_slow(class_name, model_config.get("model_type")):
            self._vocabularies(label, folder)
        for template in (folder / "chat_template.jinja", folder / "chat_template.json"):
            self._read(f"{label}.{template.name}", template)
        if (folder / _TEMPLATES).is_dir():
            self._look_into(folder / _TEMPLATES)
            for template in sorted((folder / _TEMPLATES).glob("*.jinja")):
                self._read(f"{label}.{_TEMPLATES}/{template.name}", template)

    def _fast_tokenizer(self, label: str, file: Path, config: dict[str, Any]) -> bool:
        """Say what tokenizer.json holds beside its working state: what was last cut and padded."""
        content = self._json(file)
        if content is None:
            return False
        truncation, padding = content.pop("truncation", None) or {}, content.pop("padding", None) or {}
        content.pop("version", None)
        sides = [config.get("truncation_side") or truncation.get("direction", "Right")]
        sides += [config.get("padding_side") or padding.get("direction", "Right")]
        pad = None if "pad_token" in config else (padding.get("pad_token"), padding.get("pad_id"))
        self._say(label, [content, [side.lower() for side in sides], pad])
        return True

    def _vocabularies(self, label: str, folder: Path) -> None:
        """Count whatever may be a vocabulary: each slow tokenizer has names of its own, and we know too few of them."""
        known = {*_TRANSFORMER_CONFIGS, *_SHARDED_WEIGHTS, *_PROCESSORS, "config.json", "modules.json"}
        known |= {"config_sentence_transformers.json", "tokenizer_config.json", "tokenizer.json", "README.txt"}
        known |= {"special_tokens_map.json", "added_tokens.json", "generation_config.json"}
        known |= {"trainer_state.json", "requirements.txt"}
        for file in sorted(folder.iterdir()):
            if file.suffix in _VOCABULARIES and file.name not in known and not file.is_dir():
                self._read(f"{label}.vocabulary.{file.name}", file)

    def _weights(self, label: str, folder: Path, names: Iterable[str], is_there: Callable[[Path], bool]) -> None:
        for name in names:
            _is_file(folder / name)  # nor may a pipe be passed over for the next
        found = next((name for name in names if is_there(folder / name)), None)
        if found is not None and found.endswith(".index.json"):
            for shard in sorted(set(self._json(folder / found)["weight_map"].values())):
                self._read(f"{label}.{shard}", folder / shard)
        elif found is not None:
            self._read(f"{label}.{found}", folder / found)

    def _every_file(self, folder: Path) -> None:
        for file in _all_files(folder, self._look_into):
            self._read(f"every.{file.relative_to(self.root).as_posix()}", file)

    def _code_of(self, config: dict[str, Any]) -> None:
        """Count code that a configuration names, where it is trusted: else transformers' own runs in its place."""
        references = list(_strings(config.get("auto_map"))) if self.trusted else []
        if references:
            self._own_code(not any("--" in reference for reference in references))

    def _less_code(self, config: Any) -> Any:
        if self.trusted or not isinstance(config, dict):
            return config
        return {key: value for key, value in config.items() if key != "auto_map"}

    def _look_into(self, folder: Path) -> None:
        self.found.stamps.setdefault(folder, stamp_of(folder))

    def _say(self, label: str, content: Any) -> None:
        if content is not None:
            self.found.said.append((label, json.dumps(content, sort_keys=True)))

    def _read(self, label: str, file: Path) -> None:
        if self._is_there(file):
            self.found.read.append((label, file))

    def _is_there(self, file: Path) -> bool:
        is_there = _is_file(file)
        if is_there:
            self.found.stamps.setdefault(file, stamp_of(file))
        return is_there

    def _json(self, file: Path) -> Any:
        """Read a configuration; None if there is none."""
        if not self._is_there(file):
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is no valid JSON: {error}") from error


def _is_file(file: Path) -> bool:
    """Whether a file is there, links followed. Raise OSError for a pipe or a device, which may never end."""
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):  # or a link to nothing, which loading passes over
        return False
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise SpecialFileError(f"{file} is no regular file, but a pipe, a socket or a device. Remove it.")
    return stat.S_ISREG(mode)


def _all_files(folder: Path, look_into: Callable[[Path], None]) -> Iterator[Path]:
    seen = set()
    for here, subfolders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(here) in seen:  # a link in a circle
            subfolders.clear()
            continue
        seen.add(os.path.realpath(here))
        look_into(Path(here))
        subfolders[:] = sorted(name for name in subfolders if name not in _NOT_READ_BY_CODE)
        yield from (Path(here, name) for name in sorted(names))


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
    """Leave out entries, at every depth if ``deep``, but for those inside ``but``."""
    if isinstance(content, list) and deep:
        return [_without(part, names, but=but) for part in content]
    if not isinstance(content, dict):
        return content
    return {
        key: value if key == but or not deep else _without(value, names, but=but)
        for key, value in content.items()
        if key not in names
    }
