"""Files of rows, read in order and without holding them: parquet and CSV, one file, several or a folder.

Imports pyarrow and the door for paths; knows no model and no vectors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import csv, parquet, types

from skembed.paths import read_path, refuse_special_file

_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "tsv"}
_ROWS_PER_READ = 4096  # few, because nobody knows how long a text is before it is read
_BYTES_PER_READ = 2**20  # of a column of a parquet file
_BYTES_PER_GROUP = 2**26  # a row group of a parquet file up to here is read whole
_BYTES_PER_BLOCK = 2**24  # of a CSV file; a row that is longer than a block cannot be read
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")  # as Python writes it
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # what Hive and its followers write into a path for a missing value


@dataclass
class Piece:
    """Consecutive rows of one file: its number and name, the first row, counted from 0, and how many there are."""

    file: int
    name: str
    first: int
    n_rows: int


@dataclass(frozen=True)
class Chunk:
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

    Attributes
    ----------
    files : list of str
        Paths, those in a folder from there on.
    stamps : list of dict
        What would change with each file: its name, size and time of change.
    schema : pyarrow.Schema
        Of all files. Columns of CSV files are text.
    n_rows : int or None
        None where only reading tells, as in CSV files.
    """

    def __init__(self, source: Any) -> None:
        self._root, self.files, self._format = _find_files(source)
        self.stamps = [self._stamp(file) for file in self.files]
        inspected = [self._inspect(file) for file in self.files]
        schemas = [schema for schema, _ in inspected]
        self._in_paths = [_values_in_path(file) if self._root else {} for file in self.files]
        _refuse_differing_columns(schemas, self._in_paths, self.files)
        stored = _one_schema(schemas, self.files)
        self._stored_names = stored.names
        self.schema = pa.schema([*stored, *_fields_in_paths(self._in_paths)], metadata=stored.metadata)
        self.n_rows = sum(n_rows for _, n_rows in inspected) if self._format == "parquet" else None

    def refuse_changes(self, number: int) -> None:
        """Raise if a file is no longer as it was when the source was opened."""
        if self._stamp(self.files[number]) != self.stamps[number]:
            raise OSError(f"{self.files[number]} was changed while it was read. Embed its rows again.")

    def refuse_destination(self, destination: Path) -> None:
        """Raise if the files that are to be written would be read as a source by the next call, or the other way."""
        there = destination.resolve()
        for path in [self._path(file) for file in self.files] if self._root is None else [self._root]:
            if path.resolve() in (there, *there.parents) or there in path.resolve().parents:
                raise ValueError(f"destination {destination} and {path} lie one in the other; choose a folder apart.")

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
        for number in range(len(self.files)):
            n_rows = 0
            for batch in self._batches(number, first - n_before):
                if isinstance(batch, int):  # rows that could be passed over
                    n_rows += batch
                    continue
                skip = min(max(first - n_before - n_rows, 0), len(batch))
                if skip < len(batch):
                    yield number, n_rows + skip, self._in_one_schema(batch.slice(skip), number)
                n_rows += len(batch)
            n_before += n_rows

    def _batches(self, number: int, n_unwanted: int) -> Iterator[pa.RecordBatch | int]:
        """Read a file; instead of row groups that nobody wants, only say how many rows they have."""
        if self._format != "parquet":
            yield from self._readable(lambda: _read_csv(self._path(self.files[number]), self._format), number, "", 0)
            return
        # The scanner of pyarrow.dataset decodes whole row groups, however large; this reader goes through them.
        path = self._path(self.files[number])
        metadata = parquet.read_metadata(path)
        groups = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
        # Small ones are read whole: a damaged length of a page must not become as many bytes of memory.
        buffer_size = _BYTES_PER_READ if max(groups, default=0) > _BYTES_PER_GROUP else 0
        file = parquet.ParquetFile(
            path,
            metadata=metadata,
            pre_buffer=False,
            buffer_size=buffer_size,
            coerce_int96_timestamp_unit="us",
            page_checksum_verification=True,  # of pages that have a checksum
        )
        with file:
            n_seen = 0
            for group in range(file.num_row_groups):
                n_rows = file.metadata.row_group(group).num_rows
                n_seen += n_rows
                if n_seen <= n_unwanted:
                    yield n_rows
                    continue
                yield from self._readable(
                    lambda group=group: file.iter_batches(_ROWS_PER_READ, row_groups=[group]),
                    number,
                    f", row group {group},",
                    n_seen - n_rows,
                )

    def _readable(self, open_batches: Any, number: int, part: str, row: int) -> Iterator[pa.RecordBatch]:
        try:
            for batch in open_batches():
                yield batch
                row += len(batch)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise OSError(
                f"{self.files[number]}{part} cannot be read after row {row}: {one_line(error)} What was finished "
                "before it stays; repair the source, and embed it into another destination (a cache='disk' keeps what "
                "was encoded)."
            ) from error

    def _in_one_schema(self, batch: pa.RecordBatch, number: int) -> pa.RecordBatch:
        """Bring a file's columns into the order and types of all files, and add what its path says."""
        stored = [batch.column(name).cast(self.schema.field(name).type) for name in self._stored_names]
        fields = [self.schema.field(name) for name in self._in_paths[number]]
        values = self._in_paths[number].values()
        in_path = [
            pa.repeat(pa.scalar(value).cast(field.type), len(batch))
            for value, field in zip(values, fields, strict=True)
        ]
        return pa.RecordBatch.from_arrays([*stored, *in_path], schema=self.schema)

    def _inspect(self, file: str) -> tuple[pa.Schema, int]:
        """Read a file's columns, and its number of rows if it says so."""
        try:
            if self._format == "parquet":
                with parquet.ParquetFile(self._path(file), coerce_int96_timestamp_unit="us") as found:
                    schema = found.schema_arrow
                    _ = schema.names  # which may be no text
                    return schema, int(found.metadata.num_rows)
            batches = _read_csv(self._path(file), self._format)
            schema = next(batches).schema
            next(batches, None)  # what is wrong with the first rows is said now
            return schema, 0
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise OSError(f"{file} cannot be read: {one_line(error)}") from error

    def _path(self, file: str) -> Path:
        return Path(file) if self._root is None else self._root / file

    def _stamp(self, file: str) -> dict[str, Any]:
        status = os.stat(self._path(file))
        return {"file": file, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def read_chunks(source: Source, first: int, max_rows: int, max_bytes: int, stops: int) -> Iterator[Chunk]:
    """Cut the rows of a source into read_chunks that are held in memory together.

    Parameters
    ----------
    source : Source
    first : int
        Number of the first row.
    max_rows, max_bytes : int
        About how much is held at once.
    stops : int
        After each so many rows, counted from the first, a chunk ends.
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
                yield Chunk(pa.Table.from_batches(batches, source.schema), pieces)
                n_given += n_rows
                batches, pieces, n_rows, n_bytes = [], [], 0, 0
    if batches:
        yield Chunk(pa.Table.from_batches(batches, source.schema), pieces)


def one_line(error: Exception) -> str:
    """Say what an error says in one line, with a full stop."""
    said = " ".join(str(error).split())
    return said if said.endswith(".") else f"{said}."


def _find_files(source: Any) -> tuple[Path | None, list[str], str]:
    """List the files that are meant: the folder that they are in, if one was named, their paths, and their format."""
    named = [source] if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(named, Sequence) or not all(isinstance(path, (str, os.PathLike)) for path in named):
        raise TypeError(f"source must be a path or a list of paths; got {type(source).__name__}.")
    if not named or not all(os.fspath(path) for path in named):
        raise ValueError("source names no file.")
    root, paths = None, [read_path(path, "source") for path in named]
    if len(paths) == 1 and paths[0].is_dir():
        root = paths[0]
        paths = sorted(_files_below(root))
        if not paths:
            raise FileNotFoundError(f"{root} holds no file that ends in {', '.join(_FORMATS)}.")
    for path in paths:
        _refuse_unreadable(path, root)
    kinds = {path.suffix.lower(): _FORMATS.get(path.suffix.lower()) for path in paths}
    if None in kinds.values() or len(set(kinds.values())) > 1:
        endings = ", ".join(repr(ending) for ending in kinds)
        raise ValueError(f"source has files that end in {endings}; all must be parquet (.parquet, .pq), .csv or .tsv.")
    kind = next(iter(kinds.values()))
    return root, [path.as_posix() for path in paths], str(kind)


def _refuse_unreadable(path: Path, root: Path | None) -> None:
    """Raise if a path leads to no regular file, or cannot be written down."""
    found = path if root is None else root / path
    refuse_special_file(found)
    if not found.is_file():
        raise FileNotFoundError(f"{found} is a folder." if found.is_dir() else f"There is no file {found}.")
    try:
        path.as_posix().encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"The name of {os.fsencode(found)!r} is not UTF-8. Rename the file or its folder.") from error


def _files_below(root: Path) -> Iterator[Path]:
    """Find files of known formats, through links too; names that start with _ or . are passed over."""
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        if os.path.realpath(folder) in seen:  # a link to a folder that holds it
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in files:
            if Path(name).suffix.lower() in _FORMATS and not name.startswith((".", "_")):
                yield Path(folder, name).relative_to(root)


def _read_csv(path: Path, kind: str) -> Iterator[pa.RecordBatch]:
    """Read a CSV file block by block, after a batch without rows; every column is text, letter for letter.

    A guess at types would make 123 of 00123. An empty field is missing, as in pandas; but "" is an empty text, and
    words such as NA and null are texts. Fields may be quoted with ", which is doubled within.
    """
    delimiter = "\t" if kind == "tsv" else ","
    blocks = _whole_records(path, delimiter)
    as_header = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    names = csv.read_csv(pa.BufferReader(next(blocks)), parse_options=as_header).column_names
    schema = pa.schema([(name, pa.string()) for name in names])
    yield pa.RecordBatch.from_pylist([], schema)
    n_rows = 0
    for block in blocks:
        table = _parse_csv(block, schema, delimiter, n_rows)
        n_rows += len(table)
        yield from table.to_batches()


def _parse_csv(block: bytes, schema: pa.Schema, delimiter: str, n_before: int) -> pa.Table:
    """Parse whole records, without the header."""
    options = (
        csv.ReadOptions(column_names=schema.names, block_size=len(block) + 1, use_threads=False),
        csv.ParseOptions(
            delimiter=delimiter,
            newlines_in_values=True,
            ignore_empty_lines=len(schema) > 1,  # else they are rows
        ),
        csv.ConvertOptions(
            column_types=schema,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )
    try:
        return csv.read_csv(pa.BufferReader(block), *options)
    except pa.ArrowInvalid as error:  # which counts rows in the block, from 1, rather than from the header
        said = re.sub(r"Row #(\d+)", lambda row: f"Row #{n_before + int(row[1]) + 1}", str(error), count=1)
        raise pa.ArrowInvalid(said) from error


def _whole_records(path: Path, delimiter: str) -> Iterator[bytes]:
    """Cut a CSV file into its header and blocks of rows, each of which ends where a record does.

    Where pyarrow itself cuts a record in two, it may lose a byte of a line end within quotes (apache/arrow#51368).
    """
    record, records = _patterns(delimiter)
    with path.open("rb") as file:
        block = file.read(_BYTES_PER_BLOCK).removeprefix(_BYTE_ORDER_MARK).lstrip(b"\r\n")
        if not block:
            raise pa.ArrowInvalid("The file is empty.")
        header = record.match(block)
        end = header.end() if header else 0 if file.read(1) else len(block)  # it may be all that there is
        yield _checked(block[:end]) + b"\n"
        while True:
            rest = block[end:]
            more = file.read(_BYTES_PER_BLOCK - len(rest))
            block = rest + more
            if len(block) < _BYTES_PER_BLOCK:
                break
            whole = records.match(block)
            end = whole.end() if whole else 0
            yield _checked(block[:end])
    if block:
        yield block


def _checked(block: bytes) -> bytes:
    if not block:
        raise pa.ArrowInvalid(f"A row is longer than {_BYTES_PER_BLOCK:,} bytes, or a quote in it is never closed.")
    return block


def _patterns(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Make what matches one record of a CSV file, and as many as there are to their end, in one pass."""
    others = rf"[^{delimiter}\r\n]*+"  # within a field that does not begin with a quote, one is as any other character
    field = rf'(?:"(?:[^"]++|"")*+"{others}|(?!"){others})'
    end = r"(?:\r\n|\n|\r(?=[^\n]))"  # a \r at the end of a block may be half of one
    record = rf"(?:{field}(?:{delimiter}{field})*+{end})"
    return re.compile(record.encode()), re.compile(f"{record}*+".encode())


def _values_in_path(file: str) -> dict[str, Any]:
    """Read ``country=de`` and the like from the folders of a path."""
    pairs = [part.split("=", 1) for part in Path(file).parts[:-1] if "=" in part]
    return {unquote(name): None if value == _NO_VALUE else unquote(value) for name, value in pairs}


def _fields_in_paths(in_paths: list[dict[str, Any]]) -> list[pa.Field]:
    """Say which columns the paths make: numbers if all are written as Python writes them, else text."""
    fields = []
    for name in in_paths[0]:
        values = [value for one in in_paths if (value := one[name]) is not None]
        is_number = all(_INTEGER.fullmatch(value) and -(2**63) <= int(value) < 2**63 for value in values)
        fields.append(pa.field(name, pa.int64() if is_number and values else pa.string()))
    return fields


def _refuse_differing_columns(schemas: list[pa.Schema], in_paths: list[dict[str, Any]], files: list[str]) -> None:
    all_names = [[*schema.names, *in_path] for schema, in_path in zip(schemas, in_paths, strict=True)]
    for names, file in zip(all_names, files, strict=True):
        doubled = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if doubled:
            raise ValueError(f"{file} has more than one column called {_listed(doubled)}, its path included.")
        if differing := sorted(set(names) ^ set(all_names[0])):
            raise ValueError(f"{files[0]} and {file} differ in the columns {_listed(differing)}.")


def _one_schema(schemas: list[pa.Schema], files: list[str]) -> pa.Schema:
    """Find the schema that holds the rows of all files, whose types may differ where nothing is lost."""
    fields = []
    for field in schemas[0]:
        common: pa.DataType = pa.null()
        for schema, file in zip(schemas, files, strict=True):
            own = schema.field(field.name).type
            wider = _common_type(common, own)
            if wider is None:
                raise ValueError(
                    f"Column {field.name!r} is {own} in {file} and {common} before it, which no type holds without "
                    "loss; convert one of them."
                )
            common = wider
        fields.append(field.with_type(common).with_nullable(True))
    return pa.schema(fields, metadata=schemas[0].metadata)


def _common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Find the type that holds the values of two without loss; None if there is none."""
    if types.is_null(other):
        return one
    if types.is_dictionary(other):  # files differ in their categories, which together may need a larger index
        other = pa.dictionary(pa.int32(), other.value_type, other.ordered)
    if types.is_dictionary(one):
        one = pa.dictionary(pa.int32(), one.value_type, one.ordered)
    if types.is_null(one) or one == other:
        return other
    if {one, other} == {pa.string(), pa.large_string()}:
        return pa.large_string()
    for are_alike in (types.is_signed_integer, types.is_unsigned_integer, types.is_floating):
        if are_alike(one) and are_alike(other):
            return max(one, other, key=lambda number: number.bit_width)
    return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
