"""One run over files: rows are read in chunks, get one more column, and are written in whole files.

Imports pyarrow, the engine, the vector column, the transformer, and the source and the manifest beside it.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from skembed.atomic import atomic_write
from skembed.encoding.encoder import encode_chunk, warn
from skembed.encoding.plan import Plan, make_plan
from skembed.encoding.progress import progress
from skembed.encoding.texts import read_texts
from skembed.errors import CacheError, DestinationError
from skembed.files.manifest import Manifest, check_same_settings, check_same_sources, locked_destination
from skembed.files.sources import Chunk, Source, one_line, read_chunks
from skembed.frames.vectors import VectorArray
from skembed.transformer import SentenceEmbeddingTransformer

_BYTES_PER_CHUNK = 2**26
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Job(ABC):
    """Rows of a source, written in whole files with one more column.

    Parameters
    ----------
    source : Source
    schema : pyarrow.Schema
        Schema of the files that are written; the new column is the last.
    maker : str
        What makes the column, for readers of the manifest.
    show_progress_bar : bool or "auto"

    Attributes
    ----------
    rows_per_chunk : int
        Most rows in memory at once: enough texts to sort by length, so that batches need little padding.
    """

    rows_per_chunk = 32_768
    doing = "Embedding"  # before the progress bar

    def __init__(self, source: Source, schema: pa.Schema, maker: str, show_progress_bar: bool | str) -> None:
        self.source, self.schema, self.maker = source, schema, maker
        self.show_progress_bar = show_progress_bar

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return everything that determines the rows of the destination, in types that JSON has."""

    @abstractmethod
    def compute(self, chunk: Chunk, bar: Any) -> pa.Array:
        """Return the new column of a chunk, and move the progress bar by its rows."""

    def run(self, folder: Path, rows_per_file: int, resume: bool) -> int:
        """Write the rows that are not in the folder yet, file by file.

        Returns
        -------
        int
            Rows in the folder, those of earlier runs included.
        """
        self.source.check_destination(folder)
        with locked_destination(folder):
            manifest = self._load_or_start(folder, resume)
            try:
                with progress(
                    self.show_progress_bar, self.source.n_rows, self.doing, "row", initial=manifest.n_rows
                ) as bar:
                    self._write_parts(manifest, folder, rows_per_file, bar)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                raise DestinationError(
                    f"There is no room for more in {folder}: {one_line(error)} The rows in finished files stay. Make "
                    "room and run the same again."
                ) from error
        return manifest.n_rows

    def _load_or_start(self, folder: Path, resume: bool) -> Manifest:
        manifest, settings = Manifest.load(folder) if resume else None, self.settings()
        if manifest is None:
            manifest = Manifest(self.maker, settings)
            manifest.save(folder)
        else:
            check_same_settings(folder, manifest, settings)
            check_same_sources(folder, manifest, self.source.stamps)
        manifest.remove_unlisted_parts(folder)
        return manifest

    def _write_parts(self, manifest: Manifest, folder: Path, rows_per_file: int, bar: Any) -> None:
        chunks = read_chunks(self.source, manifest.n_rows, self.rows_per_chunk, _BYTES_PER_CHUNK, rows_per_file)
        chunk = next(chunks, None)
        while chunk is not None or not manifest.parts:  # a source without rows becomes a file without rows
            part, n_rows, last_file = folder / manifest.next_part, 0, -1
            with _writer(part, self.schema) as writer:
                while chunk is not None:
                    table = chunk.table.append_column(self.schema.field(-1), self.compute(chunk, bar))
                    writer.write_table(table, row_group_size=self.rows_per_chunk)
                    n_rows, last_file = n_rows + len(chunk.table), chunk.pieces[-1].file
                    if n_rows >= rows_per_file:
                        break
                    chunk = next(chunks, None)
                for number in range(max(len(manifest.sources) - 1, 0), last_file + 1):
                    self.source.check_unchanged(number)
            manifest.sources = self.source.stamps[: last_file + 1]
            manifest.add_part(part, n_rows)
            manifest.save(folder)
            if chunk is not None:  # only now that this part is finished: the next chunk may be unreadable
                chunk = next(chunks, None)


