"""Losses by name: which data each takes, and how that is laid out."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from datasets import Dataset
from sentence_transformers.base.sampler import GroupByLabelBatchSampler
from sentence_transformers.sentence_transformer import losses

from skembed.training.data import KINDS, TrainingData
from skembed.training.losses import (
    ADAPTATIONS,
    AUTO,
    OBJECTIVES,
    check_batches,
    describe_loss,
    find_doubt,
    name_loss,
    to_columns,
)

LEFT, RIGHT, OTHER = ["a", "b", "c", "d"], ["e", "f", "g", "h"], ["i", "j", "k", "l"]
BY_KIND = {
    "texts": TrainingData("texts", (LEFT,)),
    "classes": TrainingData("classes", (LEFT,), np.array([0, 0, 1, 1]), np.array(["x", "y"])),
    "label_sets": TrainingData("label_sets", (LEFT,), np.array([[1, 0], [1, 1], [0, 1], [0, 1]]), np.array(["x", "y"])),
    "positives": TrainingData("positives", (LEFT, RIGHT)),
    "scores": TrainingData("scores", (LEFT, RIGHT), np.array([0.5, 1.0, 0.0, -1.0])),
    "binary": TrainingData("binary", (LEFT, RIGHT), np.array([0, 1, 0, 1]), np.array([0, 1])),
    "pair_classes": TrainingData("pair_classes", (LEFT, RIGHT), np.array([0, 1, 2, 1]), np.array(["x", "y", "z"])),
    "triplets": TrainingData("triplets", (LEFT, RIGHT, OTHER)),
}


def laid_out(kind, loss_name, n_pairs_per_text=2):
    return to_columns(BY_KIND[kind], loss_name, n_pairs_per_text, np.random.default_rng(0))


def test_every_kind_of_data_has_a_default_loss():
    assert set(AUTO) == set(KINDS) == set(BY_KIND)
    assert all(kind in OBJECTIVES[name].reads for kind, name in AUTO.items())


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - set(ADAPTATIONS)))
def test_every_loss_but_those_for_adaptation_is_one_of_sentence_transformers(name):
    assert hasattr(losses, OBJECTIVES[name].class_name)


@pytest.mark.parametrize("kind", KINDS)
def test_auto_chooses_by_the_kind_of_data(kind):
    assert name_loss("auto", BY_KIND[kind], 16) == AUTO[kind]


@pytest.mark.parametrize("kind", ["positives", "triplets", "texts"])
def test_auto_caches_the_gradients_of_large_batches(kind):
    assert name_loss("auto", BY_KIND[kind], 128) == "cached_multiple_negatives_ranking"


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (losses.CoSENTLoss, "cosent"),
        (partial(losses.CosineSimilarityLoss, loss_fct=None), "cosine_similarity"),
        (losses.AnglELoss, "AnglELoss"),
    ],
)
def test_a_class_has_its_name_here_or_its_class_name(loss, name):
    assert name_loss(loss, BY_KIND["scores"], 16) == name


@pytest.mark.parametrize(
    ("loss", "kind", "error", "message"),
    [
        ("cosinesim", "scores", ValueError, "loss must be 'auto' or one of 'cosent'.*got 'cosinesim'"),
        (
            "cosent",
            "pair_classes",
            ValueError,
            r"learns from .* Integers are classes; y\.astype\(float\) makes them scores",
        ),
        ("contrastive", "scores", ValueError, r"learns from .* Floats are scores; y\.astype\(int\) makes them 0 and 1"),
        (
            "contrastive",
            "label_sets",
            ValueError,
            "X and y are texts with several labels a row. Losses for these are 'auto', 'cosent', 'cosine_similarity'",
        ),
        ("batch_hard_triplet", "label_sets", ValueError, "Losses for these are 'auto', 'cosent', 'cosine_similarity'"),
        ("tsdae", "positives", ValueError, "loss='tsdae' learns from texts alone"),
        (lambda model: None, "scores", TypeError, "or a loss of sentence-transformers; got function"),
        (3, "scores", TypeError, "loss must be a name or a loss of sentence-transformers; got int"),
        ("triplet", "scores", ValueError, "learns from triplets; X and y are pairs with scores.*'auto', 'cosent', "),
        (
            losses.SoftmaxLoss,
            "classes",
            ValueError,
            "loss='softmax' learns from .*; X and y are texts with class labels",
        ),
    ],
)
def test_a_loss_that_does_not_exist_or_fit_the_data_is_one_clear_error(loss, kind, error, message):
    with pytest.raises(error, match=message):
        name_loss(loss, BY_KIND[kind], 16)


def test_scores_beyond_cosines_are_refused_by_the_loss_that_learns_cosines():
    data = TrainingData("scores", (LEFT, RIGHT), np.array([0.0, 5.0, 2.5, 1.0]))
    with pytest.raises(ValueError, match=r"go from 0 to 5\. Scale them, e\.g\. y / 5, or use loss='cosent'"):
        name_loss("cosine_similarity", data, 16)
    assert name_loss("auto", data, 16) == "cosent"


def test_losses_with_different_settings_have_different_descriptions_even_nested(reference):
    model = reference("bert")
    inner = [losses.ContrastiveLoss(model, margin=margin) for margin in (0.2, 0.5)]
    described = [describe_loss(losses.MatryoshkaLoss(model, loss, [16])) for loss in inner]
    described += [describe_loss(loss) for loss in ("auto", losses.CoSENTLoss, *inner)]
    assert len(set(described)) == 6


class TestLayout:
    def test_texts_alone_are_paired_with_themselves_once_each(self):
        data = TrainingData("texts", (["a", "b", "a"],))
        columns = to_columns(data, "multiple_negatives_ranking", 2, np.random.default_rng(0))
        assert columns == {"text_a": ["a", "b"], "text_b": ["a", "b"]}

    def test_class_labels_become_pairs_for_a_loss_that_compares_pairs(self):
        columns = laid_out("classes", "contrastive")
        assert list(columns) == ["text_a", "text_b", "label"]
        assert columns["text_a"] == ["a", "a", "b", "b", "c", "c", "d", "d"]
        assert columns["label"] == [1, 0] * 4

    @pytest.mark.parametrize("loss_name", ["cosine_similarity", "cosent"])
    def test_several_labels_become_pairs_as_alike_as_their_labels(self, loss_name):
        columns = laid_out("label_sets", loss_name)
        alike = dict(zip(zip(columns["text_a"], columns["text_b"], strict=True), columns["label"], strict=True))
        assert {type(label) for label in columns["label"]} == {float}
        assert alike["a", "b"] == 0.5
        assert set(columns["label"]) == {0, 0.5, 1}

    def test_several_labels_go_to_a_loss_of_ones_own_as_rows_of_0_and_1(self):
        assert laid_out("label_sets", "SomeLossOfOnesOwn")["label"] == [[1, 0], [1, 1], [0, 1], [0, 1]]

    @pytest.mark.parametrize("rows", [[[1, 0], [0, 1]], [[1, 1], [1, 1]]])
    def test_several_labels_of_which_no_two_texts_share_any_or_all_do_are_refused(self, rows):
        data = TrainingData("label_sets", (["a", "b"],), np.array(rows), np.array(["x", "y"]))
        with pytest.raises(ValueError, match="no two different texts that share labels, or all do"):
            to_columns(data, "cosine_similarity", 2, np.random.default_rng(0))

    @pytest.mark.parametrize("loss_name", ADAPTATIONS)
    def test_a_loss_for_adaptation_gets_each_text_once(self, loss_name):
        data = TrainingData("texts", (["a", "b", "a"],))
        assert to_columns(data, loss_name, 2, np.random.default_rng(0)) == {"text_a": ["a", "b"]}

    @pytest.mark.parametrize("loss_name", ["batch_all_triplet", "SomeLossOfOnesOwn"])
    def test_other_losses_get_the_class_labels_as_they_are(self, loss_name):
        assert laid_out("classes", loss_name) == {"text_a": LEFT, "label": [0, 0, 1, 1]}

    def test_triplets_stay_in_order(self):
        assert laid_out("triplets", "triplet") == {"text_a": LEFT, "text_b": RIGHT, "text_c": OTHER}

    @pytest.mark.parametrize(("kind", "loss_name"), [("scores", "cosent"), ("binary", "cosine_similarity")])
    def test_labels_learned_as_numbers_are_floats(self, kind, loss_name):
        assert {type(label) for label in laid_out(kind, loss_name)["label"]} == {float}

    @pytest.mark.parametrize(
        ("texts", "labels"), [(["a", "b"], [0, 1]), (["a", "b"] * 2, [0, 1] * 2), (["a", "a"], [0, 1])]
    )
    def test_classes_without_similar_or_without_different_pairs_are_refused(self, texts, labels):
        data = TrainingData("classes", (texts,), np.array(labels), np.array(["x", "y"]))
        with pytest.raises(ValueError, match="no two different texts of one class, or none of two classes"):
            to_columns(data, "contrastive", 2, np.random.default_rng(0))


class TestBatches:
    def test_fewer_examples_than_a_batch_are_refused(self):
        with pytest.raises(ValueError, match="There are 4 examples to train on, fewer than batch_size=16"):
            check_batches(laid_out("scores", "cosent"), "cosent", 16)

    @pytest.mark.parametrize("batch_size", [2, 3])
    def test_a_loss_that_compares_classes_needs_an_even_batch_of_four_or_more(self, batch_size):
        with pytest.raises(ValueError, match=f"batch_size to be even, 4 or more; got {batch_size}"):
            check_batches(laid_out("classes", "batch_all_triplet"), "batch_all_triplet", batch_size)

    def test_a_loss_that_compares_classes_needs_two_classes_with_two_texts(self):
        with pytest.raises(ValueError, match="at least two classes need two texts or more"):
            check_batches({"text_a": LEFT, "label": [0, 0, 0, 1]}, "batch_hard_triplet", 4)


class TestDoubt:
    """What is said of examples that teach nothing, and the count of them."""

    @pytest.mark.parametrize(
        ("columns", "batch_size", "said"),
        [
            ((LEFT, ["e"] * 4), 4, r"^All 4 pairs hold the text 'e'\. .* so the model learns nothing\. Add pairs"),
            ((["a"] * 4, ["e"] * 4), 2, r"^All 4 pairs hold the text"),
            (
                (LEFT, ["e", "e", "e", "f"]),
                4,
                r"^3 of the 4 pairs hold the text 'e'\. .* 2 of them are alone in theirs",
            ),
            ((LEFT, ["e" * 41, *["f"] * 3]), 4, "hold the text 'f'"),
            ((LEFT, ["e" * 41] * 4), 4, rf"hold the text '{'e' * 37}\.\.\.'"),
            ((LEFT, RIGHT), 1, "with batch_size=1 there are none"),
        ],
    )
    def test_pairs_that_are_alone_in_their_batch_are_counted(self, columns, batch_size, said):
        message = find_doubt(TrainingData("positives", columns), "multiple_negatives_ranking", batch_size)
        assert re.search(said, message)

    @pytest.mark.parametrize("columns", [(LEFT, RIGHT), (LEFT, ["e", "e", "f", "f"]), (LEFT, ["a", "b", "c", "d"])])
    def test_pairs_that_share_batches_raise_no_doubt(self, columns):
        assert find_doubt(TrainingData("positives", columns), "multiple_negatives_ranking", 2) is None

    @pytest.mark.parametrize("loss_name", ["multiple_negatives_ranking", "triplet", "SomeLossOfOnesOwn"])
    def test_triplets_raise_doubt_only_if_the_negative_is_the_positive(self, loss_name):
        assert find_doubt(TrainingData("triplets", (["a"] * 4, ["e"] * 4, OTHER)), loss_name, 4) is None
        message = find_doubt(TrainingData("triplets", (LEFT, RIGHT, RIGHT)), loss_name, 4)
        assert message.startswith("The positive of each triplet is also its negative")

    @pytest.mark.parametrize("counts", [(10, 10), (3, 3), (90, 10), (50, 20, 7), (5, 4, 1), (30, 1, 30), (9, 8, 7, 6)])
    @pytest.mark.parametrize("batch_size", [4, 6, 8, 16])
    def test_texts_left_over_by_batches_of_two_per_class_are_counted(self, counts, batch_size):
        labels = np.repeat(np.arange(len(counts)), counts)
        data = TrainingData("classes", ([f"text {row}" for row in range(len(labels))],), labels, np.arange(len(counts)))
        message = find_doubt(data, "batch_all_triplet", batch_size)
        rows = Dataset.from_dict({"text_a": data.columns[0], "label": labels.tolist()})
        sampler = GroupByLabelBatchSampler(rows, batch_size, drop_last=False, valid_label_columns=["label"])
        n_left = len(labels) - sum(map(len, sampler))
        assert (message is None) == (n_left == 0)
        assert message is None or f"leaves out {n_left} of the {len(labels)} texts" in message

    @pytest.mark.parametrize("kind", KINDS)
    def test_ordinary_examples_raise_no_doubt(self, kind):
        assert find_doubt(BY_KIND[kind], AUTO[kind], 2) is None
