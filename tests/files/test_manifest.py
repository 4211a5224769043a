"""What stands beside embedded files: whole or refused, never half written, and of one writer."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from skembed import DestinationError
from skembed.atomic import atomic_write
from skembed.files.manifest import MANIFEST, Manifest, locked_destination, refuse_changed_sources, refuse_other_settings

SETTINGS = {"text": "review", "pooling": [["mean"]], "normalize": True}
SOURCES = [{"file": f"{name}.parquet", "bytes": 10, "modified_ns": 1} for name in "ab"]


@pytest.fixture
def manifest(tmp_path):
    """Two finished parts, of three rows and of one."""
    manifest = Manifest("bert 0123456789abcdef", SETTINGS, SOURCES)
    for n_rows in (3, 1):
        part = tmp_path / manifest.next_part
        part.write_bytes(b"x" * n_rows)
        manifest.add_part(part, n_rows)
    manifest.save(tmp_path)
    return manifest


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestManifest:
    """It says what is finished, and is believed only where that is so."""

    def test_it_comes_back_as_it_was_saved(self, manifest, tmp_path):
        assert Manifest.load(tmp_path) == manifest

    def test_it_counts_rows_and_names_the_next_part(self, manifest):
        assert manifest.n_rows == 4
        assert manifest.next_part == "part-000002.parquet"
        assert Manifest("bert", {}).next_part == "part-000000.parquet"

    def test_a_folder_without_one_has_none(self, tmp_path):
        assert Manifest.load(tmp_path) is None
        assert Manifest.load(tmp_path / "none") is None

    def test_saving_leaves_nothing_else_behind(self, manifest, tmp_path):
        assert names(tmp_path) == [MANIFEST, "part-000000.parquet", "part-000001.parquet"]

    def test_parts_that_it_does_not_list_are_removed_and_nothing_else(self, manifest, tmp_path):
        for name in ("mine.parquet", "part-000002.parquet", "part-one.parquet"):
            (tmp_path / name).write_text("")
        manifest.remove_others(tmp_path)
        assert names(tmp_path) == [
            MANIFEST,
            "mine.parquet",
            *[f"part-00000{n}.parquet" for n in (0, 1)],
            "part-one.parquet",
        ]

    @pytest.mark.parametrize("length", [0, 1, 50, -1])
    def test_a_torn_one_is_refused(self, manifest, tmp_path, length):
        file = tmp_path / MANIFEST
        file.write_bytes(file.read_bytes()[:length])
        with pytest.raises(DestinationError, match=rf"{MANIFEST} is damaged"):
            Manifest.load(tmp_path)

    @pytest.mark.parametrize(
        "written",
        [b"[]", b"null", b"{}", b'{"format": 2}', b"\xff", b"[" * 100_000, b"9" * 5000],
        ids=lambda written: repr(written[:13]),
    )
    def test_json_of_something_else_is_refused(self, tmp_path, written):
        (tmp_path / MANIFEST).write_bytes(written)
        with pytest.raises(DestinationError, match=rf"{MANIFEST} is damaged"):
            Manifest.load(tmp_path)

    @pytest.mark.parametrize("changed", [{"parts": None}, {"parts": [{}]}, {"parts": ["part-000000.parquet"]}], ids=str)
    def test_parts_of_another_shape_are_refused(self, manifest, tmp_path, changed):
        file = tmp_path / MANIFEST
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
        with pytest.raises(DestinationError, match=rf"{MANIFEST} is damaged"):
            Manifest.load(tmp_path)

    @pytest.mark.parametrize("changed", [{"format": 3}, {"format": 3, "something": "new"}], ids=str)
    def test_another_format_is_refused_by_its_number(self, manifest, tmp_path, changed):
        file = tmp_path / MANIFEST
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
        with pytest.raises(DestinationError, match=r"has format 3; this version of skembed has 2"):
            Manifest.load(tmp_path)

    def test_a_flipped_bit_is_seen_wherever_it_is(self, manifest, tmp_path):
        file = tmp_path / MANIFEST
        written = file.read_bytes()
        for position in range(0, 8 * len(written), 47):
            flipped = bytearray(written)
            flipped[position // 8] ^= 1 << position % 8
            file.write_bytes(flipped)
            try:
                assert Manifest.load(tmp_path) == manifest  # as after a space that became another one
            except DestinationError as error:
                assert str(file) in str(error)  # noqa: PT017 - of thousands only some raise

    @pytest.mark.parametrize(
        "changed",
        [
            {"parts": []},
            {"sources": []},
            {"parts": [{"file": "part-000000.parquet", "rows": 30, "bytes": 3}]},
            {"settings": {}},
            {"sources": [{"file": 0, "bytes": "10", "modified_ns": None}]},
            {"settings": []},
        ],
        ids=str,
    )
    def test_what_was_changed_by_hand_is_refused(self, manifest, tmp_path, changed):
        file = tmp_path / MANIFEST
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
        with pytest.raises(DestinationError, match=rf"{MANIFEST} is damaged"):
            Manifest.load(tmp_path)

    def test_a_pipe_in_its_place_is_refused(self, tmp_path):
        os.mkfifo(tmp_path / MANIFEST)
        with pytest.raises(DestinationError, match=rf"{MANIFEST} is damaged"):
            Manifest.load(tmp_path)

    def test_one_that_may_not_be_read_is_not_called_damaged(self, tmp_path, monkeypatch):
        (tmp_path / MANIFEST).write_text("{}", encoding="utf-8")

        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(PermissionError):
            Manifest.load(tmp_path)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda part: part.unlink(),
            lambda part: part.write_bytes(b"xx"),
            lambda part: part.write_bytes(b"y"),
            lambda part: (part.unlink(), part.mkdir()),
            lambda part: (part.unlink(), os.mkfifo(part)),
        ],
        ids=["gone", "longer", "a byte is another", "a folder", "a pipe"],
    )
    def test_a_part_that_is_not_as_it_was_finished_is_named(self, manifest, tmp_path, spoil):
        spoil(tmp_path / "part-000001.parquet")
        with pytest.raises(DestinationError, match=r"part-000001.parquet is not as it was finished.*resume=False"):
            Manifest.load(tmp_path)


class TestHeld:
    """One writer at a time, in a folder of its own."""

    def test_it_makes_the_folder_with_those_above_it(self, tmp_path):
        with locked_destination(tmp_path / "new" / "out"):
            assert (tmp_path / "new" / "out").is_dir()

    def test_a_folder_with_other_files_is_refused_and_left_as_it_is(self, tmp_path):
        (tmp_path / "thesis.docx").write_text("")
        with pytest.raises(DestinationError, match=r"holds other files \(thesis.docx\)"), locked_destination(tmp_path):
            pass
        assert names(tmp_path) == ["thesis.docx"]

    def test_other_files_beside_a_manifest_are_left_alone(self, manifest, tmp_path):
        (tmp_path / "notes.md").write_text("")
        with locked_destination(tmp_path):
            pass
        assert "notes.md" in names(tmp_path)

    def test_it_can_be_held_again_and_by_one_who_failed(self, tmp_path):
        for _ in range(2):
            with pytest.raises(KeyError), locked_destination(tmp_path):
                raise KeyError

    def test_a_manifest_that_was_never_finished_is_no_other_file(self, tmp_path):
        (tmp_path / f"{MANIFEST}.unfinished").write_text("{")
        with locked_destination(tmp_path):
            assert f"{MANIFEST}.unfinished" not in names(tmp_path)

    def test_what_a_killed_process_left_is_removed(self, manifest, tmp_path):
        finished = names(tmp_path)
        (tmp_path / "part-000002.parquet.unfinished").write_text("half")
        with locked_destination(tmp_path):
            assert set(names(tmp_path)) - {".lock"} == set(finished)

    def test_a_second_holder_is_refused_and_removes_nothing_of_the_first(self, manifest, tmp_path):
        refused = []

        def hold():
            try:
                with locked_destination(tmp_path):
                    pass
            except DestinationError as error:
                refused.append(str(error))

        with locked_destination(tmp_path):
            (tmp_path / "part-000002.parquet.unfinished").write_text("half")
            second = threading.Thread(target=hold)
            second.start()
            second.join()
            assert "part-000002.parquet.unfinished" in names(tmp_path)
        assert refused == [f"Another process is embedding into {tmp_path}. Wait for it, or choose another."]

    def test_a_lock_of_another_process_is_seen(self, manifest, tmp_path):
        with (
            FileLock(tmp_path / ".lock"),
            pytest.raises(DestinationError, match="Another process is embedding into"),
            locked_destination(tmp_path),
        ):
            pass

    def test_a_file_where_the_folder_should_be_is_refused(self, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(DestinationError, match="out"), locked_destination(tmp_path / "out"):
            pass


def fail_halfway(file, error):
    file.write(b"half")
    raise error


class TestReplaced:
    """A file is there in full or as it was before."""

    def test_it_takes_its_place_at_the_end(self, tmp_path):
        path = tmp_path / "a"
        path.write_text("old")
        with atomic_write(path) as file:
            file.write(b"new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert names(tmp_path) == ["a"]

    @pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
    @pytest.mark.parametrize("before", [[], ["a"]])
    def test_an_error_leaves_what_was_there_and_nothing_else(self, tmp_path, error, before):
        for name in before:
            (tmp_path / name).write_text("old")
        with pytest.raises(error), atomic_write(tmp_path / "a") as file:
            fail_halfway(file, error)
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "old") for name in before]

    def test_so_does_one_while_the_file_is_brought_to_the_disk(self, tmp_path, monkeypatch):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"), atomic_write(tmp_path / "a") as file:
            file.write(b"whole")
        assert names(tmp_path) == []


class TestRefusals:
    """A folder goes on only with rows of the same kind, behind the same rows."""

    def test_several_poolings_are_named_as_they_were_given(self, manifest, tmp_path):
        with pytest.raises(DestinationError, match=r"not pooling=\('mean', 'cls'\)\. Choose"):
            refuse_other_settings(tmp_path, manifest, {**SETTINGS, "pooling": [["mean"], ["cls"]]})

    def test_the_same_settings_and_sources_go_on(self, manifest, tmp_path):
        before = Manifest.load(tmp_path)
        refuse_other_settings(tmp_path, before, SETTINGS)
        refuse_changed_sources(tmp_path, before, SOURCES)

    def test_only_what_differs_is_named(self, manifest, tmp_path):
        with pytest.raises(DestinationError) as caught:
            refuse_other_settings(tmp_path, manifest, {**SETTINGS, "pooling": [["cls"]], "new": 1})
        assert str(caught.value) == (
            f"{tmp_path} was embedded with pooling='mean', new=None, not pooling='cls', new=1. Choose another "
            "destination, the same settings, or resume=False to embed all again."
        )

    @pytest.mark.parametrize("later", [[], [{"file": "c.parquet", "bytes": 1, "modified_ns": 1}]])
    def test_files_that_came_later_are_no_change(self, manifest, tmp_path, later):
        refuse_changed_sources(tmp_path, manifest, SOURCES + later)

    @pytest.mark.parametrize("changed", [{"bytes": 11}, {"modified_ns": 2}], ids=str)
    def test_a_file_that_changed_is_named(self, manifest, tmp_path, changed):
        with pytest.raises(DestinationError, match=rf"'b.parquet' has changed since, but its rows are in {tmp_path}"):
            refuse_changed_sources(tmp_path, manifest, [SOURCES[0], {**SOURCES[1], **changed}])

    @pytest.mark.parametrize(
        ("now", "named"),
        [([], "a"), (SOURCES[:1], "b"), (SOURCES[::-1], "a"), ([{**SOURCES[0], "file": "0.parquet"}, *SOURCES], "a")],
        ids=["none is left", "the last is gone", "another order", "one came before"],
    )
    def test_a_file_that_is_no_longer_in_its_place_is_named(self, manifest, tmp_path, now, named):
        number = "ab".index(named) + 1
        with pytest.raises(
            DestinationError, match=rf"'{named}.parquet' is no longer the source's file number {number},"
        ):
            refuse_changed_sources(tmp_path, manifest, now)
