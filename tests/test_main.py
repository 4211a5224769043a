"""The command: its arguments are the parameters of embed_parquet, and it reports in one line."""

from __future__ import annotations

import argparse
import inspect
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
import skops.io
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skembed
from skembed import SentenceEmbeddingTransformer
from skembed.__main__ import _SEVERAL, _add_parameters, _make_parser, main
from skembed.encoding.settings import POOLINGS, Settings


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "reviews.parquet"
    pd.DataFrame({"text": ["a fox", None, "a parcel"], "n": [1, 2, 3]}).to_parquet(path)
    return path


@pytest.fixture
def run(source, tmp_path, tiny):
    """``run(*arguments)``: embed the source into out with the tiny model, and more arguments."""
    out = tmp_path / "out"
    return lambda *arguments: main(
        ["embed", str(source), "--column", "text", "--out", str(out), "--model", tiny, *arguments]
    )


@pytest.fixture
def called(monkeypatch):
    """The arguments of the calls of embed_parquet, which does nothing."""
    calls = []
    monkeypatch.setattr(skembed, "embed_parquet", lambda *args, **params: calls.append((args, params)) or 1234)
    return calls


@pytest.fixture
def options_of_the_model() -> list[str]:
    return [option.dest for option in _add_parameters(argparse.ArgumentParser())]


def test_it_embeds_and_reports_how_many_rows_and_where(run, tmp_path, tiny, capsys):
    assert run() == 0
    assert capsys.readouterr() == ("", f"skembed: 3 rows with vectors in {tmp_path / 'out'}\n")
    df = skembed.read_parquet(tmp_path / "out")
    assert df["n"].tolist() == [1, 2, 3]
    expected = skembed.embed(["a fox", None, "a parcel"], model=tiny, missing="nan")
    assert_array_equal(df["vector"].to_numpy("float32"), expected)


def test_several_sources_are_read_one_after_another(source, tmp_path, tiny):
    pd.DataFrame({"text": ["a dog"], "n": [4]}).to_parquet(tmp_path / "a.parquet")
    sources = [str(source), str(tmp_path / "a.parquet")]
    assert main(["embed", *sources, "--column", "text", "--out", str(tmp_path / "out"), "--model", tiny]) == 0
    assert skembed.read_parquet(tmp_path / "out")["n"].tolist() == [1, 2, 3, 4]


def test_several_poolings_are_concatenated(run, tmp_path, tiny):
    assert run("--pooling", "mean", "cls", "--layers", "-1", "-2", "--vector-column", "v") == 0
    expected = skembed.embed(["a fox"], model=tiny, pooling=("mean", "cls"), layers=(-1, -2))
    assert_array_equal(skembed.read_parquet(tmp_path / "out")["v"].iloc[0], expected[0])


def test_a_second_run_resumes_and_no_resume_starts_anew(run, tmp_path, counted):
    assert run() == run() == 0
    assert len(counted) == 2
    assert run("--no-resume", "--rows-per-file", "2") == 0
    assert len(counted) == 4
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 2


def test_no_resume_does_what_the_error_about_a_lost_file_promises(run, tmp_path, capsys):
    run()
    (tmp_path / "out" / "part-000000.parquet").unlink()
    assert run() == 1
    assert "pass --no-resume to start anew" in capsys.readouterr().err
    assert run("--no-resume") == 0


