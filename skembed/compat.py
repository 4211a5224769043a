"""Private interfaces of other libraries, each in a small function whose test fails when the interface goes.

Imports the standard library alone. What else a function needs comes in as an argument, or is imported inside it.
"""

from __future__ import annotations

from typing import Any


def column_positions(X: Any, columns: Any) -> list[int]:
    """Return the positions of columns in X, for any way in which a ColumnTransformer names them.

    Labels, positions, slices and masks are allowed; scikit-learn has no public function that reads them all.
    """
    from sklearn.utils._indexing import _get_column_indices

    return list(_get_column_indices(X, columns))


def runs_in_processes(n_jobs: int | None) -> bool:
    """Return whether joblib would run ``n_jobs`` jobs in processes, which do not share the caller's memory.

    joblib has a public way to choose a backend, but none to ask which one is active.
    """
    import joblib
    from joblib.parallel import get_active_backend

    backend, n_jobs_of_backend = get_active_backend()
    shares_memory = getattr(backend, "supports_sharedmem", False)  # as in joblib: backends without it are processes
    return joblib.effective_n_jobs(n_jobs or n_jobs_of_backend) > 1 and not shares_memory


def select_columns(X: Any, columns: Any) -> Any:
    """Return columns of X as a ColumnTransformer passes them on: one label selects a series, a list a frame."""
    from sklearn.utils._indexing import _safe_indexing

    return _safe_indexing(X, columns, axis=1)
