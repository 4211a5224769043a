"""pandas' own tests for extension arrays, run on the vector column.

The vectors have one dimension here, because pandas' tests compare elements with ``==``, whose result for longer arrays
has no truth value. Longer vectors are tested in ``test_vectors.py``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from packaging.version import Version
from pandas.tests.extension import base
from pandas.tests.extension.conftest import *  # noqa: F403 - the fixtures that pandas' tests ask for

from skembed.frames.vectors import VectorArray, VectorDtype

BEFORE_2_3, BEFORE_3, BEFORE_3_1 = (Version(pd.__version__) < Version(version) for version in ("2.3", "3.0", "3.1"))
if BEFORE_3_1:  # fixtures that pandas' tests of extension arrays took from elsewhere
    from pandas.conftest import (  # noqa: F401
        all_arithmetic_operators,
        all_boolean_reductions,
        all_numeric_accumulations,
        all_numeric_reductions,
        comparison_op,
        sort_by_key,
    )
if BEFORE_3_1 and not BEFORE_3:
    from pandas.conftest import using_nan_is_na  # noqa: F401

A, B, C, NA = [1.0], [2.0], [3.0], None

IN_ORDER = "pandas merges what it knows to be in order by an index, whose values must be hashable"
IN_FULL = "the text of a vector holds every digit, which that of a numpy array does not"
IS_VECTOR = "a column of vectors is no column of numbers, and yet has a sum"
LIST_LIKE = "pandas takes a vector, which is list-like, for many values"
ARRAY_RESULT = "the element-wise result of two vectors is an array, the column's is one bool a row"
NAMED_OBJECT = "str(dtype) is 'object', so that any pandas can read parquet files; see VectorDtype"
UNHASHABLE = "a group's name must be hashable, and an array is not"
UNHASHABLE_CATEGORY = "a sort by two columns goes through categories, which must be hashable"

# test, or test and the beginning of its parameters -> why it cannot pass
EXPECTED_FAILURES = {
    "test_array_repr": "the array names its type, while str(dtype) is 'object'",
    "test_astype_string": IN_FULL,
    "test_check_dtype": NAMED_OBJECT,
    "test_combine_le": ARRAY_RESULT,
    "test_compare_array": ARRAY_RESULT,
    "test_compare_scalar": LIST_LIKE,
    "test_EA_types": "a CSV file holds the vectors as they are printed; they are not read back",
    "test_fillna_copy_frame": LIST_LIKE,
    "test_fillna_copy_series": LIST_LIKE,
    "test_fillna_frame": LIST_LIKE,
    "test_fillna_limit_frame": LIST_LIKE,
    "test_fillna_limit_series": LIST_LIKE,
    "test_fillna_no_op_returns_copy": LIST_LIKE,
    "test_fillna_readonly": LIST_LIKE,
    "test_fillna_scalar": LIST_LIKE,
    "test_fillna_series": LIST_LIKE,
    "test_from_dtype": NAMED_OBJECT,
    "test_groupby_extension_apply": UNHASHABLE,
    "test_groupby_extension_transform": UNHASHABLE,
    "test_in_numeric_groupby": IS_VECTOR,
    "test_is_monotonic_decreasing": IN_ORDER,
    "test_is_monotonic_increasing": IN_ORDER,
    "test_plot_on_y_axis": "a vector is no height to plot",
    "test_series_constructor_scalar_with_index": LIST_LIKE,
    "test_setitem_2d_values": LIST_LIKE,
    "test_setitem_iloc_scalar_mixed": LIST_LIKE,
    "test_setitem_iloc_scalar_multiple_homogoneous": LIST_LIKE,
    "test_setitem_integer_array[True": LIST_LIKE,
    "test_setitem_loc_iloc_slice": LIST_LIKE,
    "test_setitem_loc_scalar_mixed": LIST_LIKE,
    "test_setitem_loc_scalar_multiple_homogoneous": LIST_LIKE,
    "test_setitem_mask[True": LIST_LIKE,
    "test_setitem_mask_boolean_array_with_na[True": LIST_LIKE,
    "test_setitem_mask_broadcast": LIST_LIKE,
    "test_setitem_sequence_broadcasts[True": LIST_LIKE,
    "test_setitem_slice[True": LIST_LIKE,
    "test_str": NAMED_OBJECT,
    "test_value_counts_with_normalize": "the shares are float64 as for any column; the test wants Float64 beside pd.NA",
}
if BEFORE_2_3:
    EXPECTED_FAILURES["test_astype_str"] = IN_FULL
if BEFORE_3:
    EXPECTED_FAILURES["test_array_interface_copy"] = "pandas 2 has no error for a forbidden copy; numpy 2 has"
    EXPECTED_FAILURES["test_sort_values_frame"] = UNHASHABLE_CATEGORY  # pandas 3 hashes only what is not sorted yet


@pytest.fixture
def dtype():
    return VectorDtype(1)


@pytest.fixture
def data():
    return VectorArray(np.random.default_rng(0).standard_normal((100 if BEFORE_3 else 10, 1)))


@pytest.fixture
def data_missing():
    return VectorArray([NA, A])


@pytest.fixture
def data_for_sorting():
    return VectorArray([B, C, A])


@pytest.fixture
def data_missing_for_sorting():
    return VectorArray([B, NA, A])


@pytest.fixture
def data_for_grouping():
    return VectorArray([B, B, NA, NA, A, A, B, C])


@pytest.mark.filterwarnings("ignore:matching against an empty string")  # as pandas 2's tests do
class TestVectorArray(base.ExtensionTests):
    @pytest.fixture(autouse=True)
    def _expect_failure(self, request):
        name = request.node.name
        for test, reason in EXPECTED_FAILURES.items():
            if name == test or name.startswith(f"{test}[" if "[" not in test else test):
                request.applymarker(pytest.mark.xfail(reason=reason))

    def _supports_reduction(self, ser, op_name):
        return op_name in ("count", "mean", "sum")

    def _get_expected_reduction_dtype(self, arr, op_name, skipna):
        return arr.dtype

    def check_reduce(self, ser, op_name, skipna):
        how = {} if op_name == "count" else {"skipna": skipna}
        numbers = pd.Series(ser.to_numpy("float64")[:, 0])
        np.testing.assert_allclose(getattr(ser, op_name)(**how), getattr(numbers, op_name)(**how), rtol=1e-6)
