"""What an estimator gives for files of rows: the columns, their types, how a run resumes, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose
from pyarrow import parquet
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

import skembed
from skembed import DestinationError, SentenceEmbeddingTransformer, predict_parquet
from skembed.files.job import Job
from tests.files.test_job import ROOT, _environment

WORDS = ["quick fox", "a parcel", "fox and dog", "a parcel came", "dog", "late parcel"] * 5


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"text": WORDS, "stars": range(len(WORDS)), "kind": ["animal", "post"] * 15})


@pytest.fixture
def file(table, tmp_path):
    table.to_parquet(tmp_path / "source.parquet", row_group_size=10)
    return tmp_path / "source.parquet"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def pipeline(table, tiny):
    return make_pipeline(SentenceEmbeddingTransformer(tiny), LogisticRegression()).fit(table["text"], table["kind"])


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(Job, "rows_per_chunk", 4)


functions = []  # not parameters, because a local function cannot be pickled


class Echo(BaseEstimator):
    """Predicts what a function makes of X."""

    def __init__(self, number):
        self.number = number

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        return functions[self.number](X)


def echo(function):
    functions.append(function)
    return Echo(len(functions) - 1)


class TestColumns:
    def test_all_rows_come_in_order_with_their_columns_and_labels(self, table, file, out, pipeline, small_chunks):
        assert predict_parquet(pipeline, file, out, "text", rows_per_file=9) == len(table)
        found = pd.read_parquet(out)
        pd.testing.assert_frame_equal(found[table.columns], table)
        assert found["prediction"].tolist() == pipeline.predict(table["text"]).tolist()

    def test_labels_are_strings(self, file, out, pipeline):
        predict_parquet(pipeline, file, out, "text")
        assert parquet.read_schema(out / "part-000000.parquet").field("prediction").type == pa.string()

    @pytest.mark.parametrize(("classes", "type_"), [([0, 1], pa.int64()), ([False, True], pa.bool_())])
    def test_labels_that_are_no_strings_keep_their_type(self, classes, type_, table, file, out, tiny):
        y = np.array(classes)[table["stars"] % 2]
        pipeline = make_pipeline(SentenceEmbeddingTransformer(tiny), LogisticRegression()).fit(table["text"], y)
        predict_parquet(pipeline, file, out, "text")
        assert parquet.read_schema(out / "part-000000.parquet").field("prediction").type == type_

    def test_probabilities_are_one_column_of_lists_whose_field_names_the_classes(self, table, file, out, pipeline):
        predict_parquet(pipeline, file, out, "text", method="predict_proba", output="probability")
        found = parquet.read_table(out)
        lists = found["probability"].combine_chunks()
        assert_allclose(lists.flatten().to_numpy().reshape(-1, 2), pipeline.predict_proba(table["text"]), atol=1e-6)
        assert json.loads(found.field("probability").metadata[b"skembed.classes"]) == ["animal", "post"]

    def test_a_decision_between_two_classes_is_a_number(self, table, file, out, pipeline):
        predict_parquet(pipeline, file, out, "text", method="decision_function")
        assert_allclose(
            pd.read_parquet(out)["prediction"], pipeline.decision_function(table["text"]), rtol=1e-4, atol=1e-5
        )

    def test_vectors_of_transform_are_read_as_vectors_and_missing_ones_are_missing(self, table, tmp_path, out, tiny):
        table.loc[3, "text"] = None
        table.to_parquet(tmp_path / "a.parquet")
        transformer = SentenceEmbeddingTransformer(tiny, missing="nan").fit(table["text"])
        predict_parquet(transformer, tmp_path / "a.parquet", out, "text", method="transform", output="vector")
        found = skembed.read_parquet(out)["vector"]
        assert found.isna().tolist() == table["text"].isna().tolist()
        assert_allclose(found.to_numpy("float32"), transformer.transform(table["text"]), atol=1e-6)

    def test_predictions_of_several_outputs_name_no_classes(self, table, file, out):
        y = np.stack([table["stars"] % 2, table["stars"] % 3], axis=1)
        tree = DecisionTreeClassifier(random_state=0).fit(table[["stars"]], y)
        predict_parquet(tree, file, out, ["stars"])
        found = parquet.read_table(out)
        assert found["prediction"].to_pylist() == y.tolist()
        assert b"skembed.classes" not in (found.field("prediction").metadata or {})

    def test_several_columns_go_in_as_a_frame(self, table, file, out, tiny):
        columns = ColumnTransformer(
            [("text", SentenceEmbeddingTransformer(tiny), "text"), ("stars", StandardScaler(), ["stars"])]
        )
        pipeline = make_pipeline(columns, Ridge()).fit(table[["text", "stars"]], table["stars"])
        predict_parquet(pipeline, file, out, ["text", "stars"])
        assert_allclose(
            pd.read_parquet(out)["prediction"], pipeline.predict(table[["text", "stars"]]), rtol=1e-4, atol=1e-4
        )

    def test_one_column_goes_in_as_a_series_with_its_name(self, file, out):
        seen = []
        predict_parquet(echo(lambda X: [seen.append(X), X.str.len()][1]), file, out, "text")
        assert {(type(X), X.name) for X in seen} == {(pd.Series, "text")}

    def test_a_column_of_vectors_goes_in_as_one(self, tmp_path, out):
        vectors = skembed.VectorArray(np.eye(6, 3, dtype=np.float32))
        pd.DataFrame({"vector": vectors}).to_parquet(tmp_path / "a.parquet")
        centres = KMeans(2, n_init=1, random_state=0).fit(vectors.to_numpy("float32"))
        from_matrix = echo(lambda X: centres.predict(X.to_numpy("float32")))
        predict_parquet(from_matrix, tmp_path / "a.parquet", out, "vector")
        assert pd.read_parquet(out)["prediction"].tolist() == centres.labels_.tolist()

    def test_columns_of_csv_files_are_text(self, table, tmp_path, out, pipeline):
        table.to_csv(tmp_path / "a.csv", index=False)
        assert predict_parquet(pipeline, tmp_path / "a.csv", out, "text") == len(table)
        assert pd.read_parquet(out)["prediction"].tolist() == pipeline.predict(table["text"]).tolist()

    def test_a_source_without_rows_becomes_a_file_without_rows(self, tmp_path, out, pipeline):
        parquet.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
        assert predict_parquet(pipeline, tmp_path / "a.parquet", out, "text") == 0
        assert parquet.read_schema(out / "part-000000.parquet").names == ["text", "prediction"]


class TestResuming:
    def test_rows_that_are_added_later_are_predicted_alone(self, table, tmp_path, out):
        source = tmp_path / "source"
        source.mkdir()
        table.to_parquet(source / "a.parquet")
        n_seen = []
        lengths = echo(lambda X: [n_seen.append(len(X)), X.str.len()][1])
        predict_parquet(lengths, source, out, "text")
        table.to_parquet(source / "b.parquet")
        n_seen.clear()
        assert predict_parquet(lengths, source, out, "text") == 2 * len(table)
        assert n_seen == [1, len(table)]  # the first row of the source tells the type

    def test_another_estimator_is_refused(self, table, file, out, pipeline):
        predict_parquet(pipeline, file, out, "text")
        with pytest.raises(DestinationError, match=r"was written with estimator=.* resume=False to start anew"):
            predict_parquet(pipeline.fit(table["text"][::-1], table["kind"]), file, out, "text")

    @pytest.mark.parametrize("changed", [{"method": "predict_proba"}, {"output": "label"}])
    def test_other_settings_are_refused(self, changed, file, out, pipeline):
        predict_parquet(pipeline, file, out, "text")
        with pytest.raises(DestinationError, match="was written with"):
            predict_parquet(pipeline, file, out, "text", **changed)

    def test_parameters_without_effect_may_differ(self, table, file, out, pipeline):
        predict_parquet(pipeline, file, out, "text")
        pipeline.set_params(logisticregression__verbose=1, sentenceembeddingtransformer__cache=None)
        assert predict_parquet(pipeline, file, out, "text") == len(table)

    @pytest.mark.parametrize("layers", [[-1], (-1,)], ids=["list", "tuple"])
    def test_every_setting_of_an_embedder_tells_it_from_others(self, layers, table, file, out, tiny):
        embedders = [
            SentenceEmbeddingTransformer(tiny, layers=one).fit(table["text"]) for one in (layers, type(layers)([-2]))
        ]
        predict_parquet(embedders[0], file, out, "text", method="transform")
        with pytest.raises(DestinationError, match="was written with estimator="):
            predict_parquet(embedders[1], file, out, "text", method="transform")

    def test_it_starts_anew_if_asked_to(self, table, file, out, pipeline):
        predict_parquet(pipeline, file, out, "text")
        refitted = pipeline.fit(table["text"][::-1], table["kind"])
        predict_parquet(refitted, file, out, "text", resume=False)
        assert pd.read_parquet(out)["prediction"].tolist() == refitted.predict(table["text"]).tolist()


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"column": "review"}, KeyError, "The source has no column 'review'; columns with text: 'text', 'kind'"),
            ({"column": []}, ValueError, r"column must name one column, or several different ones; got \[\]"),
            ({"column": ["text", "text"]}, ValueError, "column must name one column, or several different ones"),
            ({"column": None}, TypeError, "column must be a name or a list of names; got None"),
            ({"output": 5}, TypeError, "output must be a name; got 5"),
            ({"column": ["text", "n"]}, KeyError, "The source has no column 'n'"),
            ({"output": "stars"}, ValueError, "has a column 'stars' already; give another output"),
            ({"method": "fit"}, ValueError, "method must be 'predict' or 'predict_proba'"),
            ({"method": "transform"}, ValueError, "Pipeline has no method 'transform'; it has predict, predict_proba"),
            ({"rows_per_file": 0}, ValueError, "rows_per_file must be a positive integer"),
        ],
    )
    def test_wrong_arguments_are_one_clear_error(self, arguments, error, message, file, out, pipeline):
        with pytest.raises(error, match=message):
            predict_parquet(pipeline, file, out, **{"column": "text", **arguments})
        assert not out.exists()

    def test_an_estimator_that_is_not_fitted_is_refused(self, file, out):
        with pytest.raises(NotFittedError, match="LogisticRegression"):
            predict_parquet(LogisticRegression(), file, out, "text")

    def test_a_text_that_cannot_be_predicted_is_named_by_file_and_row(
        self, table, tmp_path, out, pipeline, small_chunks
    ):
        table.loc[17, "text"] = None
        table.to_parquet(tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=r"^predict fails at row 17 of .*a\.parquet: X\[1\] .* is missing"):
            predict_parquet(pipeline, tmp_path / "a.parquet", out, "text")

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda X: np.zeros(len(X) + 1), r"predict gives values of shape \(2,\) for 1 rows"),
            (lambda X: np.zeros((len(X), 2, 2)), r"predict gives values of shape \(1, 2, 2\) for 1 rows"),
            (lambda X: [np.zeros((len(X), 2)), np.zeros((len(X), 3))], "predict gives a list of arrays for 1 rows"),
            (lambda X: csr_array((len(X), 2)), "predict gives a sparse matrix for 1 rows"),
            (lambda _: 1 / int("x"), "predict fails in the rows from row 0 of .* on: invalid literal"),
        ],
    )
    def test_what_is_no_column_is_refused(self, function, message, file, out):
        with pytest.raises(ValueError, match=message):
            predict_parquet(echo(function), file, out, "text")

    def test_numbers_are_not_cut_to_the_type_of_the_first(self, file, out):
        halves = echo(lambda X: np.array([0, *(n + 0.5 for n in range(1, len(X)))], dtype=object))
        with pytest.raises(TypeError, match=r"values of type int64 for the first row"):
            predict_parquet(halves, file, out, "text")

    def test_an_estimator_that_cannot_be_told_from_others_is_refused(self, file, out):
        shout = FunctionTransformer(lambda X: X.str.upper())
        with pytest.raises(TypeError, match="FunctionTransformer cannot be told from others, because it cannot be pic"):
            predict_parquet(shout, file, out, "text", method="transform")

    def test_predictions_that_change_their_type_are_refused(self, file, out, small_chunks):
        with pytest.raises(TypeError, match=r"values of type int64 for the first row .* from row 0 of"):
            predict_parquet(echo(lambda X: np.arange(len(X)) if len(X) == 1 else X), file, out, "text")


# A run that is killed in the second file that it writes, again and again, until there is nothing left to do. Each run
# is a process of its own; they are forked, so that libraries are loaded once.
KILLED = """
import os, signal, sys
import skembed
from skembed.files.job import Job
from tests.files.test_predictions import Echo
class Lengths(Echo):
    n_chunks = 0
    def predict(self, X):
        Lengths.n_chunks += 1
        if Lengths.n_chunks == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return X.str.len().astype("int64")
Job.rows_per_chunk = 2
n_killed = 0
while True:
    pid = os.fork()
    if pid == 0:
        skembed.predict_parquet(Lengths(0), sys.argv[1], sys.argv[2], "text", rows_per_file=2)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    n_killed += 1
print(n_killed)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_has_every_row_once_in_order(table, tmp_path, out):
    wanted = pd.concat([table, table[:13]], ignore_index=True)
    wanted.to_parquet(tmp_path / "a.parquet")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.parquet"), str(out)]
    done = subprocess.run(command, env=_environment(), cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(done.stdout) >= 20
    found = pd.read_parquet(out)
    pd.testing.assert_frame_equal(found[wanted.columns], wanted)
    assert found["prediction"].tolist() == wanted["text"].str.len().tolist()
