"""Files of rows, read in order and without holding them: parquet and CSV, one file, several or a folder.

Imports pyarrow; knows no model and no vectors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, dataset, fs

_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "tsv"}
_ROWS_A_READ = 4096  # few, because nobody knows how long a text is before it is read
_BYTES_A_BLOCK = 2**24  # of a CSV file; a row that is longer than a block cannot be read


@dataclass
class Piece:
    """Consecutive rows of one file: its number and name, the first row, counted from 0, and how many there are."""

    file: int
    name: str
    first: int
    n_rows: int


@dataclass(frozen=True)
class Stretch:
    """Consecutive rows, perhaps of several files.

    Attributes
    ----------
    table : pyarrow.Table
    pieces : list of Piece
        Where its rows come from.
    """

    table: pa.Table
    pieces: list[Piece]

    def where(self, row: int) -> str:
        """Name a row by its file and its number there, counted from 0."""
        for piece in self.pieces:
            if row < piece.n_rows:
                return f"row {piece.first + row} of {piece.name}"
            row -= piece.n_rows
        raise IndexError(row)


class Source:
    """Rows of one file after another, in the order of their paths.

    Parameters
    ----------
    source : path, or sequence of paths
        Files of one format, or a folder that is searched for them. Parts of a path such as ``country=de`` are columns.
    text : str
        The column that is read as text, whatever it looks like.

    Attributes
    ----------
    files : list of str
        Paths, those in a folder from there on.
    stamps : list of dict
        What would change with each file: its name, size and time of change.
    schema : pyarrow.Schema
        Of all files.
    n_rows : int or None
        None where only reading tells, as in CSV files.
    """

    def __init__(self, source: Any, text: str) -> None:
        self._root, self.files, kind = _find_files(source)
        self.stamps = [self._stamp(file) for file in self.files]
        paths = [str(self._path(file)) for file in self.files]
        options = dataset.ParquetFileFormat() if kind == "parquet" else _csv_format(text, kind)
        schemas = [_schema_of(path, file, options) for path, file in zip(paths, self.files, strict=True)]
        schema = _one_schema(schemas, self.files)
        partitioning = None if self._root is None else dataset.partitioning(flavor="hive")
        found = dataset.dataset(
            paths, format=options, partitioning=partitioning, partition_base_dir=str(self._root or "")
        )
        self._fragments = list(found.get_fragments())
        self.schema = pa.schema([*schema, *list(found.schema)[len(schemas[0]) :]], metadata=schema.metadata)
        self.n_rows = (
            sum(int(fragment.metadata.num_rows) for fragment in self._fragments) if kind == "parquet" else None
        )

    def refuse_changes(self, number: int) -> None:
        """Raise if a file is no longer as it was when the source was opened."""
        if self._stamp(self.files[number]) != self.stamps[number]:
            raise OSError(f"{self.files[number]} was changed while it was read. Embed its rows again.")

    def _path(self, file: str) -> Path:
        return Path(file) if self._root is None else self._root / file

    def _stamp(self, file: str) -> dict[str, Any]:
        status = os.stat(self._path(file))
        return {"file": file, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}

    def read(self, first: int) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """Read the rows from the ``first`` on.

        Yields
        ------
        file : int
            Number of the file.
        row : int
            Number of the batch's first row in that file.
        batch : pyarrow.RecordBatch

        Raises
        ------
        OSError
            If a part of a file cannot be read; the message names the file and the part.
        """
        n_before = 0
        for number, fragment in enumerate(self._fragments):
            n_rows = 0
            for piece, what, known_rows in _parts_of(fragment):
                if known_rows is not None and n_before + n_rows + known_rows <= first:
                    n_rows += known_rows
                    continue
                for batch in self._batches(piece, f"{self.files[number]}{what}", n_rows):
                    skip = min(max(first - n_before - n_rows, 0), len(batch))
                    if skip < len(batch):
                        yield number, n_rows + skip, batch.slice(skip)
                    n_rows += len(batch)
            n_before += n_rows

    def _batches(self, piece: Any, what: str, row: int) -> Iterator[pa.RecordBatch]:
        scanner = piece.scanner(schema=self.schema, batch_size=_ROWS_A_READ, batch_readahead=4, fragment_readahead=1)
        batches = scanner.to_batches()
        while True:
            try:
                batch = next(batches, None)
            except (OSError, pa.ArrowException) as error:
                raise OSError(
                    f"{what} cannot be read after row {row}: {one_line(error)} What was finished before it stays; "
                    "repair the source, and embed it into another destination (a cache='disk' keeps what was encoded)."
                ) from error
            if batch is None:
                return
            if len(batch):
                row += len(batch)
                yield batch


def stretches(source: Source, first: int, max_rows: int, max_bytes: int, stops: int) -> Iterator[Stretch]:
    """Cut the rows of a source into stretches that are held in memory together.

    Parameters
    ----------
    source : Source
    first : int
        Number of the first row.
    max_rows, max_bytes : int
        About how much is held at once.
    stops : int
        After each so many rows, counted from the first, a stretch ends.
    """
    batches: list[pa.RecordBatch] = []
    pieces: list[Piece] = []
    n_rows = n_bytes = n_given = 0
    for number, row, batch in source.read(first):
        while len(batch):
            taken = batch.slice(0, min(max_rows - n_rows, stops - (n_given + n_rows) % stops))
            if not pieces or pieces[-1].file != number:
                pieces.append(Piece(number, source.files[number], row, 0))
            pieces[-1].n_rows += len(taken)
            batches.append(taken)
            n_rows, n_bytes = n_rows + len(taken), n_bytes + taken.nbytes
            row, batch = row + len(taken), batch.slice(len(taken))
            if n_rows >= max_rows or n_bytes >= max_bytes or (n_given + n_rows) % stops == 0:
                yield Stretch(pa.Table.from_batches(batches, source.schema), pieces)
                n_given += n_rows
                batches, pieces, n_rows, n_bytes = [], [], 0, 0
    if batches:
        yield Stretch(pa.Table.from_batches(batches, source.schema), pieces)


def _find_files(source: Any) -> tuple[Path | None, list[str], str]:
    """List the files that are meant: the folder that they are in, if one was named, their paths, and their format."""
    named = [source] if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(named, Sequence) or not all(isinstance(path, (str, os.PathLike)) for path in named):
        raise TypeError(f"source must be a path or a list of paths; got {type(source).__name__}.")
    if not named or not all(os.fspath(path) for path in named):
        raise ValueError("source names no file.")
    root, paths = None, [Path(path) for path in named]
    if len(paths) == 1 and paths[0].is_dir():
        root = paths[0]
        paths = [
            path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in _FORMATS and path.is_file()
        ]
        paths = sorted(path for path in paths if not any(part.startswith((".", "_")) for part in path.parts))
        if not paths:
            raise FileNotFoundError(f"{root} holds no file that ends in {', '.join(_FORMATS)}.")
    for path in paths:
        if root is None and not path.is_file():
            raise FileNotFoundError(f"There is no file {path}." if not path.is_dir() else f"{path} is a folder.")
    kinds = {path.suffix.lower(): _FORMATS.get(path.suffix.lower()) for path in paths}
    if None in kinds.values() or len(set(kinds.values())) > 1:
        endings = ", ".join(repr(ending) for ending in kinds)
        raise ValueError(f"source has files that end in {endings}; all must be parquet (.parquet, .pq), .csv or .tsv.")
    kind = next(iter(kinds.values()))
    return root, [path.as_posix() for path in paths], str(kind)


def _csv_format(text: str, kind: str) -> dataset.CsvFileFormat:
    return dataset.CsvFileFormat(
        parse_options=csv.ParseOptions(delimiter="\t" if kind == "tsv" else ",", newlines_in_values=True),
        read_options=csv.ReadOptions(block_size=_BYTES_A_BLOCK),
        # An empty field is missing, as in pandas; but texts such as "NA" and "null" are texts.
        convert_options=csv.ConvertOptions(
            column_types={text: pa.string()},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )


def _schema_of(path: str, file: str, options: Any) -> pa.Schema:
    try:
        schema = options.inspect(path, fs.LocalFileSystem())
    except (OSError, pa.ArrowException) as error:
        raise OSError(f"{file} cannot be read: {one_line(error)}") from error
    in_path = [part.partition("=")[0] for part in Path(file).parts[:-1] if "=" in part]
    doubled = [name for name in dict.fromkeys(schema.names) if [*schema.names, *in_path].count(name) > 1]
    if doubled:
        raise ValueError(f"{file} has more than one column called {', '.join(map(repr, doubled))}, its path included.")
    return schema


def _one_schema(schemas: list[pa.Schema], files: list[str]) -> pa.Schema:
    """Find the schema that holds the rows of all files: the same columns, and the wider of two types of number."""
    unified = schemas[0]
    for schema, file in zip(schemas[1:], files[1:], strict=True):
        differing = sorted(set(schema.names) ^ set(unified.names))
        if differing:
            raise ValueError(f"{files[0]} and {file} differ in the columns {', '.join(map(repr, differing))}.")
        try:
            unified = pa.unify_schemas([unified, schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise ValueError(
                f"{file} differs from those before it in the type of a column: {one_line(error)}"
            ) from error
    return unified


def one_line(error: Exception) -> str:
    """Say what an error says in one line."""
    return " ".join(str(error).split())


def _parts_of(fragment: Any) -> Iterator[tuple[Any, str, int | None]]:
    """Take a file apart where it can be read in parts: each part, what to call it, and its number of rows."""
    if not isinstance(fragment, dataset.ParquetFileFragment):
        yield fragment, "", None
        return
    for group in range(fragment.num_row_groups):
        n_rows = fragment.metadata.row_group(group).num_rows
        yield fragment.subset(row_group_ids=[group]), f", row group {group},", n_rows