def test_options_that_are_not_given_are_left_to_the_function(called):
    assert main(["embed", "a.csv", "--column", "text", "--out", "out"]) == 0
    assert called == [(("a.csv", "out", "text"), {})]


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        ("--no-resume", {"resume": False}),
        ("--rows-per-file 5", {"rows_per_file": 5}),
        ("--vector-column v", {"vector_column": "v"}),
        ("--pooling cls", {"pooling": "cls"}),
        ("--pooling mean cls", {"pooling": ("mean", "cls")}),
        ("--pooling mean,cls", {"pooling": ("mean", "cls")}),
        ("--pooling=mean --pooling cls", {"pooling": ("mean", "cls")}),
        ("--layers -1 -2,0", {"layers": (-1, -2, 0)}),
        ("--device cuda:0,cuda:1", {"device": ["cuda:0", "cuda:1"]}),
        ("--device cpu", {"device": "cpu"}),
        ("--backend openvino", {"backend": "openvino"}),
        ("--no-show-progress-bar", {"show_progress_bar": False}),
        ("--layers -2", {"layers": -2}),
        ("--layers 0 -1", {"layers": (0, -1)}),
        ("--normalize-embeddings", {"normalize_embeddings": True}),
        ("--no-normalize-embeddings", {"normalize_embeddings": False}),
        ("--truncate-dim 5 --max-seq-length 9", {"truncate_dim": 5, "max_seq_length": 9}),
        ("--task query --prompt-name other", {"task": "query", "prompt_name": "other"}),
        ("--local-files-only --trust-remote-code", {"local_files_only": True, "trust_remote_code": True}),
        ("--cache disk --batch-tokens 512", {"cache": "disk", "batch_tokens": 512}),
    ],
)
def test_an_option_becomes_the_parameter(called, arguments, params):
    assert main(["embed", "a.csv", "b.csv", "--column", "text", "--out", "out", *arguments.split()]) == 0
    assert called == [((["a.csv", "b.csv"], "out", "text"), params)]


TRUSTING = {"trust_remote_code": True, "local_files_only": False}
COLUMN_AND_OUT = ["--column", "text", "--out", "out"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pooling", "mean", "cls", "a.csv", "reviews", *COLUMN_AND_OUT],
        ["a.csv", "--pooling", "mean", "cls", "reviews", *COLUMN_AND_OUT],
        ["a.csv", *COLUMN_AND_OUT, "--pooling", "mean", "--pooling", "cls", "reviews"],
        [*COLUMN_AND_OUT, "--pooling", "mean,cls", "a.csv", "reviews"],
        ["a.csv", *COLUMN_AND_OUT, "reviews", "--pooling", "mean", "cls"],
        ["--pooling", "mean", "cls", *COLUMN_AND_OUT, "--", "a.csv", "reviews"],
    ],
    ids=" ".join,
)
def test_an_option_of_several_values_does_not_read_a_source_as_one(called, arguments):
    assert main(["embed", *arguments]) == 0
    assert called == [((["a.csv", "reviews"], "out", "text"), {"pooling": ("mean", "cls")})]


def test_numbers_of_layers_are_distinguished_from_sources(called):
    assert main(["embed", "--layers", "-1", "-2", "a.csv", *COLUMN_AND_OUT]) == 0
    assert called == [(("a.csv", "out", "text"), {"layers": (-1, -2)})]


def test_every_pooling_is_distinguished_from_a_source():
    assert _SEVERAL["--pooling"].split("|") == list(POOLINGS)


@pytest.mark.parametrize("wrong", [["--pooling"], ["--layers", "first"], ["--bogus"], ["--bogus=3"]], ids=str)
def test_an_option_that_cannot_be_read_prints_the_usage(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["embed", "a.csv", *COLUMN_AND_OUT, *wrong])
    said = capsys.readouterr().err
    assert "usage: python -m skembed" in said
    assert wrong[0].partition("=")[0] in said


def test_every_parameter_of_the_engine_has_an_option(options_of_the_model):
    assert {field.name for field in fields(Settings)} <= set(options_of_the_model)


def test_every_option_of_the_model_is_a_parameter_of_the_transformer(options_of_the_model):
    assert set(options_of_the_model) <= set(inspect.signature(skembed.SentenceEmbeddingTransformer).parameters)


