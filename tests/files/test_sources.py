"""Files of rows: which are read, in which order, as which columns, and from any row on."""

from __future__ import annotations

import csv
import io
import os
import socket
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skembed.files import sources
from skembed.files.sources import Source, read_chunks

ALL = 10**9


@pytest.fixture
def write(tmp_path):
    """``write(name, content)``: a file in the folder, of text or of columns."""

    def write(name, content, **params):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_bytes(content.encode())
        else:
            with path.open("wb") as file:  # pyarrow writes to no name that is not UTF-8
                pa.parquet.write_table(pa.table(content), file, **params)
        return path

    return write


def cut(source, first=0, max_rows=ALL, stops=ALL, max_bytes=ALL):
    return list(read_chunks(source, first, max_rows, max_bytes, stops))


def rows(source, text="text", **params):
    return [row for chunk in cut(Source(source), **params) for row in chunk.table.to_pylist()]


def texts(source):
    return [row["text"] for row in rows(source)]


def make_socket(name):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(name)


def link_to_a_device(name):
    os.symlink("/dev/zero", name)


class TestFiles:
    """Which files are meant, and in which order."""

    def test_one_file_by_path_or_str(self, write):
        path = write("a.parquet", {"text": ["a", "b"]})
        assert texts(path) == texts(str(path)) == ["a", "b"]

    def test_a_list_is_read_in_its_own_order(self, write):
        a, b = (write(f"{name}.parquet", {"text": [name]}) for name in "ab")
        assert texts([b, str(a), b]) == ["b", "a", "b"]

    def test_a_folder_is_read_in_the_order_of_its_paths(self, write, tmp_path):
        names = ["b.parquet", "a/z.pq", "a/c/y.parquet", "9.parquet", "10.PARQUET"]
        for name in names:
            write(name, {"text": [name]})
        assert texts(tmp_path) == Source(tmp_path).files
        assert texts(tmp_path) == ["10.PARQUET", "9.parquet", "a/c/y.parquet", "a/z.pq", "b.parquet"]

    def test_hidden_and_other_files_are_skipped(self, write, tmp_path):
        for name in ("_a.parquet", ".a.parquet", "_temporary/a.parquet", ".git/a.parquet", "a.parquet"):
            write(name, {"text": [name]})
        write("notes.md", "other")
        assert texts(tmp_path) == ["a.parquet"]

    def test_a_folder_that_ends_as_a_file_is_a_folder(self, write, tmp_path):
        write("reviews.parquet/part-0.parquet", {"text": ["a"]})
        assert texts(tmp_path) == texts(tmp_path / "reviews.parquet") == ["a"]

    @pytest.mark.parametrize("ending", ["parquet", "csv"])
    def test_parts_of_a_path_are_columns(self, write, tmp_path, ending):
        for country in ("fr", "de"):
            write(f"country={country}/a.{ending}", {"text": ["a"]} if ending == "parquet" else "text\na\n")
        assert rows(tmp_path) == [{"text": "a", "country": "de"}, {"text": "a", "country": "fr"}]

    def test_parts_of_a_path_are_columns_in_the_folder_where_one_is_too(self, write, tmp_path, monkeypatch):
        write("country=de/a.parquet", {"text": ["a"]})
        monkeypatch.chdir(tmp_path)
        assert rows(".") == rows(tmp_path) == [{"text": "a", "country": "de"}]

    def test_a_file_above_the_parts_is_an_error_that_names_them(self, write, tmp_path):
        write("a.parquet", {"text": ["a"]})
        write("year=2026/b.parquet", {"text": ["b"]})
        with pytest.raises(ValueError, match=r"a\.parquet and year=2026/b\.parquet differ in the columns 'year'"):
            Source(tmp_path)

    @pytest.mark.parametrize(
        "value", ["99999999999999999999", "9223372036854775808", "--5", "-", "-0", "+5", "٣", "9" * 200, "1_000"]
    )
    def test_parts_that_are_not_64_bit_integers_stay_text(self, value, write, tmp_path):
        write(f"d={value}/a.parquet", {"text": ["a"]})
        write("d=1/b.parquet", {"text": ["b"]})
        assert sorted(row["d"] for row in rows(tmp_path)) == sorted([value, "1"])

    @pytest.mark.parametrize("value", ["-9223372036854775808", "9223372036854775807", "0", "-5"])
    def test_parts_that_are_64_bit_integers_become_integers(self, value, write, tmp_path):
        write(f"d={value}/a.parquet", {"text": ["a"]})
        assert [row["d"] for row in rows(tmp_path)] == [int(value)]

    @pytest.mark.parametrize("make", [os.mkfifo, make_socket, link_to_a_device], ids=lambda make: make.__name__)
    @pytest.mark.parametrize("is_folder", [True, False])
    def test_a_path_that_is_not_a_regular_file_is_an_error_and_not_waited_for(
        self, make, is_folder, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)  # the name of a socket must be short
        make("a.parquet")
        with pytest.raises(OSError, match=r"a\.parquet is not a regular file"):
            Source("." if is_folder else "a.parquet")

    @pytest.mark.parametrize("name", [b"caf\xe9.parquet", b"caf\xe9/a.parquet", b"n=caf\xe9/a.parquet"], ids=repr)
    @pytest.mark.parametrize("is_folder", [True, False])
    def test_a_name_that_is_not_utf_8_is_an_error_that_shows_its_bytes(self, name, is_folder, write, tmp_path):
        path = write(os.fsdecode(name), {"text": ["a"]})
        with pytest.raises(ValueError, match=r"caf\\xe9.*is not UTF-8. Rename the file"):
            Source(tmp_path if is_folder else path)

    @pytest.mark.parametrize(("other", "values"), [("3", [3, 2026]), ("03", ["03", "2026"]), (None, [None, 2026])])
    def test_parts_are_numbers_if_all_are_written_like_numbers(self, other, values, write, tmp_path):
        write(f"year={other or '__HIVE_DEFAULT_PARTITION__'}/a.parquet", {"text": ["a"]})
        write("year=2026/b.parquet", {"text": ["b"]})
        assert sorted(row["year"] for row in rows(tmp_path) if row["year"]) == sorted(v for v in values if v)

    def test_linked_folders_are_read_and_one_that_holds_itself_once(self, write, tmp_path):
        write("source/a.parquet", {"text": ["a"]})
        write("elsewhere/b.parquet", {"text": ["b"]})
        (tmp_path / "source" / "link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "source" / "loop").symlink_to(tmp_path / "source")
        assert texts(tmp_path / "source") == ["a", "b"]

    def test_parquet_says_how_many_rows_there_are_and_csv_does_not(self, write):
        assert Source(write("a.parquet", {"text": ["a", "b"]})).n_rows == 2
        assert Source(write("a.csv", "text\na\n")).n_rows is None

    def test_a_folder_without_files_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"holds no file that ends in .parquet, .pq, .csv, .tsv"):
            Source(tmp_path)

    @pytest.mark.parametrize("named", ["none.parquet", ["a.parquet", "none.parquet"]], ids=str)
    def test_a_missing_file_is_named(self, write, tmp_path, monkeypatch, named):
        write("a.parquet", {"text": ["a"]})
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"There is no file none.parquet"):
            Source(named)

    def test_a_folder_among_files_is_an_error(self, write, tmp_path):
        with pytest.raises(FileNotFoundError, match="is a folder"):
            Source([write("a.parquet", {"text": ["a"]}), tmp_path])

    def test_an_empty_list_is_an_error(self):
        with pytest.raises(ValueError, match="names no file"):
            Source([])

    @pytest.mark.parametrize("source", [None, 3, b"a.parquet", {"a.parquet"}, [3], ["a.parquet", None]], ids=repr)
    def test_a_source_that_is_not_a_path_is_an_error(self, source):
        with pytest.raises(TypeError, match="source must be a path or a list of paths"):
            Source(source)

    def test_a_format_that_is_not_read_is_an_error(self, write):
        with pytest.raises(ValueError, match=r"end in '.txt'; all must be parquet"):
            Source(write("a.txt", "text"))

    @pytest.mark.parametrize("other", ["b.csv", "b.tsv"])
    def test_mixed_formats_are_an_error(self, write, tmp_path, other):
        write("a.parquet", {"text": ["a"]})
        write(other, "text\nb\n")
        with pytest.raises(ValueError, match=rf"end in '.parquet', '{other[1:]}'; all must be"):
            Source(tmp_path)


