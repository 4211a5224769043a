"""The encoder conducts: unique texts, what the cache lacks, tokens, batches, backend, finished vectors.

The only file that knows the order of the steps. Imports the rooms beside it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skembed.encoding.batching import windows
from skembed.encoding.cache import MemoryCache, memory_cache
from skembed.encoding.models import LoadedModel, get_model
from skembed.encoding.settings import Settings
from skembed.encoding.texts import MISSING, Texts
from skembed.encoding.tokens import Tokens
from skembed.errors import TruncationWarning

FORMAT_VERSION = 1  # of the vectors; to be raised when the same recipe comes to give other vectors

# What is tokenised, sorted by length and held together. Large enough that neighbours in length are close.
_TEXTS_A_WINDOW = 16_384
_CHARACTERS_A_WINDOW = 16_000_000

# On a CPU a batch's activations should stay in its cache (see benchmarks/encode.py --batch-tokens); elsewhere there
# should be enough work to fill the device.
_BATCH_TOKENS_ON_CPU = 1024
_BATCH_TOKENS = 32_768

_UNLIMITED = 10**15  # tokenizers write "no limit" as a huge number


@dataclass(frozen=True)
class Recipe:
    """Everything but the text that shapes a vector before it is finished, in one canonical form.

    ``vector = concatenate over groups of tail(concatenate over modes of pool(mean of layers))``; with
    ``poolings=None`` the model's own modules do all of it.
    """

    format_version: int
    fingerprint: str
    backend: str
    dtype: str
    poolings: tuple[tuple[str, ...], ...] | None
    layers: tuple[int, ...] | None
    prompt: str
    max_seq_length: int | None
    split_long_texts: bool


@dataclass(frozen=True)
class Plan:
    """Settings fitted to a model: what one call does, and how it finishes its vectors.

    Attributes
    ----------
    settings : Settings
    model : LoadedModel
    recipe : Recipe
    dim : int
        Dimensions of a vector before it is cut.
    finished_dim : int
        Dimensions of the result.
    normalize : bool
        Whether the result has unit length.
    batch_tokens : int
    """

    settings: Settings
    model: LoadedModel
    recipe: Recipe
    dim: int
    finished_dim: int
    normalize: bool
    batch_tokens: int

    @property
    def token_limit(self) -> int | None:
        """Tokens beyond which a text is cut; None where nothing is ever cut."""
        return None if self.recipe.split_long_texts else self.recipe.max_seq_length


def encode(texts: Texts, plan: Plan, *, stacklevel: int = 2) -> NDArray[np.float32]:
    """Encode a column of text.

    Parameters
    ----------
    texts : Texts
    plan : Plan
    stacklevel : int, default=2
        Whose line a TruncationWarning points to, counted as in :func:`warnings.warn` from here.

    Returns
    -------
    ndarray of float32, shape (n_rows, finished_dim), C-contiguous

    Raises
    ------
    ValueError
        If a text is too long and ``long_texts="error"``, or a vector is not finite.
    MemoryError
        If a single text does not fit into the device's memory.

    Warns
    -----
    TruncationWarning
        Once, if texts were cut, with their number.
    """
    vectors, n_tokens = _encode_unique(texts, plan)
    if plan.token_limit is not None:
        _warn_of_truncation(texts, n_tokens > plan.token_limit, plan, stacklevel)
    return _spread(vectors, texts.codes, fill=np.nan if plan.settings.missing == "nan" else 0.0)


def make_plan(settings: Settings) -> Plan:
    """Find the model and fit the settings to it.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    ValueError
        If a parameter makes no sense for the model, or the device does not exist here.
    """
    model = get_model(settings)
    own = model.backend.sentence_transformer
    recipe = Recipe(
        format_version=FORMAT_VERSION,
        fingerprint=model.fingerprint,
        backend="torch",
        dtype=model.dtype,
        poolings=_poolings(settings, model),
        layers=_layers(settings, model),
        prompt=_prompt(settings, model),
        max_seq_length=_max_seq_length(settings, model),
        split_long_texts=settings.long_texts == "mean",
    )
    try:
        dim = model.backend.vector_dim(recipe.poolings)
    except ValueError as error:
        raise ValueError(f"pooling={settings.pooling!r}: {error}") from None
    cut_to = settings.truncate_dim or own.truncate_dim or dim
    if settings.truncate_dim is not None and cut_to > dim:
        raise ValueError(f"truncate_dim={cut_to}: the vectors have only {dim} dimensions.")
    normalize = settings.normalize_embeddings
    return Plan(
        settings=settings,
        model=model,
        recipe=recipe,
        dim=dim,
        finished_dim=min(int(cut_to), dim),
        normalize=model.backend.ends_normalized if normalize == "default" else bool(normalize),
        batch_tokens=_batch_tokens(settings, model),
    )


def _poolings(settings: Settings, model: LoadedModel) -> tuple[tuple[str, ...], ...] | None:
    asked, reader = settings.pooling_names, model.backend.reader
    if reader is None:
        if asked is not None:
            raise ValueError(_cannot_be_had("pooling", settings.pooling, model))
        return None
    if asked is None and model.backend.tail:  # a Dense layer takes the model's own modes together
        return (reader.own_pooling,)
    return tuple((mode,) for mode in asked or reader.own_pooling)


def _layers(settings: Settings, model: LoadedModel) -> tuple[int, ...] | None:
    asked, reader = settings.layer_numbers, model.backend.reader
    if reader is None:
        if asked != (-1,):
            raise ValueError(_cannot_be_had("layers", settings.layers, model))
        return None
    n_states = reader.n_layers + 1  # the input embeddings are number 0
    for layer in asked:
        if not -n_states <= layer < n_states:
            raise ValueError(
                f"layers={settings.layers!r}: the model has {reader.n_layers} layers, numbered "
                f"0 (input embeddings) to {reader.n_layers}, or -{n_states} to -1."
            )
    return tuple(sorted(layer % n_states for layer in asked))


def _prompt(settings: Settings, model: LoadedModel) -> str:
    own = model.backend.sentence_transformer
    if settings.prompt is not None:
        return settings.prompt
    name = settings.prompt_name if settings.prompt_name is not None else own.default_prompt_name
    if name is None:
        return ""
    if name not in own.prompts:
        known = ", ".join(map(repr, own.prompts)) or "none"
        raise ValueError(f"prompt_name={name!r}: the model's prompts are {known}.")
    return own.prompts[name] or ""


def _max_seq_length(settings: Settings, model: LoadedModel) -> int | None:
    """Find the token limit: the caller's, or the model's own; never more than its position table allows."""
    reader, asked = model.backend.reader, settings.max_seq_length
    said: Any = model.backend.sentence_transformer.max_seq_length
    own = None if said is None or said > _UNLIMITED else int(said)
    if reader is None:
        if asked is not None:
            raise ValueError(_cannot_be_had("max_seq_length", asked, model))
        if settings.long_texts == "mean" and own is not None:
            raise ValueError(_cannot_be_had("long_texts", "mean", model))
        return own
    most = reader.max_positions
    if asked is None:
        return min((limit for limit in (own, most) if limit is not None), default=None)
    if most is not None and asked > most:
        raise ValueError(f"max_seq_length={asked}: the model has positions for {most} tokens.")
    if asked <= reader.tokenizer.n_special_tokens:
        raise ValueError(
            f"max_seq_length={asked}: the model's {reader.tokenizer.n_special_tokens} special tokens leave no room."
        )
    return int(asked) if asked < _UNLIMITED else None


def _batch_tokens(settings: Settings, model: LoadedModel) -> int:
    if not isinstance(settings.batch_tokens, str):
        return int(settings.batch_tokens)
    backend = model.backend
    # A model without a transformer has no activations to speak of, so that only the number of calls counts.
    small = backend.device.type == "cpu" and backend.sentence_transformer.transformers_model is not None
    return _BATCH_TOKENS_ON_CPU if small else _BATCH_TOKENS


def _cannot_be_had(parameter: str, value: Any, model: LoadedModel) -> str:
    return f"{parameter}={value!r} cannot be had from {model.name}: {model.backend.not_standard}. Leave it out."


def _encode_unique(texts: Texts, plan: Plan) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Encode each distinct text, or find it in the cache."""
    unique, settings = texts.unique, plan.settings
    vectors = np.empty((len(unique), plan.finished_dim), dtype=np.float32)
    n_tokens = np.zeros(len(unique), dtype=np.int64)
    cache = memory_cache() if settings.cache == "memory" else None
    missing = _read_cache(cache, plan, unique, np.arange(len(unique)), vectors, n_tokens)
    if settings.long_texts == "error":
        with plan.model.lock:
            _refuse_long_texts(texts, missing, n_tokens, plan)
    if len(missing):
        with _progress(settings.show_progress_bar, len(missing)) as bar:
            for window in windows([unique[code] for code in missing], _TEXTS_A_WINDOW, _CHARACTERS_A_WINDOW):
                with plan.model.lock:
                    _encode_codes(texts, missing[window], vectors, n_tokens, plan, cache, bar)
    return vectors, n_tokens