def test_every_other_option_is_a_parameter_of_the_function(options_of_the_model):
    options = {option.dest for option in _make_parser()[1]["embed"]} - {"out", *options_of_the_model}
    assert options == {"source", "column", "vector_column", "resume", "rows_per_file"}
    assert options <= set(inspect.signature(skembed.embed_parquet).parameters)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column", "review"], "The source has no column 'review'; columns with text: 'text'."),
        (["--column", "n"], "Column 'n' is int64, not text; columns with text: 'text'."),
        (["--vector-column", "n"], "The source has a column 'n' already; give another vector_column."),
        (["--missing", "error"], "column 'text', row 1 of "),
        (["--dtype", "int8"], "dtype must be 'auto' or 'float32' or 'bfloat16' or 'float16'; got 'int8'."),
        (["--rows-per-file", "0"], "rows_per_file must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line(run, capsys, arguments, message):
    assert run(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"skembed: error: {message}")
    assert printed.err.count("\n") == 1


@pytest.fixture
def fail(monkeypatch):
    """``fail(error)``: the exit status when embed_parquet raises it."""

    def fail(error):
        def embed_parquet(*args, **params):
            raise error

        monkeypatch.setattr(skembed, "embed_parquet", embed_parquet)
        return main(["embed", "a.csv", "--column", "text", "--out", "out"])

    return fail


@pytest.mark.parametrize(
    "error", [ImportError, FileNotFoundError, KeyError, TypeError, ValueError, MemoryError, skembed.DestinationError]
)
def test_whatever_the_error_its_message_is_printed(fail, capsys, error):
    assert fail(error("what it was")) == 1
    assert capsys.readouterr().err == "skembed: error: what it was\n"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("pass resume=False to start anew.", "pass --no-resume to start anew."),
        ("written with pooling='cls', not pooling='mean'.", "written with --pooling cls, not --pooling mean."),
        ("not pooling=('mean', 'cls').", "not --pooling mean,cls."),
        ("layers=-1; max_seq_length=9.", "--layers -1; --max-seq-length 9."),
        ("(a cache='disk' keeps it).", "(a --cache disk keeps it)."),
        ("normalize_embeddings=False, or True", "--no-normalize-embeddings, or True"),
        ("local_files_only=True; prompt=None.", "--local-files-only; prompt=None."),
        (
            "n=3 in model=bert/a.csv, /data/model=bert/a.csv, x/cache=b",
            "n=3 in model=bert/a.csv, /data/model=bert/a.csv, x/cache=b",
        ),
    ],
)
def test_parameters_in_a_message_are_written_as_options(fail, capsys, message, said):
    assert fail(ValueError(message)) == 1
    assert capsys.readouterr().err == f"skembed: error: {said}\n"


def test_another_pooling_is_reported_as_options(run, capsys):
    run("--pooling", "cls")
    assert run("--pooling", "max") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "was written with --pooling cls, not --pooling max. Choose another" in said
    assert "or --no-resume to start anew" in said


def test_a_message_of_several_lines_becomes_one(fail, capsys):
    assert fail(OSError("what it was:\nthe page header\n")) == 1
    assert capsys.readouterr().err == "skembed: error: what it was: the page header\n"


@pytest.mark.parametrize("error", [MemoryError, KeyError])
def test_an_error_without_a_message_is_named(fail, capsys, error):
    assert fail(error()) == 1
    assert capsys.readouterr().err == f"skembed: error: {error.__name__}\n"


def test_ctrl_c_says_how_to_resume(fail, capsys):
    assert fail(KeyboardInterrupt()) == 130
    assert (
        capsys.readouterr().err
        == "skembed: interrupted; run the same command again to resume after the last complete file.\n"
    )


def test_a_damaged_file_is_one_line(source, run, capsys):
    source.write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    assert run() == 1
    printed = capsys.readouterr().err
    assert source.name in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["embed"], ["embed", "a.csv"], ["embed", "a.csv", "--column", "text"], ["train"]], ids=str
)
def test_an_incomplete_command_prints_the_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: python -m skembed" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"skembed {skembed.__version__}\n"


