"""From files of text to files of vectors: the rows, how a run resumes, and what it survives."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from itertools import count, islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose
from pyarrow import parquet
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

import skembed
from skembed import DestinationError, TruncationWarning, embed_parquet
from skembed.files import job, manifest, sources
from skembed.files.job import EmbeddingJob
from tests.interrupts import at_each_line


def table_of(n_rows: int, start: int = 0) -> pd.DataFrame:
    numbers = range(start, start + n_rows)
    texts = [None if number % 7 == 3 else f"a parcel {number} {'quick fox ' * (number % 5)}" for number in numbers]
    return pd.DataFrame({"text": texts, "number": list(numbers)})


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.mkdir()
    table_of(25).to_parquet(path / "a.parquet", row_group_size=10)
    table_of(15, start=25).to_parquet(path / "b.parquet")
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(EmbeddingJob, "rows_per_chunk", 4)


def assert_holds(out: Path, frame: pd.DataFrame, **params) -> None:
    """All rows are there once, in order, with their vectors."""
    found = skembed.read_parquet(out)
    assert found["number"].tolist() == frame["number"].tolist()
    assert found["text"].isna().tolist() == frame["text"].isna().tolist()
    assert found["text"].dropna().tolist() == frame["text"].dropna().tolist()
    wanted = skembed.embed(frame["text"], missing="nan", cache=None, **params)
    assert_allclose(found["vector"].to_numpy("float32"), wanted, atol=1e-6)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", "_")))


def break_off_at(monkeypatch, n_chunks: int, error: BaseException) -> None:
    original, left = EmbeddingJob.compute, iter(range(n_chunks))

    def breaking(*arguments):
        if next(left, None) is None:
            raise error
        return original(*arguments)

    monkeypatch.setattr(EmbeddingJob, "compute", breaking)


class TestRows:
    def test_all_rows_come_in_order_with_their_columns_and_vectors(self, source, out, tiny, small_chunks):
        assert embed_parquet(source, out, "text", model=tiny, rows_per_file=9) == 40
        assert_holds(out, table_of(40), model=tiny)

    def test_every_file_but_the_last_has_as_many_rows_as_asked(self, source, out, tiny):
        embed_parquet(source, out, "text", model=tiny, rows_per_file=15)
        assert [parquet.read_metadata(out / name).num_rows for name in names_in(out)] == [15, 15, 10]

    def test_a_row_without_a_text_has_no_vector(self, source, out, tiny):
        embed_parquet(source, out, "text", model=tiny)
        vectors = parquet.read_table(out)["vector"]
        assert vectors.is_null().to_pylist() == table_of(40)["text"].isna().tolist()

    def test_the_vectors_name_their_model(self, source, out, tiny):
        embed_parquet(source, out, "text", model=tiny)
        made_here = table_of(40)["text"].text.embed(output="vector", model=tiny).array
        assert skembed.read_parquet(out)["vector"].array.model == made_here.model

    def test_a_csv_file_is_embedded_too(self, tmp_path, out, tiny):
        table_of(12).to_csv(tmp_path / "a.csv", index=False)
        embed_parquet(tmp_path / "a.csv", out, "text", model=tiny)
        assert_holds(out, table_of(12).astype({"number": str}), model=tiny)

    def test_a_source_without_rows_becomes_a_file_without_rows(self, tmp_path, out, tiny):
        pa_table = pa.table({"text": pa.array([], pa.string()), "number": pa.array([], pa.int64())})
        parquet.write_table(pa_table, tmp_path / "empty.parquet")
        assert embed_parquet(tmp_path / "empty.parquet", out, "text", model=tiny) == 0
        assert parquet.read_schema(out / names_in(out)[0]).field("vector").type.list_size == 32

    @pytest.mark.parametrize("params", [{"pooling": ("mean", "cls")}, {"truncate_dim": 5}, {"missing": "zero"}])
    def test_parameters_are_those_of_the_transformer(self, params, source, out, tiny):
        embed_parquet(source, out, "text", model=tiny, **params)
        wanted = skembed.embed(table_of(40)["text"], **{"missing": "nan", "model": tiny, **params})
        assert_allclose(skembed.read_parquet(out)["vector"].to_numpy("float32"), wanted, atol=1e-6)

    def test_a_text_that_recurs_much_later_is_encoded_once(self, tmp_path, out, tiny, counted, small_chunks):
        pd.DataFrame({"text": ["fox", "dog", "parcel", "house", "fox", "dog", "parcel"]}).to_parquet(tmp_path / "a.pq")
        embed_parquet(tmp_path / "a.pq", out, "text", model=tiny)
        assert sorted(counted) == ["dog", "fox", "house", "parcel"]

    def test_truncated_texts_are_counted_in_one_warning(self, tmp_path, out, tiny, small_chunks):
        texts = ["fox " * 60 if number % 3 == 0 else "fox" for number in range(20)]
        pd.DataFrame({"text": texts}).to_parquet(tmp_path / "a.parquet")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            embed_parquet(tmp_path / "a.parquet", out, "text", model=tiny)
        assert [warning.category for warning in said] == [TruncationWarning]
        assert "7 of 20 texts" in str(said[0].message)
        assert said[0].filename == __file__

    def test_a_progress_bar_counts_rows(self, source, out, tiny, capsys):
        embed_parquet(source, out, "text", model=tiny, show_progress_bar=True)
        assert "40/40" in capsys.readouterr().err


class TestResuming:
    def test_finished_rows_are_not_embedded_again(self, source, out, tiny, counted):
        embed_parquet(source, out, "text", model=tiny)
        seen = len(counted)
        assert embed_parquet(source, out, "text", model=tiny) == 40
        assert len(counted) == seen

    def test_only_a_file_added_at_the_end_is_embedded(self, source, out, tiny, counted):
        embed_parquet(source, out, "text", model=tiny)
        counted.clear()
        table_of(5, start=40).to_parquet(source / "c.parquet")
        assert embed_parquet(source, out, "text", model=tiny) == 45
        assert counted
        assert set(counted) <= set(table_of(5, start=40)["text"].dropna())
        assert_holds(out, table_of(45), model=tiny)

    @pytest.mark.parametrize("n_chunks", [0, 1, 4, 7])
    def test_an_interrupted_run_resumes_after_the_last_complete_file(
        self, n_chunks, source, out, tiny, small_chunks, monkeypatch, counted
    ):
        with monkeypatch.context() as patch:
            break_off_at(patch, n_chunks, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                embed_parquet(source, out, "text", model=tiny, rows_per_file=8)
        finished = len(names_in(out))
        assert finished == n_chunks // 2
        assert not list(out.glob("*.unfinished"))
        counted.clear()
        embed_parquet(source, out, "text", model=tiny, rows_per_file=8)
        assert set(counted) == set(table_of(40)["text"][8 * finished :].dropna())
        assert_holds(out, table_of(40), model=tiny)

    def test_a_file_that_the_manifest_does_not_list_is_removed(self, source, out, tiny):
        embed_parquet(source / "a.parquet", out, "text", model=tiny)
        (out / "part-000001.parquet").write_bytes((out / "part-000000.parquet").read_bytes())  # a kill left it there
        embed_parquet(source / "a.parquet", out, "text", model=tiny)
        assert_holds(out, table_of(25), model=tiny)

    def test_rows_per_file_may_change_between_runs(self, source, out, tiny, small_chunks, monkeypatch):
        with monkeypatch.context() as patch:
            break_off_at(patch, 5, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                embed_parquet(source, out, "text", model=tiny, rows_per_file=8)
        embed_parquet(source, out, "text", model=tiny, rows_per_file=100)
        assert_holds(out, table_of(40), model=tiny)

    def test_without_resume_all_rows_are_embedded_again(self, source, out, tiny):
        embed_parquet(source, out, "text", model=tiny, rows_per_file=5)
        embed_parquet(source, out, "text", model=tiny, pooling="cls", resume=False)
        assert_holds(out, table_of(40), model=tiny, pooling="cls")
        assert len(names_in(out)) == 1


class TestRefused:
    @pytest.mark.parametrize(
        ("params", "named"),
        [
            ({"pooling": "cls"}, "pooling=.*mean.*not pooling=.*cls"),
            ({"truncate_dim": 8}, "truncate_dim=32, not truncate_dim=8"),
            ({"normalize_embeddings": False}, "normalize=True, not normalize=False"),
            ({"missing": "zero"}, "missing='nan', not missing='zero'"),
            ({"prompt": "query: "}, "prompt='', not prompt='query: '"),
            ({"vector_column": "v"}, "columns="),
        ],
    )
    def test_vectors_of_two_kinds_in_one_folder(self, params, named, source, out, tiny):
        embed_parquet(source, out, "text", model=tiny)
        with pytest.raises(DestinationError, match=named):
            embed_parquet(source, out, "text", **{"model": tiny, **params})

    def test_vectors_of_two_tasks_in_one_folder(self, source, out, model_folder):
        embed_parquet(source, out, "text", model=model_folder("router"), prompt="")
        with pytest.raises(DestinationError, match="route='document', not route='query'"):
            embed_parquet(source, out, "text", model=model_folder("router"), prompt="", task="query")

    def test_vectors_of_one_length_truncated_in_two_ways(self, source, out, model_folder, reference):
        modules = [reference("bert")[0], Pooling(32, ("cls", "mean"))]
        model = SentenceTransformer(modules=modules, device="cpu")
        embed_parquet(source, out, "text", model=model, truncate_dim=32)
        with pytest.raises(DestinationError, match=r"truncate_dim=\(32, 0\), not truncate_dim=16\."):
            embed_parquet(source, out, "text", model=model, pooling=("cls", "mean"), truncate_dim=16)

    def test_vectors_of_two_models_in_one_folder(self, source, out, tiny, model_folder):
        embed_parquet(source, out, "text", model=tiny)
        with pytest.raises(DestinationError, match="fingerprint="):
            embed_parquet(source, out, "text", model=model_folder("roberta"))

    def test_a_file_that_changed_after_its_rows_were_embedded(self, source, out, tiny):
        embed_parquet(source, out, "text", model=tiny)
        table_of(14, start=25).to_parquet(source / "b.parquet")
        with pytest.raises(DestinationError, match=r"'b\.parquet' has changed, but"):
            embed_parquet(source, out, "text", model=tiny)

    def test_a_new_file_before_those_that_are_finished(self, source, out, tiny):
        embed_parquet(source, out, "text", model=tiny)
        table_of(3).to_parquet(source / "aa.parquet")
        with pytest.raises(DestinationError, match=r"'b\.parquet' is no longer the source's file number 2"):
            embed_parquet(source, out, "text", model=tiny)

    def test_a_file_without_finished_rows_may_change(self, source, out, tiny, small_chunks, monkeypatch):
        with monkeypatch.context() as patch:
            break_off_at(patch, 5, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                embed_parquet(source, out, "text", model=tiny, rows_per_file=8)
        table_of(20, start=25).to_parquet(source / "b.parquet")
        assert embed_parquet(source, out, "text", model=tiny) == 45
        assert_holds(out, table_of(45), model=tiny)

    def test_a_file_that_changes_while_it_is_read(self, source, out, tiny, monkeypatch):
        original = EmbeddingJob.compute

        def changing(*arguments):
            os.utime(source / "b.parquet", ns=(1, 1))
            return original(*arguments)

        monkeypatch.setattr(EmbeddingJob, "compute", changing)
        with pytest.raises(OSError, match=r"b\.parquet was changed while it was read"):
            embed_parquet(source, out, "text", model=tiny)
        assert names_in(out) == []
        assert not list(out.glob("*.unfinished"))

    def test_a_folder_with_other_files(self, source, out, tiny):
        out.mkdir()
        (out / "mine.txt").write_text("keep")
        with pytest.raises(DestinationError, match=r"holds other files \(mine\.txt\)"):
            embed_parquet(source, out, "text", model=tiny, resume=False)

    @pytest.mark.parametrize("where", ["", "inside", ".."])
    def test_a_destination_that_would_be_read_as_a_source(self, where, source, tiny):
        with pytest.raises(ValueError, match="lie one inside the other"):
            embed_parquet(source, source / where, "text", model=tiny)

    def test_a_finished_file_that_is_gone(self, source, out, tiny):
        embed_parquet(source, out, "text", model=tiny, rows_per_file=10)
        (out / names_in(out)[1]).unlink()
        with pytest.raises(DestinationError, match=r"part-000001\.parquet is missing or has changed"):
            embed_parquet(source, out, "text", model=tiny)

    @pytest.mark.parametrize(
        ("column", "error", "message"),
        [
            ("review", KeyError, "no column 'review'; columns with text: 'text'"),
            ("number", TypeError, "Column 'number' is int64, not text; columns with text: 'text'"),
        ],
    )
    def test_a_column_that_is_not_text(self, column, error, message, source, out, tiny):
        with pytest.raises(error, match=message):
            embed_parquet(source, out, column, model=tiny)
        assert not out.exists()

    def test_a_vector_column_whose_name_is_taken(self, source, out, tiny):
        with pytest.raises(ValueError, match="has a column 'number' already"):
            embed_parquet(source, out, "text", model=tiny, vector_column="number")

    @pytest.mark.parametrize("rows_per_file", [0, -1, 2.5, True])
    def test_files_without_rows(self, rows_per_file, source, out, tiny):
        with pytest.raises(ValueError, match="rows_per_file must be a positive integer"):
            embed_parquet(source, out, "text", model=tiny, rows_per_file=rows_per_file)

    def test_a_parameter_that_does_not_exist(self, source, out, tiny):
        with pytest.raises(TypeError, match="rows_a_file"):
            embed_parquet(source, out, "text", model=tiny, rows_a_file=3)

    def test_a_missing_text_is_named_by_its_row_and_file_if_it_is_an_error(self, source, out, tiny, small_chunks):
        with pytest.raises(ValueError, match=r"column 'text', row 6 of .*b\.parquet, is missing"):
            embed_parquet(source / "b.parquet", out, "text", model=tiny, missing="error")

    @pytest.mark.parametrize("as_category", [False, True])
    def test_a_text_that_is_not_utf_8_is_named_by_its_row_and_file(
        self, tmp_path, out, tiny, as_category, small_chunks
    ):
        column = pa.array([b"fox"] * 10 + [b"caf\xe9"], pa.binary())
        column = pa.StringArray.from_buffers(len(column), *column.buffers()[1:], column.buffers()[0])
        if as_category:
            column = pa.DictionaryArray.from_arrays(pa.array(range(11), pa.int32()), column)
        parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
        with pytest.raises(TypeError, match=r"column 'text', row 10 of .*a\.parquet, is bytes, .* not UTF-8"):
            embed_parquet(tmp_path / "a.parquet", out, "text", model=tiny)

    def test_a_text_that_is_too_long_is_named_by_its_row_and_file(self, tmp_path, out, tiny, small_chunks):
        pd.DataFrame({"text": ["fox"] * 9 + ["fox " * 60]}).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=r"column 'text', row 9 of .*a\.parquet, has \d+ tokens"):
            embed_parquet(tmp_path / "a.parquet", out, "text", model=tiny, long_texts="error")


class TestFaults:
    def test_a_full_disk_keeps_finished_files_and_the_next_run_resumes(self, tmp_path, out, tiny, small_chunks):
        random = np.random.default_rng(0)
        table = table_of(16)
        table["ballast"] = [random.bytes(0 if number < 8 else 20_000) for number in range(16)]
        table.to_parquet(tmp_path / "a.parquet")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # files may not become larger
        try:
            with pytest.raises(DestinationError, match=r"no room for more in .* The rows in finished files stay"):
                embed_parquet(tmp_path / "a.parquet", out, "text", model=tiny, rows_per_file=8)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert names_in(out) == ["part-000000.parquet"]
        embed_parquet(tmp_path / "a.parquet", out, "text", model=tiny, rows_per_file=8)
        assert_holds(out, table, model=tiny)

    def test_an_unreadable_row_group_is_named_and_finished_files_stay(self, tmp_path, out, tiny):
        path = tmp_path / "a.parquet"
        table_of(30).to_parquet(path, row_group_size=10, compression="zstd")
        start = parquet.read_metadata(path).row_group(1).column(0).data_page_offset
        content = bytearray(path.read_bytes())
        content[start : start + 60] = bytes(60)
        path.write_bytes(content)
        with pytest.raises(OSError, match=r"a\.parquet, row group 1, cannot be read"):
            embed_parquet(path, out, "text", model=tiny, rows_per_file=5)
        assert_holds(out, table_of(10), model=tiny)

    def test_a_second_run_into_the_same_folder_is_refused_while_the_first_lives(self, source, out, tiny):
        out.mkdir()
        holding = "import sys; from filelock import FileLock\nwith FileLock(sys.argv[1]): print(1, flush=True); input()"
        command = [sys.executable, "-c", holding, str(out / ".lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
            first.stdout.readline()
            with pytest.raises(DestinationError, match="Another process is writing into"):
                embed_parquet(source, out, "text", model=tiny)
            first.send_signal(signal.SIGKILL)
        assert embed_parquet(source, out, "text", model=tiny) == 40

    def test_a_cache_that_cannot_be_written_loses_no_row(self, source, out, tiny, monkeypatch):
        def full(*arguments):
            raise skembed.CacheError("it is full")

        monkeypatch.setattr("skembed.encoding.cache.memory_store.MemoryStore.write", full)
        with pytest.warns(skembed.CacheWarning, match="it is full"):
            embed_parquet(source, out, "text", model=tiny)
        assert_holds(out, table_of(40), model=tiny)

    @pytest.mark.slow
    @pytest.mark.parametrize("one_in", [9, pytest.param(1, marks=pytest.mark.exhaustive)])
    def test_a_kill_at_any_line_loses_and_doubles_no_row(self, one_in, source, tmp_path, tiny):
        n_kills = kills_in_each_folder(KILLED_AT_A_LINE, source, tmp_path, tiny, one_in)
        assert len(n_kills) > 150 / one_in
        assert sum(n_kills) > 2 * len(n_kills)
        for number in range(len(n_kills)):
            assert_holds(tmp_path / str(number), table_of(40), model=tiny)

    @pytest.mark.slow
    @pytest.mark.parametrize("n_wanted", [20, pytest.param(300, marks=pytest.mark.exhaustive)])
    def test_kills_at_random_moments_lose_and_double_no_row(self, n_wanted, source, tmp_path, tiny):
        n_kills = kills_in_each_folder(KILLED_AT_RANDOM, source, tmp_path, tiny, n_wanted)
        assert len(n_kills) > 1
        for number in range(len(n_kills)):
            assert_holds(tmp_path / str(number), table_of(40), model=tiny)

    @pytest.mark.slow
    @pytest.mark.parametrize("one_in", [5, pytest.param(1, marks=pytest.mark.exhaustive)])
    def test_an_interrupt_at_any_line_loses_and_doubles_no_row(self, one_in, source, tmp_path, tiny, small_chunks):
        folders, kept = map(tmp_path.joinpath, map(str, count())), []

        def run(out):
            embed_parquet(source, out, "text", model=tiny, rows_per_file=12)

        n_struck = 0
        strikes = at_each_line([job, manifest, sources], lambda: run(next(folders)))
        for strike in islice(strikes, 0, None, one_in):
            out = next(folders)
            n_struck += strike(lambda out=out: run(out), keep=kept)  # as a notebook keeps what was raised last
            run(out)
            assert_holds(out, table_of(40), model=tiny)
            assert not list(out.glob("*.unfinished"))
        assert n_struck > 200 / one_in

    @pytest.mark.slow
    def test_ctrl_c_ends_the_command_and_keeps_finished_files(self, source, out, tiny):
        arguments = [
            "embed",
            str(source),
            "--column",
            "text",
            "--out",
            str(out),
            "--model",
            tiny,
            "--rows-per-file",
            "9",
            "--dtype",
            "float32",
        ]
        interrupted = [sys.executable, "-c", INTERRUPTED, *arguments]
        done = subprocess.run(interrupted, stderr=subprocess.PIPE, text=True, env=_environment(), check=False)
        assert done.returncode == 130
        assert done.stderr.splitlines()[-1].startswith("skembed: interrupted; run the same command again")
        assert names_in(out) == ["part-000000.parquet", "part-000001.parquet"]
        assert not list(out.glob("*.unfinished"))
        subprocess.run([sys.executable, "-m", "skembed", *arguments], check=True, env=_environment())
        assert_holds(out, table_of(40), model=tiny)


ROOT = Path(skembed.__file__).parents[1]
# Runs that are killed, several in a row, and then one that is not. Each killed run is a process of its own; they are
# forked, so that libraries are loaded once.
KILLING = """
import json, os, signal, sys
from pathlib import Path
from random import Random
from threading import Timer
from time import perf_counter
import skembed
from skembed import atomic
from skembed.files import job, manifest, sources
from tests.interrupts import at_each_line
source, folder, model, number = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
job.EmbeddingJob.rows_per_chunk = 4
n_kills = []  # of each folder
def run(out):
    skembed.embed_parquet(source, out, "text", model=model, backend="torch", rows_per_file=12)
