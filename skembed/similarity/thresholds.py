"""choose_threshold: judged pairs to the threshold that is precise enough. Imports scipy, the checks and containers."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from skembed.checks import check_number
from skembed.encoding.containers import read_one_column
from skembed.encoding.labels import place

_TAIL = 0.01  # beyond each end of the interval
_ROUNDING = 1e-9  # of sums of weights


class Threshold(NamedTuple):
    """A threshold, and what is known about it; see :func:`choose_threshold`."""

    threshold: float
    precision: float
    low: float
    high: float
    recall: float


def choose_threshold(scores: Any, is_match: Any, *, precision: float = 0.95, weights: Any = None) -> Threshold:
    """Choose the smallest threshold that is precise enough, from pairs that were judged by eye.

    Parameters
    ----------
    scores : column of float, length n_pairs
        How alike the pairs are, e.g. the ``score`` of ``NearDuplicates.pairs``. The higher, the more alike.
    is_match : column of bool, length n_pairs
        Whether each pair is a match, as True and False or 1 and 0.
    precision : float, default=0.95
        Share of matches wanted among all pairs from the threshold up, above 0 and at most 1.
    weights : column of float, length n_pairs, default=None
        How many pairs each stands for, the ``weight`` of ``NearDuplicates.pairs``. None: all count the same.

    Returns
    -------
    Threshold
        A named tuple of floats:

        - ``threshold``, the smallest of the scores from which up the judged pairs are precise enough;
        - ``precision``, the weighted share of matches among the judged pairs from the threshold up;
        - ``low`` and ``high``, the 95 % interval of the precision of all pairs from the threshold up;
        - ``recall``, the weighted share of all judged matches that the threshold keeps. Pairs with lower scores than
          those that were drawn, below ``lowest`` of ``pairs``, are not seen: their matches are missed as well.

    Raises
    ------
    TypeError, ValueError
        If a score is missing or no number, an answer is missing or another word than True, False, 1 and 0, or a weight
        is not positive; the message names position and index label. If the columns are empty or differ in length. If
        the precision is out of range, or no threshold reaches it; the message names the best.

    See Also
    --------
    NearDuplicates.pairs : Draws the pairs to judge, and weighs them.
    ThresholdDisplay : Draws precision and recall by threshold.

    Notes
    -----
    The interval is Wilson's [1]_ with Kish's effective sample size [2]_, ``sum(weights) ** 2 / sum(weights ** 2)`` of
    the judged pairs from the threshold up. It is wider than usual, for three reasons: the threshold was chosen because
    its pairs look precise, and it always stands on a match; where a few pairs stand for many, one answer decides; and
    near 0 and 1, Wilson's interval holds less often than it says. So each end is computed as if one judged pair, the
    heaviest, had got the opposite answer, which is a continuity correction [3]_ of a whole pair; and from the quantiles
    of Student's distribution at 1 and 99 %, with the effective sample size as degrees of freedom [4]_.

    By simulation, it then holds the true precision in at least 93 % of the samples that ``pairs`` draws and from which
    a threshold is chosen, not on average, but in each case: 30 to 200 pairs, matches from few to all, and scores that
    tell them apart well, a little or not at all. The tests repeat it. The exception are cases in which fewer than one
    sample in 50 has a threshold at all: there, what looks precise is luck. As no use is made of how the threshold was
    chosen, the interval also holds for one that is chosen by eye from :class:`ThresholdDisplay`.

    With 30 judged pairs of equal weights above the threshold, all of them matches, ``low`` is 0.78; with 200, it is
    0.96. To be more certain, judge more pairs.

    References
    ----------
    .. [1] E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the American
       Statistical Association 22, 1927, https://doi.org/10.1080/01621459.1927.10502953.
    .. [2] L. Kish, "Survey Sampling", Wiley, 1965.
    .. [3] R. G. Newcombe, "Two-Sided Confidence Intervals for the Single Proportion", Statistics in Medicine 17, 1998,
       method 4.
    .. [4] E. L. Korn and B. I. Graubard, "Confidence Intervals for Proportions with Small Expected Number of Positive
       Counts Estimated from Survey Data", Survey Methodology 24, 1998.

    Examples
    --------
    >>> from skembed import choose_threshold
    >>> chosen = choose_threshold([0.97, 0.95, 0.92, 0.88, 0.84], [1, 1, 1, 0, 1], precision=0.9)
    >>> chosen.threshold, chosen.precision, chosen.recall
    (0.92, 1.0, 0.75)

    Three pairs do not tell much:

    >>> round(chosen.low, 2), chosen.high
    (0.06, 1.0)
    """
    check_number("precision", precision, "a share, above 0 and at most 1", lambda share: 0 < share <= 1)
    table = judge_thresholds(scores, is_match, weights)
    chosen = smallest_precise(table, precision)
    if chosen is None:
        best = int(table["precision"].argmax())
        raise ValueError(
            f"No threshold reaches a precision of {precision:g}: the best is {table['precision'].iloc[best]:.3g}, at "
            f"{table['threshold'].iloc[best]:.4g}. Ask for less, or judge more pairs."
        )
    return chosen


def smallest_precise(table: pd.DataFrame, precision: float) -> Threshold | None:
    """Return the smallest threshold of a table of ``judge_thresholds`` that is precise enough; None if none is."""
    enough = table[table["precision"] >= precision - _ROUNDING]
    return None if enough.empty else Threshold(*(float(enough[field].iloc[0]) for field in Threshold._fields))


def judge_thresholds(scores: Any, is_match: Any, weights: Any = None) -> pd.DataFrame:
    """Compute for each score, as a threshold, what is known about it; see :func:`choose_threshold`.

    Returns
    -------
    DataFrame, one row for each distinct score
        The fields of :class:`Threshold` as columns, by rising threshold. Without a match, the recall is NaN.
    """
    _check_labels(scores=scores, is_match=is_match, weights=weights)
    score = _read_numbers(scores, "scores", len(scores) if hasattr(scores, "__len__") else 0)
    if not len(score):
        raise ValueError("scores is empty; judge some pairs first.")
    answer = _read_answers(is_match, len(score))
    weight = np.ones(len(score)) if weights is None else _read_numbers(weights, "weights", len(score))
    if (is_bad := weight <= 0).any():
        at = int(is_bad.argmax())
        raise ValueError(f"{place('weights', weights, at)} is {weight[at]:g}; weights must be positive.")
    order = np.argsort(-score, kind="stable")
    score, answer, weight = score[order], answer[order], weight[order]
    total, matched = weight.cumsum(), (weight * answer).cumsum()
    precision, heaviest = matched / total, np.maximum.accumulate(weight) / total
    low, high = _interval(precision, total**2 / (weight**2).cumsum(), heaviest)
    recall = matched / matched[-1] if matched[-1] else np.full(len(score), np.nan)
    table = pd.DataFrame(dict(zip(Threshold._fields, (score, precision, low, high, recall), strict=True)))
    return table[np.append(score[1:] != score[:-1], True)].iloc[::-1].reset_index(drop=True)


def _interval(
    share: NDArray[np.float64], n: NDArray[np.float64], step: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute Wilson's interval of n answers, each of its ends from a share that is one step further out."""
    errors = student_t.isf(_TAIL, n)
    low = _wilson((share - step).clip(0), n, -errors)
    high = _wilson((share + step).clip(None, 1), n, errors)
    return np.clip(low, 0, share), np.clip(high, share, 1)  # rounding