class EmbeddingJob(Job):
    """The embedding of one column of a source.

    Parameters
    ----------
    source : Source
    column, vector_column : str
        The column of text, and the column of vectors that is added.
    transformer : SentenceEmbeddingTransformer
    """

    def __init__(
        self, source: Source, column: str, vector_column: str, transformer: SentenceEmbeddingTransformer
    ) -> None:
        _check_text(source.schema, column)
        check_new_column(source.schema, vector_column, "vector_column")
        self.column = column
        self.plan: Plan = make_plan(transformer._settings())
        self.model = transformer._model_note(self.plan)
        vectors = self._as_arrow(np.empty((0, self.plan.finished_dim)))
        schema = source.schema.append(pa.field(vector_column, vectors.type))
        super().__init__(source, schema, self.model, self.plan.settings.show_progress_bar)
        self._n_rows = self._n_cut = 0
        self._failure: CacheError | None = None

    def settings(self) -> dict[str, Any]:
        """Return everything that determines the rows of the destination, in types that JSON has."""
        plan, recipe = self.plan, asdict(self.plan.base_recipe)
        return {
            "columns": [f"{field.name}: {field.type}" for field in self.schema],
            "text": self.column,
            **{name: value for name, value in recipe.items() if name not in ("layers", "pooling")},
            "layers": [list(recipe.layers or ()) for recipe in plan.recipes],
            "pooling": [list(recipe.pooling or ()) for recipe in plan.recipes],
            "truncate_dim": [[dim] for dim in plan.kept],
            "normalize": plan.normalize,
            "missing": plan.settings.missing,
        }

    def compute(self, chunk: Chunk, bar: Any) -> pa.Array:
        """Return the vectors of a chunk."""
        column, missing = chunk.table.column(self.column), self.plan.settings.missing
        texts = read_texts(column, missing=missing, where_is=lambda row: f"column {self.column!r}, {chunk.where(row)},")
        vectors, n_cut, failure = encode_chunk(texts, self.plan, bar)
        self._n_rows, self._n_cut = self._n_rows + len(texts), self._n_cut + n_cut
        self._failure = failure or self._failure
        return self._as_arrow(vectors)

    def run(self, folder: Path, rows_per_file: int, resume: bool) -> int:
        """Write the rows; warn at the end if texts were truncated, or vectors could not be kept in the cache."""
        n_rows = super().run(folder, rows_per_file, resume)
        warn(self._n_cut, self._n_rows, self.plan, self._failure)
        return n_rows

    def _as_arrow(self, vectors: Any) -> pa.Array:
        return VectorArray(vectors, model=self.model).__arrow_array__()


@contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[parquet.ParquetWriter]:
    """Open a writer of a parquet file that is written completely or not at all."""
    # Numbers of vectors hardly repeat: dictionaries and statistics of them are useless.
    names = schema.names[:-1] if pa.types.is_fixed_size_list(schema.types[-1]) else schema.names
    with (
        atomic_write(path) as file,
        parquet.ParquetWriter(file, schema, use_dictionary=names, write_statistics=names) as writer,
    ):
        yield writer


def check_new_column(schema: pa.Schema, name: str, parameter: str) -> None:
    """Raise ValueError if the source has a column of the name that a parameter gives to the new one."""
    if name in schema.names:
        raise ValueError(f"The source has a column {name!r} already; give another {parameter}.")


def check_column(schema: pa.Schema, name: str) -> None:
    """Raise KeyError if the source has no column of a name."""
    if name not in schema.names:
        raise KeyError(f"The source has no column {name!r}; {_with_text(schema)}.")


def _check_text(schema: pa.Schema, column: str) -> None:
    check_column(schema, column)
    if not _may_be_text(schema.field(column).type):
        raise TypeError(f"Column {column!r} is {schema.field(column).type}, not text; {_with_text(schema)}.")


def _with_text(schema: pa.Schema) -> str:
    texts = [field.name for field in schema if _may_be_text(field.type)]
    return f"columns with text: {', '.join(map(repr, texts)) or 'none'}"


def _may_be_text(arrow: pa.DataType) -> bool:
    values = arrow.value_type if pa.types.is_dictionary(arrow) else arrow
    return values in (pa.string(), pa.large_string(), pa.string_view(), pa.null())