def is_killed(action, seconds=1e6):
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    timer = Timer(seconds, os.kill, (pid, signal.SIGKILL))
    timer.start()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its number is not given to another process yet
    timer.cancel()
    timer.join()
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)
"""
KILLED_AT_A_LINE = f"""{KILLING}
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
for strike in list(at_each_line([atomic, job, manifest, sources], lambda: run(folder / "first")))[::number]:
    out = folder / str(len(n_kills))
    n_kills.append(0)
    while n_kills[-1] < 3 and is_killed(lambda: strike(lambda: run(out), instead=kill)):
        n_kills[-1] += 1
    run(out)
print(json.dumps(n_kills))
"""
KILLED_AT_RANDOM = f"""{KILLING}
run(folder / "first")  # loads the model
start = perf_counter()
run(folder / "second")
seconds, random = perf_counter() - start, Random(0)
while sum(n_kills) < number:
    out = folder / str(len(n_kills))
    n_kills.append(0)
    while n_kills[-1] < 20 and is_killed(lambda: run(out), random.uniform(0, seconds)):
        n_kills[-1] += 1
    run(out)
print(json.dumps(n_kills))
"""
# Ctrl-C right after the second file is finished.
INTERRUPTED = """
import signal, sys
from skembed.__main__ import main
from skembed.files.manifest import Manifest
save = Manifest.save
def save_and_interrupt(manifest, folder):
    save(manifest, folder)
    if len(manifest.parts) == 2:
        signal.raise_signal(signal.SIGINT)
Manifest.save = save_and_interrupt
sys.exit(main(sys.argv[1:]))
"""


def kills_in_each_folder(script: str, source: Path, folder: Path, model: str, number: int) -> list[int]:
    command = [sys.executable, "-c", script, str(source), str(folder), model, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=True, cwd=ROOT)
    return json.loads(done.stdout)


def _environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