class TestCsv:
    """Texts stay as they stand in the file."""

    @pytest.mark.parametrize(
        "text", ["two\nlines", "two\r\nlines", "", "a, b", 'a "word"', "NA", "null", "nan", "123", "1e5", "true", " a "]
    )
    def test_a_quoted_text_is_that_text(self, write, text):
        quoted = text.replace('"', '""')
        assert rows(write("a.csv", f'text,n\n"{quoted}",1\n')) == [{"text": text, "n": "1"}]

    @pytest.mark.parametrize("text", ["NA", "null", "nan", "None", "123", "1e5", "true", "2026-01-01", " a "])
    def test_an_unquoted_text_is_that_text(self, write, text):
        assert rows(write("a.csv", f"text,n\n{text},1\n")) == [{"text": text, "n": "1"}]

    def test_an_empty_field_is_missing(self, write):
        path = write("a.csv", "text,n,word\n,1,a\nb,,\n")
        assert rows(path) == [{"text": None, "n": "1", "word": "a"}, {"text": "b", "n": None, "word": None}]

    def test_tabs_separate_the_columns_of_tsv(self, write):
        assert rows(write("a.tsv", 'text\tn\na, b\t1\n"a\tb"\t2\n')) == [
            {"text": "a, b", "n": "1"},
            {"text": "a\tb", "n": "2"},
        ]

    def test_a_byte_order_mark_is_not_part_of_a_name(self, write):
        assert rows(write("a.csv", "\ufefftext\ncafé\n")) == [{"text": "café"}]

    def test_a_header_alone_is_not_a_row(self, write):
        assert rows(write("a.csv", "text,n\n")) == []

    @pytest.mark.parametrize("field", ["00123", "+49123", "12345678901234567890", "1.50", "true", "+02:00"])
    def test_other_columns_stay_as_they_are_written(self, write, field):
        assert rows(write("a.csv", f"text,n\na,{field}\n")) == [{"text": "a", "n": field}]

    def test_a_blank_line_of_a_single_column_is_a_row_without_a_text(self, write):
        assert rows(write("a.csv", "text\na\n\nb\n")) == [{"text": "a"}, {"text": None}, {"text": "b"}]

    @pytest.mark.parametrize("content", [b"", b"text,n\na\n", b"text,text\na,b\n", b"text\ncaf\xe9\n"], ids=repr)
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path, content):
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises((OSError, ValueError), match=r"a\.csv"):
            Source(tmp_path)


