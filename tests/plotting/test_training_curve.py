"""TrainingCurveDisplay: what is drawn, and in which estimators a history is found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

import skembed
from skembed import SentenceEmbeddingFineTuner, TrainingCurveDisplay
from tests.plotting.drawn import KINDS, TEXTS

WRAPPED = {
    "frozen in a pipeline": lambda tuner: make_pipeline(FrozenEstimator(tuner), LogisticRegression()),
    "pipeline in a pipeline": lambda tuner: make_pipeline(make_pipeline("passthrough", tuner), LogisticRegression()),
    "frozen twice": lambda tuner: FrozenEstimator(FrozenEstimator(tuner)),
    "pipeline of an estimator": lambda tuner: skembed.NearDuplicates(make_pipeline(tuner, Normalizer())),
    "frozen of a search": lambda tuner: make_pipeline(
        "passthrough", FrozenEstimator(skembed.SemanticSearch(tuner).fit(TEXTS)), LogisticRegression()
    ),
}


class TestTrainingCurve:
    HISTORY = pd.DataFrame(
        {
            "step": [2, 4, 6, 8],
            "epoch": [0.5, 1.0, 1.5, 2.0],
            "loss": [0.4, 0.2, np.nan, 0.1],
            "validation_score": [np.nan, 0.7, np.nan, 0.6],
            "seconds": [1.0, 2.0, 3.0, 4.0],
        }
    )

    def test_the_loss_is_drawn_by_step(self):
        display = TrainingCurveDisplay(self.HISTORY, loss_name="cosent").plot()
        assert display.line_.get_xydata().tolist() == [[2, 0.4], [4, 0.2], [8, 0.1]]
        assert display.ax_.get_ylabel() == "loss (cosent)"
        assert display.figure_ is display.ax_.figure

    def test_the_validation_score_has_its_own_axis_and_a_star_at_the_best_epoch(self):
        display = TrainingCurveDisplay(self.HISTORY).plot()
        assert display.score_line_.get_xydata().tolist() == [[4, 0.7], [8, 0.6]]
        assert display.score_ax_.lines[-1].get_xydata().tolist() == [[4, 0.7]]

    def test_without_validation_there_is_one_axis(self):
        display = TrainingCurveDisplay(self.HISTORY[["step", "loss"]]).plot()
        assert display.score_ax_ is None
        assert len(display.figure_.axes) == 1

    def test_it_draws_on_given_axes(self, plt):
        axes = plt.subplots()[1]
        assert TrainingCurveDisplay(self.HISTORY).plot(ax=axes).ax_ is axes

    @pytest.mark.parametrize("wrap", [lambda tuner: tuner, lambda tuner: make_pipeline(tuner, LogisticRegression())])
    def test_a_fine_tuner_is_found_in_a_pipeline_and_frozen(self, wrap, tiny):
        tuner = SentenceEmbeddingFineTuner(tiny, n_pairs_per_text=4, batch_size=8, random_state=0)
        estimator = wrap(tuner).fit(TEXTS, KINDS)
        display = TrainingCurveDisplay.from_estimator(FrozenEstimator(estimator))
        assert_array_equal(TrainingCurveDisplay.from_estimator(estimator).history, display.history)
        assert display.history["step"].tolist() == [1, 2, 3]
        assert display.ax_.get_ylabel() == "loss (cosine_similarity)"

    @pytest.mark.slow
    @pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
    def test_a_fitted_fine_tuner_is_found_however_it_is_wrapped(self, wrap, tiny):
        tuner = SentenceEmbeddingFineTuner(tiny, n_pairs_per_text=4, batch_size=8, random_state=0).fit(TEXTS, KINDS)
        display = TrainingCurveDisplay.from_estimator(wrap(tuner).fit(TEXTS, KINDS))
        assert display.history is tuner.history_

    def test_a_fine_tuner_is_found_in_a_similarity_of_pairs(self, tiny):
        tuner = SentenceEmbeddingFineTuner(tiny, batch_size=4, random_state=0)
        similarity = skembed.PairSimilarity(tuner).fit(list(zip(TEXTS, KINDS, strict=True)), [0, 1] * 3)
        assert TrainingCurveDisplay.from_estimator(similarity).loss_name == "contrastive"

    @pytest.mark.parametrize("estimator", [SentenceEmbeddingFineTuner(), make_pipeline(PCA(), KMeans()), PCA()])
    def test_an_estimator_without_history_is_refused(self, estimator):
        with pytest.raises(TypeError, match="holds no fitted SentenceEmbeddingFineTuner"):
            TrainingCurveDisplay.from_estimator(estimator)

    @pytest.mark.parametrize("history", [[1, 2], pd.DataFrame({"step": [1]})])
    def test_an_invalid_history_is_refused(self, history):
        with pytest.raises(ValueError, match="history must be a frame with the columns step and loss"):
            TrainingCurveDisplay(history)
