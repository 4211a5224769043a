"""The vector column: a pandas column whose rows are vectors of one length, stored in one float32 matrix.

Imports numpy, pandas, and what reads texts and vectors; pyarrow only where its arrays come in or go out.
"""

from __future__ import annotations

import builtins
import operator
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype, take
from pandas.api.indexers import check_array_indexer

from skembed.compat import fills_for_a_sum
from skembed.encoding.texts import is_missing
from skembed.encoding.vectors import MODEL_KEY, is_one_vector, model_of, read_vectors
from skembed.frames.aggregation import add_up

if TYPE_CHECKING:
    import pyarrow

_NAME = re.compile(r"vector\[float32, ?([1-9]\d*)\]")

# pandas.errors.DataError with this text gets through pandas, which turns a TypeError into an error that says less.
_ONE_NUMBER_A_ROW = (
    "A column of vectors does not have one number a row, so pandas cannot compute rolling, expanding or exponentially "
    "weighted windows of it, nor correlations. The means of windows are [rows.mean() for rows in column.rolling(3)]. "
    "For the matrix, leave na_value out: .to_numpy('float64') has NaN where a vector is missing."
)


@register_extension_dtype
class VectorDtype(ExtensionDtype):
    """The dtype of a vector column: float32 vectors of one length, named ``vector[float32, 384]``.

    Parameters
    ----------
    dim : int
        Number of dimensions of each vector, 1 or more.

    Raises
    ------
    TypeError, ValueError
        If ``dim`` is not a positive integer.

    See Also
    --------
    skembed.VectorArray : The values of such a column.

    Notes
    -----
    ``str(dtype)`` is "object", and ``df.dtypes`` shows that; ``dtype.name`` and ``repr(dtype)`` are the full name.
    pyarrow writes ``str(dtype)`` into parquet files, and pandas without skembed cannot read a file with a name that it
    does not know.

    Examples
    --------
    >>> import pandas as pd
    >>> import skembed
    >>> pd.Series([[1, 0], [0, 1]], dtype="vector[float32, 2]").dtype
    vector[float32, 2]
    """

    _metadata = ("dim",)
    type = np.ndarray
    kind = "O"
    na_value = pd.NA
    numpy_dtype = np.dtype(np.float32)  # of the matrix, so that pandas knows that other dtypes are copies

    def __init__(self, dim: int) -> None:
        self.dim = operator.index(dim)
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1; got {dim!r}.")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name that :func:`pandas.api.types.pandas_dtype` understands."""
        return f"vector[float32, {self.dim}]"

    def __repr__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return "object"  # see Notes

    @classmethod
    def construct_array_type(cls) -> builtins.type[VectorArray]:
        """Return the class of the array."""
        return VectorArray

    @classmethod
    def construct_from_string(cls, string: str) -> VectorDtype:
        """Construct a dtype from a name such as ``vector[float32, 384]``."""
        if not isinstance(string, str):
            raise TypeError(f"'construct_from_string' expects a string, got {type(string)}")
        found = _NAME.fullmatch(string)
        if found is None:
            raise TypeError(f"Cannot construct a 'VectorDtype' from {string!r}")
        return cls(int(found[1]))

    def __from_arrow__(self, array: pyarrow.Array | pyarrow.ChunkedArray) -> VectorArray:
        return VectorArray._from_sequence(array, dtype=self)