def as_python_reads(content, delimiter=","):
    """The rows that Python's csv module reads, without the header; blank lines are rows of a single column only."""
    header, *found = csv.reader(io.StringIO(content.lstrip("\ufeff\r\n"), newline=""), delimiter=delimiter)
    return [row or [""] for row in found if row or len(header) == 1]


def as_read(content, block_size, ending="csv"):
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sources, "_BYTES_PER_BLOCK", block_size)
        path = Path(folder, f"a.{ending}")
        path.write_bytes(content.encode())
        return [[value or "" for value in row.values()] for row in rows(path)]


FIELD = st.lists(
    st.sampled_from(["a", "é", "🦊", ",", "\t", '"', '""', "'", "\r", "\n", "\r\n", " ", "\0", "NA"]), max_size=6
).map("".join)


@pytest.mark.parametrize("content", [b"", b"\r\n\n", b"\xef\xbb\xbf"])
def test_a_csv_file_without_a_header_is_reported_as_empty(content, tmp_path):
    (tmp_path / "empty.csv").write_bytes(content)
    with pytest.raises(OSError, match=r"empty\.csv.*The file is empty"):
        Source(tmp_path / "empty.csv")


class TestCsvBlocks:
    """Where a file is cut into blocks makes no difference: it is read as Python's csv module reads it."""

    @settings(deadline=None, max_examples=300)
    @given(
        st.integers(1, 3).flatmap(lambda width: st.lists(st.lists(FIELD, min_size=width, max_size=width), max_size=12)),
        st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
        st.sampled_from(["\r\n", "\n", "\r"]),
        st.sampled_from([("csv", ","), ("tsv", "\t")]),
        st.booleans(),
        st.booleans(),
        st.integers(0, 40),
    )
    def test_csv_written_by_python_is_read_character_by_character(
        self, fields, quoting, line_end, kind, has_mark, is_cut_short, more_bytes
    ):
        ending, delimiter = kind
        width = len(fields[0]) if fields else 1
        # The writer surely quotes the characters that end its own lines, so these are CR LF until all is written.
        file = io.StringIO(newline="")
        writer = csv.writer(file, quoting=quoting, delimiter=delimiter)
        lines = []
        for row in [[f"column {number}" for number in range(width)], *fields]:
            writer.writerow(row)
            lines.append(file.getvalue()[sum(map(len, lines)) :])
        content = "".join(line.removesuffix("\r\n") + line_end for line in lines)
        content = ("\ufeff" if has_mark else "") + (content.removesuffix(line_end) if is_cut_short else content)
        longest = max(len(line.encode()) for line in lines) + 5  # a mark, and what tells that a record is over
        assert as_read(content, longest + more_bytes, ending) == as_python_reads(content, delimiter)

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(st.sampled_from(['"', '"', ",", "\r", "\n", "a", "é"]), max_size=40).map("".join), st.integers(0, 40)
    )
    def test_malformed_csv_is_read_as_python_does_or_refused(self, soup, more_bytes):
        content = f"x,y\n{soup}"
        expected = as_python_reads(content)
        longest = len(content.encode()) + 1 if '"' in soup else max(map(len, content.encode().splitlines())) + 3
        if all(len(row) == 2 for row in expected):
            assert as_read(content, longest + more_bytes) == expected
        else:
            with pytest.raises(OSError, match=r"Expected 2 columns, got \d"):
                as_read(content, longest + more_bytes)

    @pytest.mark.parametrize("shift", range(-4, 5))
    @pytest.mark.parametrize("text", ["two\r\nlines", "ends\r\n", "\r\n", 'quoted ""words""\r\n'])
    def test_a_line_end_in_quotes_at_the_end_of_a_block_keeps_both_its_bytes(self, text, shift):
        before = f'x,y\n"{"a" * 50}",1\n"'
        content = f'{before}{text}",2\nlast,3\n'
        found = as_read(content, len(before) + text.index("\r") + shift)
        assert found == as_python_reads(content)

    def test_a_row_that_is_longer_than_a_block_is_an_error_that_says_so(self):
        content = "x,y\n" + "a,1\n" * 30 + '"' + "never closed,1\n" * 30
        with pytest.raises(
            OSError, match=r"a\.csv cannot be read.*longer than 100 bytes, or a quote in it is never closed"
        ):
            as_read(content, 100)


