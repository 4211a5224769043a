"""Private interfaces of other libraries: each test fails when the interface it is named for goes."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
from packaging.version import Version
from pandas.api.extensions import ExtensionArray

from skembed import VectorArray, compat


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"a": ["x", "y"], "b": [1, 2], "c": [3, 4]})


class TestColumnsOfScikitLearn:
    @pytest.mark.parametrize(
        ("columns", "positions"),
        [
            ("b", [1]),
            (["a", "c"], [0, 2]),
            (2, [2]),
            (slice("b", "c"), [1, 2]),
            (np.array([True, False, True]), [0, 2]),
        ],
        ids=str,
    )
    def test_columns_have_positions_however_they_are_named(self, columns, positions, frame):
        assert compat.column_positions(frame, columns) == positions

    def test_a_label_selects_a_series_and_a_list_a_frame(self, frame):
        pd.testing.assert_series_equal(compat.select_columns(frame, "a"), frame["a"])
        pd.testing.assert_frame_equal(compat.select_columns(frame, ["c", "a"]), frame[["c", "a"]])
        pd.testing.assert_series_equal(compat.select_columns(frame, 1), frame["b"])


class TestJobsOfJoblib:
    @pytest.mark.parametrize(
        ("backend", "in_processes"), [("loky", True), ("multiprocessing", True), ("threading", False)]
    )
    def test_several_jobs_run_in_processes_if_the_backend_does(self, backend, in_processes):
        with joblib.parallel_config(backend):
            assert compat.runs_in_processes(2) is in_processes

    def test_one_job_runs_in_this_process(self):
        assert not compat.runs_in_processes(1)
        assert not compat.runs_in_processes(None)

    def test_jobs_that_are_not_given_are_those_of_the_context(self):
        with joblib.parallel_config("loky", n_jobs=2):
            assert compat.runs_in_processes(None)


class TestExtensionArraysOfPandas:
    """What the vector column overrides without being asked to in pandas' documentation."""

    @pytest.mark.parametrize("name", ["_explode", "_groupby_op", "_mode"])
    def test_the_base_class_has_the_method(self, name):
        assert callable(getattr(ExtensionArray, name))
        assert name in vars(VectorArray)

    @pytest.mark.skipif(Version(pd.__version__) < Version("3.1"), reason="new in pandas 3.1")
    def test_pandas_marks_the_array_of_an_index_as_read_only(self):
        array = pd.Index(VectorArray([[1.0, 2.0]])).array
        assert array._readonly
        with pytest.raises(ValueError, match="read-only"):
            array[0] = [3.0, 4.0]
