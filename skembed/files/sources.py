"""Files of rows, read in order and chunk by chunk: parquet and CSV; one file, several, or a folder.

Imports pyarrow and paths; knows nothing of models and vectors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import csv, parquet, types

from skembed.paths import read_path, refuse_special_file

_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "tsv"}
_ROWS_PER_READ = 4096  # few: the length of a text is unknown before it is read
_BYTES_PER_READ = 2**20  # of one column of a parquet file
_BYTES_PER_GROUP = 2**26  # row groups of a parquet file up to this size are read whole
_BYTES_PER_BLOCK = 2**24  # of a CSV file; a row longer than a block cannot be read
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")  # as Python writes it
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # what Hive and its successors write into a path for a missing value


@dataclass
class Piece:
    """Consecutive rows of one file: its number and name, the first row, counted from 0, and the number of rows."""

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
        Where the rows come from, in order.
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
        Files of one format, or a folder that is searched for them. Folder names such as ``country=de`` become columns.

    Attributes
    ----------
    files : list of str
        Paths; those of a folder are relative to it.
    stamps : list of dict
        Name, size and modification time of each file, to notice changes.
    schema : pyarrow.Schema
        The common schema of all files. Columns of CSV files are text.
    n_rows : int or None
        None if it is unknown before reading, as for CSV files.
    """

    def __init__(self, source: Any) -> None:
        self._root, self.files, self._format = _find_files(source)
        self.stamps = [self._stamp(file) for file in self.files]
        schemas, self._n_rows = zip(*map(self._inspect, self.files), strict=True)
        self._in_paths = [_values_in_path(file) if self._root else {} for file in self.files]
        _check_same_columns(schemas, self._in_paths, self.files)
        stored = _one_schema(schemas, self.files)
        self.schema = pa.schema([*stored, *_fields_in_paths(self._in_paths)], metadata=stored.metadata)
        self.n_rows = sum(self._n_rows) if self._format == "parquet" else None

    def check_unchanged(self, number: int) -> None:
        """Raise OSError if a file has changed since the source was opened."""
        if self._stamp(self.files[number]) != self.stamps[number]:
            raise OSError(f"{self.files[number]} was changed while it was read. Embed its rows again.")

    def check_destination(self, destination: Path) -> None:
        """Raise ValueError if the next call would read the written files as a source, or overwrite the source."""
        there = destination.resolve()
        for path in [self._path(file) for file in self.files] if self._root is None else [self._root]:
            if path.resolve() in (there, *there.parents) or there in path.resolve().parents:
                raise ValueError(
                    f"destination {destination} and {path} lie one inside the other; choose a separate folder."
                )

    def read(self, first: int) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """Read the rows from row ``first`` on.

        Yields
        ------
        file : int
            Number of the file.
        row : int
            Position of the batch's first row in that file.
        batch : pyarrow.RecordBatch

        Raises
        ------
        OSError
            If a part of a file cannot be read; the message names the file and the part.
        """
        for number, n_rows in enumerate(self._n_rows):
            for row, batch in self._batches(number, first):
                skip = max(first - row, 0)
                if skip < len(batch):
                    yield number, row + skip, self._in_one_schema(batch.slice(skip), number)
                n_rows = row + len(batch)  # known before only of a parquet file
            first -= n_rows

    def _batches(self, number: int, first: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the batches of a file with their positions, without row groups that end before row ``first``."""
        path = self._path(self.files[number])
        if self._format != "parquet":
            yield from self._readable(lambda: _read_csv(path, self._format), number, "", 0)
            return
        # pyarrow.dataset's scanner decodes whole row groups, however large; ParquetFile reads them in batches.
        metadata = parquet.read_metadata(path)
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        # Small ones are read whole: a damaged length of a page must not become as many bytes of memory.
        is_large = any(group.total_byte_size > _BYTES_PER_GROUP for group in groups)
        file = parquet.ParquetFile(
            path,
            metadata=metadata,
            pre_buffer=False,
            buffer_size=_BYTES_PER_READ if is_large else 0,
            coerce_int96_timestamp_unit="us",
            page_checksum_verification=True,  # of the pages that have a checksum
        )
        with file:
            row = 0
            for place, group in enumerate(groups):
                if row + group.num_rows > first:
                    read = partial(file.iter_batches, _ROWS_PER_READ, row_groups=[place])
                    yield from self._readable(read, number, f", row group {place},", row)
                row += group.num_rows

    def _readable(self, read: Any, number: int, part: str, row: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield batches with their positions; an error names the file, the part, and the row up to which it is read."""
        try:
            for batch in read():
                yield row, batch
                row += len(batch)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise OSError(
                f"{self.files[number]}{part} cannot be read after row {row}: {one_line(error)} Finished files "
                "stay. Repair the source, and embed it into another destination (cache='disk' keeps what was encoded)."
            ) from error

    def _in_one_schema(self, batch: pa.RecordBatch, number: int) -> pa.RecordBatch:
        """Cast a file's columns to the common schema, and add the columns that its path encodes."""
        in_path = self._in_paths[number]
        columns = [
            pa.repeat(pa.scalar(in_path[field.name]).cast(field.type), len(batch))
            if field.name in in_path
            else batch.column(field.name).cast(field.type)
            for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _inspect(self, file: str) -> tuple[pa.Schema, int]:
        """Return a file's schema and its number of rows, 0 for a CSV file."""
        try:
            if self._format == "parquet":
                with parquet.ParquetFile(self._path(file), coerce_int96_timestamp_unit="us") as found:
                    schema = found.schema_arrow
                    _ = schema.names  # raises if a name is not UTF-8
                    return schema, int(found.metadata.num_rows)
            batches = _read_csv(self._path(file), self._format)
            schema = next(batches).schema
            next(batches, None)  # an error in the first rows is raised now
            return schema, 0
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise OSError(f"{file} cannot be read: {one_line(error)}") from error

    def _path(self, file: str) -> Path:
        return Path(file) if self._root is None else self._root / file

    def _stamp(self, file: str) -> dict[str, Any]:
        status = os.stat(self._path(file))
        return {"file": file, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def read_chunks(source: Source, first: int, max_rows: int, max_bytes: int, stops: int) -> Iterator[Chunk]:
    """Read the rows of a source in chunks.

    Parameters
    ----------
    source : Source
    first : int
        Position of the first row.
    max_rows, max_bytes : int
        Approximate size of a chunk, which is in memory as a whole.
    stops : int
        A chunk also ends after every ``stops`` rows, counted from the first.

    Yields
    ------
    Chunk
    """
    batches: list[pa.RecordBatch] = []
    pieces: list[Piece] = []
    n_rows = n_bytes = n_read = 0
    for number, row, batch in source.read(first):
        while len(batch):
            taken = batch.slice(0, min(max_rows - n_rows, stops - n_read % stops))
            if not pieces or pieces[-1].file != number:
                pieces.append(Piece(number, source.files[number], row, 0))
            pieces[-1].n_rows += len(taken)
            batches.append(taken)
            n_rows, n_bytes, n_read = n_rows + len(taken), n_bytes + taken.nbytes, n_read + len(taken)
            row, batch = row + len(taken), batch.slice(len(taken))
            if n_rows >= max_rows or n_bytes >= max_bytes or n_read % stops == 0:
                yield Chunk(pa.Table.from_batches(batches, source.schema), pieces)
                batches, pieces, n_rows, n_bytes = [], [], 0, 0
    if batches:
        yield Chunk(pa.Table.from_batches(batches, source.schema), pieces)


def one_line(error: Exception) -> str:
    """Return the message of an error in one line that ends in a full stop."""
    message = " ".join(str(error).split())
    return message if message.endswith(".") else f"{message}."


def _find_files(source: Any) -> tuple[Path | None, list[str], str]:
    """Return the folder, if the source is one, the paths of the files, and their format."""
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
        _check_file(path, root)
    endings = list(dict.fromkeys(path.suffix.lower() for path in paths))
    kinds = {_FORMATS.get(ending, "") for ending in endings}
    if "" in kinds or len(kinds) > 1:
        raise ValueError(
            f"source has files that end in {_join_names(endings)}; all must be parquet (.parquet, .pq), .csv or .tsv."
        )
    return root, [path.as_posix() for path in paths], kinds.pop()


def _check_file(path: Path, root: Path | None) -> None:
    """Raise unless the path is a regular file whose name is UTF-8, as the manifest needs it."""
    found = path if root is None else root / path
    refuse_special_file(found)
    if not found.is_file():
        raise FileNotFoundError(f"{found} is a folder." if found.is_dir() else f"There is no file {found}.")
    try:
        path.as_posix().encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"The name of {os.fsencode(found)!r} is not UTF-8. Rename the file or its folder.") from error


def _files_below(root: Path) -> Iterator[Path]:
    """Find files of known formats, following links; names that start with _ or . are skipped."""
    seen: set[str] = set()

    def raise_error(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, followlinks=True, onerror=raise_error):
        if os.path.realpath(folder) in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in files:
            if Path(name).suffix.lower() in _FORMATS and not name.startswith((".", "_")):
                yield Path(folder, name).relative_to(root)


def _read_csv(path: Path, kind: str) -> Iterator[pa.RecordBatch]:
    """Read a CSV file block by block, after a batch without rows; every column is text, character by character.

    Type inference would turn 00123 into 123. An empty field is missing, as in pandas, but "" is an empty text, and
    words such as NA and null are texts. Fields may be quoted with ", which is doubled inside a quoted field.
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
            ignore_empty_lines=len(schema) > 1,  # in a file of one column they are rows
        ),
        csv.ConvertOptions(
            column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )
    try:
        return csv.read_csv(pa.BufferReader(block), *options)
    except pa.ArrowInvalid as error:  # its message counts the rows of the block, not those of the file
        message = re.sub(r"Row #(\d+)", lambda row: f"Row #{n_before + int(row[1]) + 1}", str(error), count=1)
        raise pa.ArrowInvalid(message) from error


def _whole_records(path: Path, delimiter: str) -> Iterator[bytes]:
    """Split a CSV file into its header and blocks of whole records.

    If pyarrow splits a record itself, it may lose a byte of a line end within quotes (apache/arrow#51368).
    """
    record, records = _patterns(delimiter)
    with path.open("rb") as file:
        block = file.read(_BYTES_PER_BLOCK).removeprefix(_BYTE_ORDER_MARK).lstrip(b"\r\n")
        if not block:
            raise pa.ArrowInvalid("The file is empty.")
        header = record.match(block)
        end = header.end() if header else 0 if file.read(1) else len(block)  # the header may be the whole file
        yield _not_empty(block[:end]) + b"\n"
        while True:
            rest = block[end:]
            more = file.read(_BYTES_PER_BLOCK - len(rest))
            block = rest + more
            if len(block) < _BYTES_PER_BLOCK:
                break
            whole = records.match(block)
            end = whole.end() if whole else 0
            yield _not_empty(block[:end])
    if block:
        yield block


def _not_empty(block: bytes) -> bytes:
    if not block:
        raise pa.ArrowInvalid(f"A row is longer than {_BYTES_PER_BLOCK:,} bytes, or a quote in it is never closed.")
    return block


def _patterns(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return the patterns of one record of a CSV file, and of as many whole records as there are."""
    others = rf"[^{delimiter}\r\n]*+"  # a quote inside an unquoted field is a character like any other
    field = rf'(?:"(?:[^"]++|"")*+"{others}|(?!"){others})'
    end = r"(?:\r\n|\n|\r(?=[^\n]))"  # a \r at the end of a block may be half of \r\n
    record = rf"(?:{field}(?:{delimiter}{field})*+{end})"
    return re.compile(record.encode()), re.compile(f"{record}*+".encode())


def _values_in_path(file: str) -> dict[str, Any]:
    """Return the values that folder names such as ``country=de`` encode."""
    pairs = [part.split("=", 1) for part in Path(file).parts[:-1] if "=" in part]
    return {unquote(name): None if value == _NO_VALUE else unquote(value) for name, value in pairs}


def _fields_in_paths(in_paths: list[dict[str, Any]]) -> list[pa.Field]:
    """Return the fields that the paths encode: integers if all values are written as Python does, else text."""
    fields = []
    for name in in_paths[0]:
        values = [value for one in in_paths if (value := one[name]) is not None]
        is_number = all(_INTEGER.fullmatch(value) and -(2**63) <= int(value) < 2**63 for value in values)
        fields.append(pa.field(name, pa.int64() if is_number and values else pa.string()))
    return fields


def _check_same_columns(schemas: Sequence[pa.Schema], in_paths: list[dict[str, Any]], files: list[str]) -> None:
    """Raise ValueError if a file has two columns of one name, or files differ in their columns."""
    all_names = [[*schema.names, *in_path] for schema, in_path in zip(schemas, in_paths, strict=True)]
    for names, file in zip(all_names, files, strict=True):
        doubled = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if doubled:
            raise ValueError(f"{file} has more than one column named {_join_names(doubled)}, its path included.")
        if differing := sorted(set(names) ^ set(all_names[0])):
            raise ValueError(f"{files[0]} and {file} differ in the columns {_join_names(differing)}.")


def _one_schema(schemas: Sequence[pa.Schema], files: list[str]) -> pa.Schema:
    """Return a schema that holds the rows of all files without loss; their types may differ."""
    fields = []
    for field in schemas[0]:
        common: pa.DataType = pa.null()
        for schema, file in zip(schemas, files, strict=True):
            own = schema.field(field.name).type
            if (wider := _common_type(common, own)) is None:
                raise ValueError(
                    f"Column {field.name!r} is {own} in {file} and {common} in the files before it; no type holds "
                    "both without loss. Convert one of them."
                )
            common = wider
        fields.append(field.with_type(common).with_nullable(True))
    return pa.schema(fields, metadata=schemas[0].metadata)


def _common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of a common type and another without loss; None if there is none."""
    if types.is_null(other):
        return one
    if types.is_dictionary(other):  # the categories of all files may need a larger index
        other = pa.dictionary(pa.int32(), other.value_type, other.ordered)
    if types.is_null(one) or one == other:
        return other
    if {one, other} == {pa.string(), pa.large_string()}:
        return pa.large_string()
    for are_alike in (types.is_signed_integer, types.is_unsigned_integer, types.is_floating):
        if are_alike(one) and are_alike(other):
            return max(one, other, key=lambda number: number.bit_width)
    return None


def _join_names(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