def _encode_codes(
    texts: Texts,
    codes: NDArray[np.intp],
    vectors: NDArray[np.float32],
    n_tokens: NDArray[np.int64],
    plan: Plan,
    cache: MemoryCache | None,
    bar: Any,
) -> None:
    """Encode the texts of one window; once done they are in the cache, whatever happens next."""
    n_wanted = len(codes)
    codes = _read_cache(cache, plan, texts.unique, codes, vectors, n_tokens)  # another thread may have encoded them
    bar.update(n_wanted - len(codes))
    if not len(codes):
        return
    wanted = [texts.unique[code] for code in codes]
    raw, counted = _encode_window(wanted, plan, bar)
    is_finite = np.isfinite(raw).all(axis=1)
    if not is_finite.all():
        _refuse_not_finite(texts, codes[~is_finite], plan)
    if cache is not None:
        cache.write(plan.recipe, wanted, raw, counted)
    vectors[codes], n_tokens[codes] = _finish(raw, plan), counted


def _encode_window(window: list[str], plan: Plan, bar: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    backend, recipe = plan.model.backend, plan.recipe
    if backend.reader is None or recipe.poolings is None or recipe.layers is None:
        return backend.embed_texts(window, recipe.prompt or None, plan.batch_tokens, bar.update)
    tokens = backend.reader.tokenizer.tokenize(
        [recipe.prompt + text for text in window], recipe.max_seq_length, split=recipe.split_long_texts
    )
    n_prompt_tokens = backend.count_prompt_tokens(recipe.prompt, recipe.max_seq_length)
    if recipe.split_long_texts and n_prompt_tokens >= (recipe.max_seq_length or np.inf) - 1:
        raise ValueError(f"prompt={recipe.prompt!r} fills the {recipe.max_seq_length} tokens that the model reads.")
    vectors = backend.embed_tokens(
        tokens, recipe.poolings, recipe.layers, n_prompt_tokens, plan.batch_tokens, bar.update
    )
    return _mean_of_rows(vectors, tokens, n_prompt_tokens), tokens.n_tokens


def _refuse_not_finite(texts: Texts, codes: NDArray[np.intp], plan: Plan) -> None:
    """Stop before an overflow becomes a feature: float16 ends at 65,504, and some models go beyond."""
    way_out = "The model's weights may be damaged." if plan.recipe.dtype == "float32" else "Choose dtype='float32'."
    raise ValueError(
        f"{texts.where(texts.first_row(codes))} gets infinite or NaN values from {plan.model.name} in "
        f"{plan.recipe.dtype}, as {len(codes)} texts do. {way_out}"
    )


def _mean_of_rows(vectors: NDArray[np.float32], tokens: Tokens, n_prompt_tokens: int) -> NDArray[np.float32]:
    """Average the rows of each text, weighted by the tokens that were pooled in each."""
    if len(tokens.lengths) == len(tokens.n_tokens):  # one row a text
        return vectors
    n_pooled = tokens.lengths - n_prompt_tokens * tokens.is_first_row
    weights = np.maximum(n_pooled, 1).astype(np.float32)[:, None]
    first_rows = np.flatnonzero(tokens.is_first_row)
    sums: NDArray[np.float32] = np.add.reduceat(vectors * weights, first_rows, axis=0)
    sums /= np.add.reduceat(weights, first_rows, axis=0)
    return sums


def _read_cache(
    cache: MemoryCache | None,
    plan: Plan,
    unique: list[str],
    codes: NDArray[np.intp],
    vectors: NDArray[np.float32],
    n_tokens: NDArray[np.int64],
) -> NDArray[np.intp]:
    """Fill in finished vectors for the texts that the cache holds; return the codes of the others."""
    if cache is None:
        return codes
    missing = [codes[:0]]
    for start in range(0, len(codes), _TEXTS_A_WINDOW):  # in stretches, so that unfinished vectors need little room
        some = codes[start : start + _TEXTS_A_WINDOW]
        raw = np.empty((len(some), plan.dim), dtype=np.float32)
        counted = np.zeros(len(some), dtype=np.int64)
        lacking = cache.read(plan.recipe, [unique[code] for code in some], raw, counted)
        found = np.ones(len(some), dtype=bool)
        found[lacking] = False
        vectors[some[found]], n_tokens[some[found]] = _finish(raw[found], plan), counted[found]
        missing.append(some[lacking])
    return np.concatenate(missing)


def _finish(raw: NDArray[np.float32], plan: Plan) -> NDArray[np.float32]:
    """Cut the vectors and give them unit length.

    Cutting first and normalising once gives what normalising, cutting and normalising again would.
    """
    finished = raw[:, : plan.finished_dim]
    if plan.normalize:
        norms = np.sqrt(np.einsum("ij,ij->i", finished, finished))
        finished = finished / np.maximum(norms, 1e-12)[:, None]  # as torch.nn.functional.normalize
    return finished


def _spread(vectors: NDArray[np.float32], codes: NDArray[np.intp], fill: float) -> NDArray[np.float32]:
    """Give each row the vector of its text, and missing rows the fill value."""
    if len(vectors) == len(codes) and MISSING not in codes:  # all rows differ, so they are in order already
        return vectors
    rows = np.full((len(codes), vectors.shape[1]), fill, dtype=np.float32)
    present = codes != MISSING
    rows[present] = vectors[codes[present]]
    return rows


def _refuse_long_texts(texts: Texts, missing: NDArray[np.intp], n_tokens: NDArray[np.int64], plan: Plan) -> None:
    """Raise for the first row whose text is too long, before anything is computed."""
    limit, reader = plan.recipe.max_seq_length, plan.model.backend.reader
    if limit is None:
        return
    known = n_tokens.copy()
    for window in windows([texts.unique[code] for code in missing], _TEXTS_A_WINDOW, _CHARACTERS_A_WINDOW):
        codes = missing[window]
        prompted = [plan.recipe.prompt + texts.unique[code] for code in codes]
        if reader is not None:
            known[codes] = reader.tokenizer.tokenize(prompted, limit).n_tokens
        else:
            known[codes] = [plan.model.backend.count_tokens(text) for text in prompted]
    too_long = np.flatnonzero(known > limit)
    if len(too_long):
        row = texts.first_row(too_long)
        raise ValueError(
            f"{texts.where(row)} has {known[texts.codes[row]]} tokens, more than the {limit} that the model reads, "
            f"as {np.isin(texts.codes, too_long).sum()} of {len(texts)} texts have. Shorten them, or choose "
            "long_texts='mean' or 'truncate'."
        )


def _warn_of_truncation(texts: Texts, is_cut: NDArray[np.bool_], plan: Plan, stacklevel: int) -> None:
    if is_cut.any():
        n_cut = int(is_cut[texts.codes[texts.codes != MISSING]].sum())
        warnings.warn(
            f"{n_cut} of {len(texts)} texts have more than {plan.token_limit} tokens and were cut; choose "
            "long_texts='mean' to read them whole, or a larger max_seq_length if the model allows it.",
            TruncationWarning,
            stacklevel=stacklevel + 1,
        )


@contextmanager
def _progress(show: Any, n_texts: int) -> Iterator[Any]:
    """Draw a bar: "auto" waits two seconds, and draws where somebody watches."""
    from tqdm.auto import tqdm

    watched = (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel" in sys.modules
    hidden = not watched if isinstance(show, str) else not show
    with tqdm(total=n_texts, desc="Embedding", unit="text", disable=hidden, delay=2 if show == "auto" else 0) as bar:
        yield bar