class TestPredict:
    @pytest.fixture
    def model(self, tmp_path, tiny):
        texts, kinds = ["a fox", "a parcel", "quick fox", "late parcel"], ["animal", "post"] * 2
        pipeline = make_pipeline(SentenceEmbeddingTransformer(tiny, missing="zero"), LogisticRegression())
        skops.io.dump(pipeline.fit(texts, kinds), tmp_path / "model.skops")
        return str(tmp_path / "model.skops")

    @pytest.fixture
    def predicted(self, monkeypatch):
        """The arguments of the calls of predict_parquet, which does nothing."""
        calls = []
        monkeypatch.setattr(skembed, "predict_parquet", lambda *args, **params: calls.append((args, params)) or 1234)
        return calls

    def test_it_predicts_and_reports_how_many_rows_and_where(self, model, source, tmp_path, capsys):
        out = tmp_path / "out"
        assert main(["predict", model, str(source), "--column", "text", "--out", str(out)]) == 0
        assert capsys.readouterr() == ("", f"skembed: 3 rows with predictions in {out}\n")
        wanted = skops.io.load(model, trusted=skops.io.get_untrusted_types(file=model)).predict(["a fox", None])
        assert pd.read_parquet(out)["prediction"][:2].tolist() == wanted.tolist()

    @pytest.mark.parametrize(
        ("arguments", "column", "params"),
        [
            ("--column text", "text", {}),
            ("--column title --column text", ["title", "text"], {}),
            ("--column text --frame", ["text"], {}),
            ("--column text --method predict_proba --output p", "text", {"method": "predict_proba", "output": "p"}),
            ("--column text --no-resume --rows-per-file 5", "text", {"resume": False, "rows_per_file": 5}),
            ("--column text --trust a.B,c.d --trust e.f", "text", {"trusted": ["a.B", "c.d", "e.f"]}),
            ("--column text --trust-remote-code --download", "text", TRUSTING),
            ("--column text --no-show-progress-bar", "text", {"show_progress_bar": False}),
        ],
    )
    def test_an_option_becomes_the_parameter(self, predicted, arguments, column, params):
        assert main(["predict", "m.skops", "a.csv", "b.csv", "--out", "out", *arguments.split()]) == 0
        assert predicted == [(("m.skops", ["a.csv", "b.csv"], "out", column), params)]

    def test_every_parameter_of_the_function_has_an_option(self):
        options = {option.dest for option in _make_parser()[1]["predict"]}
        assert options - {"out", "frame"} == set(inspect.signature(skembed.predict_parquet).parameters) - {
            "destination"
        }

    @pytest.mark.parametrize(
        ("params", "said"),
        [
            ({"sentenceembeddingtransformer__trust_remote_code": True}, "of its own; --trust-remote-code allows it."),
            ({"sentenceembeddingtransformer__model": "no/such-model"}, "--download"),
        ],
    )
    def test_an_error_names_the_option_that_helps(self, params, said, model, source, tmp_path, capsys):
        pipeline = skops.io.load(model, trusted=skops.io.get_untrusted_types(file=model)).set_params(**params)
        skops.io.dump(pipeline, model)
        assert main(["predict", model, str(source), "--column", "text", "--out", str(tmp_path / "out")]) == 1
        assert said in capsys.readouterr().err

    def test_a_type_that_is_not_trusted_is_named_with_the_option(self, source, tmp_path, capsys):
        skops.io.dump(FunctionTransformer(names_in), tmp_path / "model.skops")
        arguments = ["predict", str(tmp_path / "model.skops"), str(source), "--column", "text", "--out", "out"]
        assert main(arguments) == 1
        said = capsys.readouterr().err
        assert "not trusted: tests.test_main.names_in." in said
        assert said.endswith("name them: --trust tests.test_main.names_in.\n")


def names_in(X):
    return X


@pytest.mark.parametrize("arguments", [["--help"], ["embed", "--help"], ["predict", "--help"]], ids=str)
def test_help_is_printed(arguments, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert "usage: python -m skembed" in capsys.readouterr().out


@pytest.mark.slow
def test_it_runs_as_a_module(source, tmp_path, tiny):
    command = [sys.executable, "-m", "skembed", "embed", str(source), "--out", str(tmp_path / "out"), "--model", tiny]
    root = Path(skembed.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def run(*arguments):
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )

    done = run("--column", "text")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1] == f"skembed: 3 rows with vectors in {tmp_path / 'out'}"
    assert skembed.read_parquet(tmp_path / "out")["vector"].isna().tolist() == [False, True, False]
    refused = run("--column", "review")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("skembed: error: The source has no column 'review'")
    assert "Traceback" not in refused.stderr