class TestColumns:
    """All files have the same columns."""

    @pytest.mark.parametrize(
        ("first", "second", "unified"),
        [
            (pa.int32(), pa.int64(), pa.int64()),
            (pa.uint8(), pa.uint32(), pa.uint32()),
            (pa.float32(), pa.float64(), pa.float64()),
            (pa.null(), pa.string(), pa.string()),
            (pa.string(), pa.large_string(), pa.large_string()),
        ],
        ids=str,
    )
    def test_the_wider_of_two_types_holds_both(self, write, tmp_path, first, second, unified):
        write("a.parquet", {"text": ["a"], "n": pa.nulls(1, first)})
        write("b.parquet", {"text": ["b"], "n": pa.nulls(1, second)})
        assert Source(tmp_path).schema.field("n").type == unified
        assert rows(tmp_path) == [{"text": "a", "n": None}, {"text": "b", "n": None}]

    def test_the_order_of_columns_is_that_of_the_first_file(self, write, tmp_path):
        write("a.parquet", {"text": ["a"], "n": [1]})
        write("b.parquet", {"n": [2], "text": ["b"]})
        assert Source(tmp_path).schema.names == ["text", "n"]
        assert rows(tmp_path) == [{"text": "a", "n": 1}, {"text": "b", "n": 2}]

    @pytest.mark.parametrize("other", [{"text": ["b"]}, {"text": ["b"], "n": [1], "m": [1]}], ids=str)
    def test_files_that_differ_in_columns_are_named_with_them(self, write, tmp_path, other):
        write("a.parquet", {"text": ["a"], "m": [1]} if "n" in other else {"text": ["a"], "n": [1]})
        write("b.parquet", other)
        with pytest.raises(ValueError, match=r"a.parquet and b.parquet differ in the columns 'n'"):
            Source(tmp_path)

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (pa.int64(), pa.string()),
            (pa.int64(), pa.float64()),
            (pa.decimal128(20, 2), pa.float64()),
            (pa.string(), pa.binary()),
            (pa.timestamp("ns"), pa.timestamp("us")),
        ],
        ids=str,
    )
    def test_types_without_a_common_type_are_an_error_that_names_column_and_files(self, write, tmp_path, first, second):
        write("a.parquet", {"text": ["a"], "n": pa.nulls(1, first)})
        write("b.parquet", {"text": ["b"], "n": pa.nulls(1, second)})
        with pytest.raises(ValueError, match=r"Column 'n' is .* in b\.parquet and .* in the files before it"):
            Source(tmp_path)

    def test_categories_of_several_files_are_combined(self, write, tmp_path):
        for number in range(3):
            values = pa.array([f"{number} {value}" for value in range(100)]).dictionary_encode()
            write(f"{number}.parquet", {"text": values.cast(pa.dictionary(pa.int8(), pa.string()))})
        pa.parquet.write_table(pa.concat_tables(part.table for part in cut(Source(tmp_path))), tmp_path / "all.parquet")
        read_back = pa.parquet.read_table(tmp_path / "all.parquet")["text"].to_pylist()
        assert read_back == [f"{number} {value}" for number in range(3) for value in range(100)]

    @pytest.mark.parametrize("doubled", ["a", "b"])
    def test_two_columns_of_one_name_are_an_error_that_names_the_file(self, write, tmp_path, doubled):
        for name in "ab":
            write(f"{name}.parquet", {"text": [name]})
        table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
        pa.parquet.write_table(table, tmp_path / f"{doubled}.parquet")
        with pytest.raises(ValueError, match=rf"{doubled}.parquet has more than one column named 'text'"):
            Source(tmp_path)

    @pytest.mark.parametrize("type_of_n", [pa.int32(), pa.int64()], ids=str)
    def test_a_column_of_both_the_path_and_the_file_is_an_error(self, write, tmp_path, type_of_n):
        write("n=1/a.parquet", {"text": ["a"], "n": pa.array([5], type_of_n)})
        with pytest.raises(ValueError, match=r"a.parquet"):
            Source(tmp_path)


