"""The manifest beside embedded files: complete or refused, and of one writer at a time."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from skembed import DestinationError
from skembed.files.manifest import MANIFEST, Manifest, check_same_settings, check_same_sources, locked_destination

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
    """It lists what is finished, and is trusted only if that is true."""

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
        manifest.remove_unlisted_parts(tmp_path)
        assert names(tmp_path) == [
            MANIFEST,
            "mine.parquet",
            *[f"part-00000{n}.parquet" for n in (0, 1)],
            "part-one.parquet",
        ]

    @pytest.mark.parametrize("length", [0, 1, 50, -1])
    def test_a_truncated_manifest_is_refused(self, manifest, tmp_path, length):
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
    def test_a_manifest_changed_by_hand_is_refused(self, manifest, tmp_path, changed):
        file = tmp_path / MANIFEST
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
        with pytest.raises(DestinationError, match=rf"{MANIFEST} is damaged"):
            Manifest.load(tmp_path)

    def test_a_pipe_in_its_place_is_refused(self, tmp_path):
        os.mkfifo(tmp_path / MANIFEST)
        with pytest.raises(DestinationError, match=rf"{MANIFEST} is damaged"):
            Manifest.load(tmp_path)

    def test_a_manifest_without_read_permission_is_not_called_damaged(self, tmp_path, monkeypatch):
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
    def test_a_part_that_is_missing_or_has_changed_is_named(self, manifest, tmp_path, spoil):
        spoil(tmp_path / "part-000001.parquet")
        with pytest.raises(
            DestinationError, match=r"part-000001.parquet is missing or has changed\. Restore it.*resume=False"
        ):
            Manifest.load(tmp_path)


class TestLock:
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

    def test_it_can_be_locked_again_even_after_an_error(self, tmp_path):
        for _ in range(2):
            with pytest.raises(KeyError), locked_destination(tmp_path):
                raise KeyError

    def test_an_unfinished_manifest_does_not_count_as_another_file(self, tmp_path):
        (tmp_path / f"{MANIFEST}.unfinished").write_text("{")
        with locked_destination(tmp_path):
            assert f"{MANIFEST}.unfinished" not in names(tmp_path)

    def test_files_that_a_killed_process_left_are_removed(self, manifest, tmp_path):
        finished = names(tmp_path)
        (tmp_path / "part-000002.parquet.unfinished").write_text("half")
        with locked_destination(tmp_path):
            assert set(names(tmp_path)) - {".lock"} == set(finished)

    def test_a_second_writer_is_refused_and_removes_nothing_of_the_first(self, manifest, tmp_path):
        refused = []

        def lock():
            try:
                with locked_destination(tmp_path):
                    pass
            except DestinationError as error:
                refused.append(str(error))

        with locked_destination(tmp_path):
            (tmp_path / "part-000002.parquet.unfinished").write_text("half")
            second = threading.Thread(target=lock)
            second.start()
            second.join()
            assert "part-000002.parquet.unfinished" in names(tmp_path)
        assert refused == [f"Another process is writing into {tmp_path}. Wait for it, or choose another folder."]

    def test_a_lock_of_another_process_is_seen(self, manifest, tmp_path):
        with (
            FileLock(tmp_path / ".lock"),
            pytest.raises(DestinationError, match="Another process is writing into"),
            locked_destination(tmp_path),
        ):
            pass

    def test_a_file_where_the_folder_should_be_is_refused(self, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(DestinationError, match="out"), locked_destination(tmp_path / "out"):
            pass


class TestResuming:
    """A folder is resumed only with vectors of the same kind and the same source."""

    def test_several_poolings_are_named_as_they_were_given(self, manifest, tmp_path):
        with pytest.raises(DestinationError, match=r"not pooling=\('mean', 'cls'\)\. Choose"):
            check_same_settings(tmp_path, manifest, {**SETTINGS, "pooling": [["mean"], ["cls"]]})

    def test_the_same_settings_and_sources_are_accepted(self, manifest, tmp_path):
        before = Manifest.load(tmp_path)
        check_same_settings(tmp_path, before, SETTINGS)
        check_same_sources(tmp_path, before, SOURCES)

    def test_only_what_differs_is_named(self, manifest, tmp_path):
        with pytest.raises(DestinationError) as caught:
            check_same_settings(tmp_path, manifest, {**SETTINGS, "pooling": [["cls"]], "new": 1})
        assert str(caught.value) == (
            f"{tmp_path} was written with pooling='mean', new=None, not pooling='cls', new=1. Choose another "
            "destination, the same settings, or resume=False to start anew."
        )

    @pytest.mark.parametrize("later", [[], [{"file": "c.parquet", "bytes": 1, "modified_ns": 1}]])
    def test_files_added_later_are_not_a_change(self, manifest, tmp_path, later):
        check_same_sources(tmp_path, manifest, SOURCES + later)

    @pytest.mark.parametrize("changed", [{"bytes": 11}, {"modified_ns": 2}], ids=str)
    def test_a_file_that_changed_is_named(self, manifest, tmp_path, changed):
        with pytest.raises(DestinationError, match=rf"'b.parquet' has changed, but its rows are in {tmp_path}"):
            check_same_sources(tmp_path, manifest, [SOURCES[0], {**SOURCES[1], **changed}])

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
            check_same_sources(tmp_path, manifest, now)
