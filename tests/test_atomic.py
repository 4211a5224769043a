"""Files and folders that are written completely or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from skembed import atomic
from skembed.atomic import atomic_folder, atomic_write
from tests.interrupts import at_each_line

on_unix = pytest.mark.skipif(os.name != "posix", reason="permissions and limits as on Unix")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(path: Path, content: bytes, **params) -> None:
    with atomic_write(path, **params) as file:
        file.write(content)


def write_folder(folder: Path, content: bytes, **params) -> None:
    with atomic_folder(folder, **params) as new:
        (new / "file").write_bytes(content)


def fail(*_):
    raise OSError("no")


class TestAFile:
    @pytest.mark.parametrize("sync", [True, False])
    def test_is_there_after_the_block(self, sync, tmp_path):
        write(tmp_path / "file", b"new", sync=sync)
        assert contents(tmp_path) == {"file": b"new"}

    def test_takes_the_place_of_another(self, tmp_path):
        (tmp_path / "file").write_bytes(b"old")
        write(tmp_path / "file", b"new")
        assert contents(tmp_path) == {"file": b"new"}

    def test_is_as_it_was_until_the_block_ends(self, tmp_path):
        (tmp_path / "file").write_bytes(b"old")
        with atomic_write(tmp_path / "file") as file:
            file.write(b"new")
            file.flush()
            assert (tmp_path / "file").read_bytes() == b"old"

    @pytest.mark.parametrize("before", [{}, {"file": b"old"}], ids=["new", "replaced"])
    def test_is_as_it_was_after_an_exception(self, before, tmp_path):
        for name, content in before.items():
            (tmp_path / name).write_bytes(content)
        with pytest.raises(TypeError, match="bytes-like"):
            write(tmp_path / "file", "no bytes")
        assert contents(tmp_path) == before

    def test_is_as_it_was_if_it_cannot_be_replaced(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_bytes(b"old")
        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="no"):
            write(tmp_path / "file", b"new")
        assert contents(tmp_path) == {"file": b"old"}

    @on_unix
    @pytest.mark.parametrize("n_bytes", [50, 100_000], ids=["buffered", "unbuffered"])
    def test_is_as_it_was_if_the_disk_is_full(self, n_bytes, tmp_path):
        import resource

        (tmp_path / "file").write_bytes(b"old")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                write(tmp_path / "file", b"x" * n_bytes)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert contents(tmp_path) == {"file": b"old"}

    def test_in_a_missing_folder_is_an_error_and_makes_none(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="missing"):
            write(tmp_path / "missing" / "file", b"new")
        assert list(tmp_path.iterdir()) == []

    def test_is_on_the_disk_before_it_takes_its_place(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_bytes(b"old")
        seen, fsync = [], os.fsync

        def look(descriptor):
            kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
            seen.append((kind, contents(tmp_path)["file"]))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", look)
        write(tmp_path / "file", b"new")
        assert seen[0] == ("file", b"old")
        assert seen[1:] in ([], [("folder", b"new")])  # where folders can be opened

    def test_need_not_wait_for_the_disk(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "fsync", fail)
        write(tmp_path / "file", b"new", sync=False)
        assert contents(tmp_path) == {"file": b"new"}

    @on_unix
    def test_has_the_permissions_of_any_new_file(self, tmp_path):
        (tmp_path / "plain").touch()
        write(tmp_path / "file", b"new")
        assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_is_the_old_or_the_new_one_after_an_interrupt_at_any_line(self, tmp_path):
        n_struck = 0
        (tmp_path / "first").mkdir()
        for number, strike in enumerate(at_each_line([atomic], lambda: write(tmp_path / "first" / "file", b"new"))):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "file").write_bytes(b"old")
            n_struck += strike(lambda folder=folder: write(folder / "file", b"new"))
            assert contents(folder) in ({"file": b"old"}, {"file": b"new"})
        assert n_struck > 8

    @pytest.mark.slow
    def test_that_was_unfinished_when_its_process_was_killed_is_left_beside_it(self, tmp_path):
        code = (
            "import os, sys; from pathlib import Path; from skembed.atomic import atomic_write\n"
            "with atomic_write(Path(sys.argv[1])) as file:\n    os._exit(9)"
        )
        assert subprocess.run([sys.executable, "-c", code, tmp_path / "file"]).returncode == 9
        assert contents(tmp_path) == {"file.unfinished": b""}
        write(tmp_path / "file", b"new")
        assert contents(tmp_path) == {"file": b"new"}


class TestAFolder:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        """A folder that is there already."""
        (tmp_path / "folder" / "deep").mkdir(parents=True)
        (tmp_path / "folder" / "deep" / "old").write_bytes(b"old")
        return tmp_path / "folder"

    def test_is_there_after_the_block(self, tmp_path):
        write_folder(tmp_path / "folder", b"new")
        assert contents(tmp_path) == {"folder/file": b"new"}
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    def test_takes_the_place_of_another_with_all_it_held(self, folder, tmp_path):
        write_folder(folder, b"new")
        assert contents(tmp_path) == {"folder/file": b"new"}
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    def test_is_as_it_was_until_the_block_ends(self, folder):
        with atomic_folder(folder) as new:
            (new / "file").write_bytes(b"new")
            assert contents(folder) == {"deep/old": b"old"}

    def test_is_as_it_was_after_an_exception(self, folder, tmp_path):
        with pytest.raises(TypeError, match="bytes-like"):
            write_folder(folder, "no bytes")
        assert contents(tmp_path) == {"folder/deep/old": b"old"}
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    def test_is_as_it_was_if_the_new_one_cannot_take_its_place(self, folder, tmp_path, monkeypatch):
        rename = Path.rename

        def rename_the_old_one_alone(self, target):
            if contents(self) == {"file": b"new"}:
                raise OSError("no")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", rename_the_old_one_alone)
        with pytest.raises(OSError, match="no"):
            write_folder(folder, b"new")
        assert contents(tmp_path) == {"folder/deep/old": b"old"}
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    def test_in_a_missing_folder_is_an_error_and_makes_none(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="missing"):
            write_folder(tmp_path / "missing" / "folder", b"new")
        assert list(tmp_path.iterdir()) == []

    @on_unix
    def test_has_the_permissions_of_any_new_folder_or_those_asked_for(self, tmp_path):
        (tmp_path / "plain").mkdir()
        write_folder(tmp_path / "folder", b"new")
        write_folder(tmp_path / "private", b"new", mode=0o700)
        assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain").stat().st_mode
        assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700

    def test_is_the_old_or_the_new_one_after_an_interrupt_at_any_line(self, folder, tmp_path):
        n_struck = 0
        for number, strike in enumerate(at_each_line([atomic], lambda: write_folder(tmp_path / "first", b"new"))):
            copy = Path(shutil.copytree(folder, tmp_path / str(number) / "folder"))
            n_struck += strike(lambda copy=copy: write_folder(copy, b"new"))
            assert contents(copy.parent) in ({"folder/deep/old": b"old"}, {"folder/file": b"new"})
            assert [path.name for path in copy.parent.iterdir()] == ["folder"]
        assert n_struck > 5