@pytest.fixture(params=["parquet", "csv"])
def three_files(request, write, tmp_path):
    for number, names in enumerate(["abcd", "", "efg"]):
        content = {"text": pa.array(list(names), pa.string())}
        csv = "".join(f"{name}\n" for name in ["text", *names])
        write(f"{number}.{request.param}", content if request.param == "parquet" else csv)
    return Source(tmp_path)


class TestChunks:
    """Rows are held by the chunk, and each is known by its file and row."""

    @pytest.mark.parametrize("first", range(9))
    def test_reading_starts_at_any_row(self, three_files, first):
        read = [text for chunk in cut(three_files, first) for text in chunk.table["text"].to_pylist()]
        assert read == list("abcdefg"[first:])

    @pytest.mark.parametrize("first", range(7))
    @pytest.mark.parametrize("max_rows", [1, 3, ALL])
    def test_a_row_is_named_by_its_file_and_its_number_there(self, three_files, first, max_rows):
        where = [chunk.where(row) for chunk in cut(three_files, first, max_rows) for row in range(len(chunk.table))]
        in_files = [("0", row) for row in range(4)] + [("2", row) for row in range(3)]
        ending = three_files.files[0][1:]
        assert where == [f"row {row} of {file}{ending}" for file, row in in_files[first:]]

    def test_a_row_after_the_last_is_an_index_error(self, three_files):
        (chunk,) = cut(three_files)
        with pytest.raises(IndexError):
            chunk.where(7)

    def test_a_chunk_ends_where_it_holds_enough_bytes(self, write):
        path = write("a.parquet", {"text": ["a" * 100] * 6}, row_group_size=2)
        assert [len(chunk.table) for chunk in cut(Source(path), max_bytes=300)] == [4, 2]

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(st.integers(0, 12), min_size=1, max_size=4),
        st.integers(1, 7),
        st.integers(0, 40),
        st.integers(1, 15),
        st.integers(1, 15),
        st.integers(1, 6),
    )
    def test_however_rows_are_cut_they_are_the_rest_in_order(
        self, n_rows, rows_per_group, first, max_rows, stops, rows_a_read
    ):
        starts = [0, *accumulate(n_rows)]
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(sources, "_ROWS_PER_READ", rows_a_read)
            for number, (start, end) in enumerate(pairwise(starts)):
                table = pa.table({"text": pa.array([str(row) for row in range(start, end)], pa.string())})
                pa.parquet.write_table(table, f"{folder}/{number}.parquet", row_group_size=rows_per_group)
            parts = cut(Source(folder), first, max_rows, stops)
        read = [text for part in parts for text in part.table["text"].to_pylist()]
        assert read == [str(row) for row in range(first, starts[-1])]
        lengths = [len(part.table) for part in parts]
        assert all(0 < length <= max_rows for length in lengths)
        assert all(sum(piece.n_rows for piece in part.pieces) == len(part.table) for part in parts)
        ends = list(accumulate(lengths))
        assert set(range(stops, len(read), stops)) <= set(ends)
        where = [part.where(row) for part in parts for row in range(len(part.table))]
        in_files = [f"row {row} of {file}.parquet" for file, rows in enumerate(n_rows) for row in range(rows)]
        assert where == in_files[first:]