class VectorArray(ExtensionArray):
    """The values of a vector column: one float32 matrix with one vector per row.

    ``pd.Series(VectorArray(vectors))`` makes a column of existing vectors. A row without a vector is a row of NaN in
    the matrix, and a missing value to pandas.

    Parameters
    ----------
    vectors : array, frame, or sequence of vectors, shape (n_rows, dim)
        A matrix (not copied if it is float32), a frame of numeric columns, a vector column, a column or list of arrays
        or lists, a pyarrow array of lists, or a column of an Arrow list type. Single vectors may be missing.
    copy : bool, default=False
        Whether to copy even a float32 matrix, so that later changes of it do not show here.
    model : str, default=None
        Name and fingerprint of the model that made the vectors, e.g. ``other.array.model``. None: that of ``vectors``,
        if it is a vector column.

    Attributes
    ----------
    model : str or None
        It is compared with the model of another column, or of a query, before vectors are compared. ``embed`` sets it
        and parquet files keep it; it is lost when vectors of several models are combined.

    Raises
    ------
    TypeError
        If a value is not a vector of numbers; the message names its position.
    ValueError
        If the vectors differ in length, or there is none to tell the length from.

    See Also
    --------
    skembed.VectorDtype : The dtype of the column.
    skembed.read_parquet : Read such columns from a file.

    Notes
    -----
    ``to_numpy("float32")`` of the array or of its Series returns the matrix, shape (n_rows, dim), without a copy. Pass
    the matrix to scikit-learn's estimators, both in ``fit`` and in ``predict``: some accept the column itself in one
    and reject it in the other. Without a dtype, as with ``numpy.asarray``, the result is an array of objects, one
    vector per row, because pandas relies on one value per row.

    The mean and the sum of a column are a vector, those of groups a vector column. Missing vectors are left out; where
    there is no vector, the mean and the sum are missing. They are not normalized. Those of groups keep ``model``, so
    that the mean of a group can be the query of a search, which scales it to unit length.

    ``merge``, ``isin`` and the like find equal vectors; ``explode`` returns a column of numbers. In a CSV file, and
    after ``astype(str)``, a vector is written as a JSON list with all digits.

    Examples
    --------
    >>> import pandas as pd
    >>> from skembed import VectorArray
    >>> column = pd.Series(VectorArray([[1.0, 0.0], [0.6, 0.8], None]))
    >>> column
    0        [1, 0]
    1    [0.6, 0.8]
    2          <NA>
    dtype: vector[float32, 2]
    >>> column.dropna().to_numpy("float32") @ column[1]
    array([0.6, 1. ], dtype=float32)
    >>> column.groupby(["a", "a", "b"]).mean()
    a    [0.8, 0.4]
    b          <NA>
    dtype: vector[float32, 2]
    """

    _readonly = False  # pandas 3 sets it on the arrays that it gives away
    __array_ufunc__ = None  # type: ignore[assignment] # no arithmetic on the column: use the matrix

    def __init__(self, vectors: Any, *, copy: bool = False, model: str | None = None) -> None:
        matrix = read_vectors(vectors, dim=None)
        if model is not None and not isinstance(model, str):
            raise TypeError(f"model must be a str or None; got {type(model).__name__}.")
        self.model = model_of(vectors) if model is None else model
        self._matrix: NDArray[np.float32] = matrix.copy() if copy else matrix
        self._dtype = VectorDtype(matrix.shape[1])

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> Self:
        dtype = pd.api.types.pandas_dtype(dtype) if dtype is not None else None
        matrix = read_vectors(scalars, dim=dtype.dim if isinstance(dtype, VectorDtype) else None)
        return cls(matrix, copy=copy, model=model_of(scalars))

    @classmethod
    def _concat_same_type(cls, to_concat: Any) -> Self:
        models = {array.model for array in to_concat if not array.isna().all()}
        model = models.pop() if len(models) == 1 else None
        return cls(np.concatenate([array._matrix for array in to_concat]), model=model)

    @property
    def dtype(self) -> VectorDtype:
        """The dtype of the column, with the number of dimensions."""
        return self._dtype

    @property
    def nbytes(self) -> int:
        """Number of bytes of the matrix."""
        return self._matrix.nbytes

    def __len__(self) -> int:
        return len(self._matrix)

    def __iter__(self) -> Iterator[Any]:
        vectors = self._matrix.copy()  # so that a vector that is kept does not change with the column
        for vector, is_na in zip(vectors, self.isna(), strict=True):
            yield self.dtype.na_value if is_na else vector

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, tuple):  # array[..., item] is array[item]
            item = next((part for part in item if part is not Ellipsis), slice(None))
        item = check_array_indexer(self, slice(None) if item is Ellipsis else item)
        chosen = self._matrix[item]
        if chosen.ndim == 1:
            return self.dtype.na_value if np.isnan(chosen).all() else chosen.copy()
        array = type(self)(chosen, model=self.model)
        array._readonly = self._readonly and np.may_share_memory(chosen, self._matrix)
        return array

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._readonly:
            raise ValueError("Cannot modify read-only array")
        key = check_array_indexer(self, key)
        if is_one_vector(value):
            rows = np.arange(len(self))[key]
            if np.ndim(rows) == 1 and len(rows) == len(value) > 1:  # perhaps pandas has aligned numbers with rows
                raise ValueError(f"{len(rows)} numbers for {len(rows)} vectors; to set all to one, give [vector].")
        rows_to_set = self._as_rows(value)
        if not self._matrix.flags.writeable:
            self._matrix = self._matrix.copy()
        self._matrix[key] = rows_to_set
        if self.model is not None and not is_missing(value) and model_of(value) != self.model:
            self.model = None

    def _as_rows(self, value: Any) -> NDArray[np.float32]:
        """Read a value to write into rows, or to compare with them: missing, one vector for all, or one for each."""
        if is_missing(value):
            return np.full(self.dtype.dim, np.nan, dtype=np.float32)
        if not pd.api.types.is_list_like(value):
            raise TypeError(f"{value!r} is not a vector of numbers.")
        is_one = is_one_vector(value)
        rows = read_vectors([value] if is_one else value, dim=self.dtype.dim)
        return rows.reshape(-1) if is_one else rows

    def __eq__(self, other: Any) -> Any:
        """Compare row by row with one vector or with a vector for each row; missing vectors equal nothing."""
        if isinstance(other, (pd.Series, pd.Index, pd.DataFrame)):
            return NotImplemented
        if not pd.api.types.is_list_like(other):
            return np.zeros(len(self), dtype=bool)
        rows = self._as_rows(other)
        if rows.ndim == 2 and len(rows) != len(self):
            raise ValueError(f"Lengths must match to compare: {len(self)} and {len(rows)}")
        return np.asarray((self._matrix == rows).all(axis=1))

    def __ne__(self, other: Any) -> Any:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else ~equal

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False and dtype != np.float32:
            raise ValueError("Only the float32 matrix of a vector column can be had without a copy.")
        # One value per row, unless numbers are asked for:
        return self.to_numpy(dtype, copy=bool(copy))  # type: ignore[no-any-return]

    def to_numpy(self, dtype: Any = None, copy: bool = False, na_value: Any = pd.api.extensions.no_default) -> Any:
        """Return the vectors as a numpy array; an array that shares the column's memory is read-only.

        Parameters
        ----------
        dtype : dtype, default=None
            A numeric dtype: the matrix, shape (n_rows, dim), without a copy for "float32". None or object: an array of
            shape (n_rows,) with a vector in each element.
        copy : bool, default=False
            Whether to copy the matrix, so that it may be changed.
        na_value : object, default=pandas.NA, or NaN in a matrix
            The value of a missing row.

        Returns
        -------
        ndarray, shape (n_rows, dim) or (n_rows,)

        Raises
        ------
        ValueError
            If a missing vector has no value in the dtype.
        pandas.errors.DataError
            If the dtype is "float64" and ``na_value`` NaN. That is how pandas asks for one number a row.
        """
        has_na_value = na_value is not pd.api.extensions.no_default
        if isinstance(na_value, float) and np.isnan(na_value) and dtype is not None and np.dtype(dtype) == np.float64:
            raise pd.errors.DataError(_ONE_NUMBER_A_ROW)
        if dtype is None or np.dtype(dtype).kind in "OSU":
            rows = np.empty(len(self), dtype=object)
            for row, vector in enumerate(self):
                rows[row] = na_value if vector is pd.NA and has_na_value else vector
            return rows if dtype is None else rows.astype(dtype)
        if has_na_value:
            return np.where(self.isna()[:, None], na_value, self._matrix).astype(dtype)
        if np.dtype(dtype).kind != "f" and self.isna().any():
            raise ValueError(f"A missing vector cannot be {np.dtype(dtype).name}; pass na_value, or a float dtype.")
        matrix = self._matrix.astype(dtype, copy=copy)
        return _read_only(matrix) if np.shares_memory(matrix, self._matrix) else matrix

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """Convert to another dtype; a numeric dtype is an error, because a vector is not one number."""
        dtype = pd.api.types.pandas_dtype(dtype)
        if isinstance(dtype, pd.StringDtype):
            texts = [None if vector is pd.NA else str(vector) for vector in self._printable()]
            return pd.array(texts, dtype=dtype)
        if not isinstance(dtype, np.dtype):
            return super().astype(dtype, copy=copy)
        if dtype.kind == "O":
            return self._printable()
        if dtype.kind in "SU":
            return np.array([str(vector) for vector in self._printable()], dtype=dtype)
        raise TypeError(
            f"A column of vectors cannot become a column of {dtype.name}; for the matrix use .to_numpy({dtype.name!r})."
        )

    def _printable(self) -> NDArray[np.object_]:
        """Return an array of vectors that ``str``, and so ``to_csv``, writes in full."""
        rows: NDArray[np.object_] = self.to_numpy()
        rows[:] = [vector if vector is pd.NA else vector.view(_VectorInFull) for vector in rows]
        return rows

    def isna(self) -> NDArray[np.bool_]:
        """Return which rows have no vector."""
        is_na = np.isnan(self._matrix[:, 0])  # the first column decides for nearly all rows
        suspects = np.flatnonzero(is_na)
        is_na[suspects] = np.isnan(self._matrix[suspects]).all(axis=1)
        return is_na

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Self:
        """Return rows by position; with ``allow_fill``, -1 is a row of ``fill_value``, by default a missing one."""
        matrix = take(self._matrix, np.asarray(indices), allow_fill=allow_fill, fill_value=np.nan)
        if allow_fill and not is_missing(fill_value) and not fills_for_a_sum(fill_value):
            matrix[np.asarray(indices) == -1] = self._as_rows(fill_value)
        return type(self)(matrix, model=self.model)

    def copy(self) -> Self:
        """Return an array with a copy of the matrix."""
        return type(self)(self._matrix, copy=True, model=self.model)

    def view(self, dtype: Any = None) -> Any:
        """Return another array over the same matrix."""
        if dtype is not None:
            raise NotImplementedError("a vector column cannot be viewed as another dtype")
        return type(self)(self._matrix, model=self.model)

    def factorize(self, use_na_sentinel: bool = True) -> tuple[NDArray[np.intp], Self]:
        """Return a number for each row, and the vectors that the numbers stand for, in order of first appearance."""
        codes, _ = pd.factorize(self._keys(), use_na_sentinel=use_na_sentinel)
        return codes, self[~pd.Series(codes).duplicated().to_numpy() & (codes >= 0)]

    def unique(self) -> Self:
        """Return each vector once, in order of first appearance."""
        return self.factorize(use_na_sentinel=False)[1]

    def duplicated(self, keep: Literal["first", "last", False] = "first") -> NDArray[np.bool_]:
        """Return which rows repeat the vector of another row."""
        codes, _ = self.factorize()
        return pd.Series(codes).duplicated(keep).to_numpy()

    def isin(self, values: Any) -> NDArray[np.bool_]:
        """Return which rows have one of the values; a missing row has if one of them is missing."""
        could_be_in = [value for value in values if is_missing(value) or is_one_vector(value, self.dtype.dim)]
        wanted = set(self._from_sequence(could_be_in, dtype=self.dtype)._keys())
        return np.fromiter((key in wanted for key in self._keys()), dtype=bool, count=len(self))

    def equals(self, other: object) -> bool:
        """Return whether another array has the same vectors, with missing ones in the same rows."""
        return isinstance(other, VectorArray) and np.array_equal(self._matrix, other._matrix, equal_nan=True)

    def value_counts(self, dropna: bool = True) -> pd.Series[int]:
        """Return how often each vector appears."""
        codes, uniques = self.factorize(use_na_sentinel=dropna)
        counts = np.bincount(codes[codes >= 0], minlength=len(uniques))
        return pd.Series(counts, index=pd.Index(uniques, dtype=self.dtype), name="count").sort_values(ascending=False)

    def _explode(self) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
        """Return all numbers in one column and their count per row; a missing vector is one missing number."""
        is_na = self.isna()
        is_kept = np.ones(self._matrix.shape, dtype=bool)
        is_kept[is_na, 1:] = False
        return self._matrix[is_kept], np.where(is_na, 1, self.dtype.dim).astype(np.uint64)

    def mean(self, *, skipna: bool = True, axis: int | None = 0, **others: None) -> Any:
        """Return the mean of the vectors.

        It is computed in float64. It is not normalized: the mean of vectors of unit length is shorter, the more so the
        more they differ. Searches and similarities scale it to unit length.

        Parameters
        ----------
        skipna : bool, default=True
            Whether to leave out missing vectors. False: the mean is missing if one of them is.
        axis : {0, None}, default=0
            For numpy and pandas; the mean is over the rows.
        **others
            For numpy, which passes ``dtype`` and ``out``; both None.

        Returns
        -------
        ndarray of float32, shape (dim,), or pandas.NA
            Missing if there is no vector.

        Raises
        ------
        TypeError
            If another axis, ``dtype`` or ``out`` is given.

        Examples
        --------
        >>> VectorArray([[1.0, 0.0], [0.6, 0.8], None]).mean()
        array([0.8, 0.4], dtype=float32)
        """
        _check_of_numpy("mean", axis, others)
        return self._reduce("mean", skipna=skipna)

    def sum(self, *, skipna: bool = True, min_count: int = 0, axis: int | None = 0, **others: None) -> Any:
        """Return the sum of the vectors.

        It is computed in float64.

        Parameters
        ----------
        skipna : bool, default=True
            Whether to leave out missing vectors. False: the sum is missing if one of them is.
        min_count : int, default=0
            With fewer vectors than these, the sum is missing. 0 is as 1: the sum of no vector is missing, unlike that
            of no number, which pandas makes 0. The zero vector has no direction, and so is like no text.
        axis : {0, None}, default=0
            For numpy and pandas; the sum is over the rows.
        **others
            For numpy, which passes ``dtype`` and ``out``; both None.

        Returns
        -------
        ndarray of float32, shape (dim,), or pandas.NA

        Raises
        ------
        TypeError
            If another axis, ``dtype`` or ``out`` is given.

        Examples
        --------
        >>> VectorArray([[1.0, 0.0], [0.6, 0.8], None]).sum()
        array([1.6, 0.8], dtype=float32)
        """
        _check_of_numpy("sum", axis, others)
        return self._reduce("sum", skipna=skipna, min_count=min_count)

    def _reduce(self, name: str, *, skipna: bool = True, keepdims: bool = False, **params: Any) -> Any:
        """Sum or average the vectors; other reductions are not defined."""
        if name not in ("mean", "sum"):
            try:
                return super()._reduce(name, skipna=skipna, keepdims=keepdims, **params)  # it can count
            except TypeError as error:
                raise _not_supported("column", name) from error
        ids = np.zeros(len(self), dtype=np.intp)
        result = self._add_up(name, params.get("min_count", 0), 1, ids, skipna=skipna)
        return result if keepdims else result[0]

    def _accumulate(self, name: str, *, skipna: bool = True, **params: Any) -> Any:  # noqa: ARG002 - pandas passes them
        raise _not_supported("column", name)

    def _quantile(self, qs: Any, interpolation: str) -> Any:  # noqa: ARG002 - pandas passes them
        raise _not_supported("column", "quantile")

    def _groupby_op(self, *, how: str, min_count: int, ngroups: int, ids: NDArray[np.intp], **others: Any) -> Any:
        """Return the sum, mean, first or last vector of each group; pandas 3.1 and later has the last two itself."""
        if how in ("mean", "sum"):
            return self._add_up(how, min_count, ngroups, ids, skipna=others.get("skipna", True))
        if how not in ("first", "last"):
            raise _not_supported("group", how)
        skipped = self.isna() if others.get("skipna", True) else False
        rows = np.flatnonzero((ids >= 0) & ~np.asarray(skipped))
        if how == "first":
            rows = rows[::-1]  # of several rows written into one element below, the last stays
        chosen = np.full(ngroups, -1)
        chosen[ids[rows]] = rows
        chosen[np.bincount(ids[rows], minlength=ngroups) < min_count] = -1
        return self.take(chosen, allow_fill=True)

    def _add_up(self, how: str, min_count: int, ngroups: int, ids: NDArray[np.intp], *, skipna: bool) -> Self:
        """Sum or average the vectors of each group; a group without vectors has neither."""
        is_in_group, is_na = ids >= 0, self.isna()
        rows = np.flatnonzero(is_in_group & ~is_na)
        n_vectors = np.bincount(ids[rows], minlength=ngroups).astype(np.float64)
        divisors = n_vectors if how == "mean" else np.ones(ngroups)
        divisors[n_vectors < min_count] = np.nan
        if not skipna:
            divisors[ids[is_in_group & is_na]] = np.nan
        return type(self)(add_up(self._matrix, rows, ids[rows], divisors), model=self.model)

    def _values_for_factorize(self) -> tuple[NDArray[np.object_], Any]:
        return self._keys(), None

    def _keys(self) -> NDArray[np.object_]:
        """Return a key for each vector, which compares and sorts as the vector does; None for a missing one.

        Merges and groups sort by the keys. They are bytes in an array of objects: an array of bytes ("S") would lose
        trailing zeros, with which the keys of vectors that end in 0.0 end.
        """
        keys = np.empty(len(self), dtype=object)
        keys[:] = [vector.tobytes() for vector in _in_order(self._matrix)]
        keys[self.isna()] = None
        return keys

    def _values_for_argsort(self) -> NDArray[np.bytes_]:
        """Return values that sort as tuples of the numbers do: pandas sorts what it groups by."""
        return _in_order(self._matrix).view(f"S{4 * self.dtype.dim}").reshape(len(self))

    # pandas merges sorted columns by an index, which needs hashable values, and other columns by their keys.
    _is_monotonic_increasing = _is_monotonic_decreasing = False

    def _mode(self, dropna: bool = True) -> Self:
        codes, uniques = self.factorize(use_na_sentinel=dropna)
        counts = np.bincount(codes[codes >= 0], minlength=len(uniques))
        return uniques[counts == counts.max(initial=0)]  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        head, _, _ = super().__repr__().rpartition("dtype: ")
        return f"{head}dtype: {self.dtype.name}"  # str(dtype) is "object"; see VectorDtype

    def _formatter(self, boxed: bool = False) -> Callable[[Any], str | None]:  # noqa: ARG002 - looks the same everywhere
        def show(vector: Any) -> str:
            if vector is pd.NA:
                return str(vector)
            ends = vector if len(vector) <= 4 else [*vector[:2], *vector[-2:]]
            shown = [f"{number:.3g}" for number in ends]
            return f"[{', '.join(shown if len(vector) <= 4 else [*shown[:2], '...', *shown[2:]])}]"

        return show

    def __arrow_array__(self, type: pyarrow.DataType | None = None) -> pyarrow.Array:  # noqa: A002 - pyarrow's name
        import pyarrow

        numbers, is_na = pyarrow.array(np.ascontiguousarray(self._matrix).reshape(-1)), self.isna()
        mask = pyarrow.array(is_na) if is_na.any() else None
        noted = None if self.model is None else {MODEL_KEY: self.model}  # the metadata is not part of the type
        lists = pyarrow.list_(pyarrow.field("item", pyarrow.float32(), metadata=noted), self.dtype.dim)
        array = pyarrow.FixedSizeListArray.from_arrays(numbers, type=lists, mask=mask)
        return array if type is None else array.cast(type)