def _wilson(share: NDArray[np.float64], n: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the end of Wilson's interval that is z standard errors away."""
    end: NDArray[np.float64] = share + z**2 / (2 * n) + z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return end / (1 + z**2 / n)


def _check_labels(**columns: Any) -> None:
    """Raise ValueError if two columns of pandas have other index labels: one of them may have been sorted."""
    labelled = [(name, column.index) for name, column in columns.items() if isinstance(column, pd.Series)]
    for name, labels in labelled[1:]:
        first, expected = labelled[0]
        if not labels.equals(expected):
            raise ValueError(f"{name} has other index labels than {first}; pass columns of one frame.")


def _read_numbers(values: Any, name: str, length: int) -> NDArray[np.float64]:
    column = read_one_column(values, name, length)
    column = column if column is None else column.infer_objects()
    if column is None or pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        raise TypeError(f"{name} must be numbers; got {'None' if column is None else column.dtype}.")
    numbers: NDArray[np.float64] = column.to_numpy(np.float64, na_value=np.nan)
    if (is_bad := ~np.isfinite(numbers)).any():
        at = int(is_bad.argmax())
        raise ValueError(f"{place(name, values, at)} is {numbers[at]}; it must be a finite number.")
    return numbers


def _read_answers(is_match: Any, length: int) -> NDArray[np.bool_]:
    column = read_one_column(is_match, "is_match", length)
    if column is None:
        raise TypeError("is_match must be a column of True and False; got None.")
    for at, (answer, is_missing) in enumerate(zip(column, column.isna(), strict=True)):
        if is_missing:
            where = place("is_match", is_match, at)
            raise ValueError(f"{where} is missing; judge every pair, because the weights stand for all together.")
        if not isinstance(answer, (Real, np.bool_)) or answer not in (0, 1):
            given = column[at : at + 1].tolist()[0]  # as Python shows it, not numpy
            raise ValueError(
                f"{place('is_match', is_match, at)} is {given!r}; answers must be True or False, or 1 or 0. Convert "
                "them first, e.g. by judged['is_match'].map({'yes': True, 'no': False})."
            )
    return column.to_numpy(bool)