class TestDamage:
    """What cannot be read is named, and nothing is read that is not what was there."""

    @pytest.fixture
    def damaged(self, write):
        """The third of five row groups of ten rows cannot be read; the footer is whole."""
        path = write("a.parquet", {"text": [f"text {row}" for row in range(50)]}, row_group_size=10)
        column = pa.parquet.read_metadata(path).row_group(2).column(0)
        with open(path, "r+b") as file:
            file.seek(column.dictionary_page_offset or column.data_page_offset)
            file.write(b"\xff" * column.total_compressed_size)
        return Source(path.parent)

    def test_a_row_group_that_cannot_be_read_is_named_with_its_file(self, damaged):
        read = damaged.read(0)
        assert sum(len(next(read)[2]) for _ in range(2)) == 20
        with pytest.raises(OSError, match=r"a.parquet, row group 2, cannot be read after row 20"):
            next(read)

    def test_the_message_is_one_line(self, damaged):
        with pytest.raises(OSError, match="cannot be read") as caught:
            list(damaged.read(0))
        assert "\n" not in str(caught.value)

    def test_rows_after_the_damage_can_be_read(self, damaged):
        assert [(row, len(batch)) for _, row, batch in damaged.read(30)] == [(30, 10), (40, 10)]

    def test_a_csv_row_with_too_few_fields_is_named_with_its_file(self, write, monkeypatch):
        monkeypatch.setattr(sources, "_BYTES_PER_BLOCK", 2**10)
        path = write("a.csv", "text,n\n" + "a,1\n" * 1000 + "b\n")
        with pytest.raises(
            OSError, match=r"a.csv cannot be read after row \d+: .*Row #1002: Expected 2 columns, got 1"
        ):
            rows(path)

    @pytest.mark.parametrize("whole", ["", "a", "b"])
    def test_a_file_that_is_not_parquet_is_named(self, write, tmp_path, whole):
        for name in {"a", "b"} - {whole}:
            write(f"{name}.parquet", "something else")
        if whole:
            write(f"{whole}.parquet", {"text": ["a"]})
        with pytest.raises(OSError, match=rf"{'b' if whole == 'a' else 'a'}.parquet cannot be read"):
            Source(tmp_path)

    def test_a_file_that_was_changed_while_it_was_read_is_refused(self, write, tmp_path):
        for name in "ab":
            write(f"{name}.parquet", {"text": ["a"]})
        source = Source(tmp_path)
        write("b.parquet", {"text": ["another"]})
        source.check_unchanged(0)
        with pytest.raises(OSError, match=r"b.parquet was changed while it was read"):
            source.check_unchanged(1)