def _in_order(matrix: NDArray[np.float32]) -> NDArray[Any]:
    """Return four bytes per number, which sort byte by byte as the numbers do.

    -0.0 becomes 0.0. All NaN become the same one, which is last.
    """
    matrix = matrix + np.float32(0)
    matrix[np.isnan(matrix)] = np.nan
    bits = np.ascontiguousarray(matrix).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(">u4")


class _VectorInFull(np.ndarray[Any, Any]):
    """A vector whose text has every number, in the fewest digits that float32 reads back unchanged."""

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self))}]" if self.ndim == 1 else super().__str__()

    def __repr__(self) -> str:
        return repr(np.asarray(self))

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()  # so that a pickle can be read with numpy alone


def _not_supported(what: Literal["column", "group"], operation: str) -> TypeError:
    """Return the error for an operation on vectors, which says what there is instead."""
    has = {"column": "a mean and a sum", "group": "a mean, a sum, a first and a last vector"}[what]
    return TypeError(
        f"A {what} of vectors does not support operation {operation!r}; it has {has}. "
        "For others use the matrix, .to_numpy('float32')."
    )


def _check_of_numpy(name: str, axis: int | None, others: dict[str, Any]) -> None:
    """Raise TypeError for what ``numpy.mean`` and ``numpy.sum`` could ask of an array, but not of a column."""
    given = [other for other, value in others.items() if value is not None]
    if axis not in (0, None) or given:
        raise TypeError(
            f"The {name} of a column of vectors is over its rows; it has no {given[0] if given else 'other axis'}."
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view through which the column cannot be changed."""
    array = array.view()
    array.flags.writeable = False
    return array


def vector_type(arrow: pyarrow.DataType) -> VectorDtype | None:
    """Return the pandas type of an Arrow type of vectors; None for others, which pyarrow converts."""
    import pyarrow

    is_vector = pyarrow.types.is_fixed_size_list(arrow) and pyarrow.types.is_float32(arrow.value_type)
    return VectorDtype(arrow.list_size) if is_vector and arrow.list_size else None
