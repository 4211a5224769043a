"""Progress bars and lines."""

from __future__ import annotations

import sys

import pytest
from tqdm import tqdm

from skembed.encoding.progress import progress, say


@pytest.mark.parametrize(("show", "total"), [(False, 10), ("auto", 10), (True, 1)])
def test_a_hidden_bar_acquires_no_lock_that_a_killed_process_could_hold(show, total, monkeypatch):
    monkeypatch.setattr(tqdm, "get_lock", lambda: pytest.fail("the lock was looked up"))
    with progress(show, total) as bar:
        bar.reset(total=20)
        bar.update()
        bar.set_postfix(loss="0.5")


def test_a_bar_that_is_shown_counts(capsys):
    with progress(True, 10, "Embedding", "text") as bar:
        bar.update(4)
    assert "Embedding:  40%" in capsys.readouterr().err


@pytest.mark.parametrize(("said", "drawn"), [("1", False), ("true", False), ("0", True), ("", True)])
@pytest.mark.parametrize("show", [True, "auto"])
def test_the_environment_has_the_last_word_on_bars(show, said, drawn, capsys, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", said)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress(show, 3) as bar:
        assert isinstance(bar, tqdm) == drawn


@pytest.mark.parametrize(
    ("show", "is_terminal", "is_notebook", "is_said"),
    [
        ("auto", True, False, True),
        ("auto", False, True, True),
        ("auto", False, False, False),
        (False, True, True, False),
        (True, False, False, True),
    ],
)
@pytest.mark.parametrize("disabled", [False, True])
def test_a_line_is_said_where_a_bar_would_be_drawn(
    show, is_terminal, is_notebook, is_said, disabled, capsys, monkeypatch
):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if is_notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
    if disabled:
        monkeypatch.setenv("TQDM_DISABLE", "1")
    say(show, "it takes long")
    assert capsys.readouterr() == ("", "it takes long\n" if is_said and not disabled else "")


def test_a_line_is_said_above_a_bar(capsys):
    with progress(True, 10, "Embedding") as bar:
        say(True, "it takes long")
        bar.update()
    assert "it takes long" in capsys.readouterr().err.replace("\r", "\n").splitlines()
