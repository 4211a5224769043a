# ruff: noqa: E402 - an import stands where it is first used
# %% [markdown]
# # Record linkage: the same products in the tables of two shops
#
# Two shops describe the same products in their own words. Which rows belong together? Embeddings see the meaning,
# TF-IDF of characters sees model numbers, and a classifier learns from known links how much each of them is worth. At
# the end, each row has one partner at most.
#
#     python examples/record_linkage.py
#     python examples/record_linkage.py --left shop_a.csv.gz --right shop_b.csv.gz --links same.csv.gz
#
# To install: `pip install 'skembed[offline,openvino]'`.

# %%
import sys
from argparse import ArgumentParser
from pathlib import Path

folder = Path(__file__).parent if "__file__" in globals() else Path()  # a notebook has no __file__
OWN_DATA = folder / "data" / "products_a.csv"
parser = ArgumentParser(description="Two product tables and some known links to the links of all rows.")
parser.add_argument("--left", type=Path, default=OWN_DATA, metavar="FILE", help="table with id, text, price")
parser.add_argument("--right", type=Path, default=folder / "data" / "products_b.csv", metavar="FILE", help="the other")
parser.add_argument(
    "--links",
    type=Path,
    default=folder / "data" / "product_links.csv",
    metavar="FILE",
    help="id_a and id_b of rows that belong together; if there is a column label, those where it is 1",
)
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
for file in (options.left, options.right, options.links):
    if not file.is_file():
        parser.error(f"there is no file {file}")

# %% [markdown]
# ## 1. The tables
# A column `description` is optional.

# %%
import numpy as np
import pandas as pd

left, right, links = (pd.read_csv(file, keep_default_na=False) for file in vars(options).values())
for file, table, columns in (
    (options.left, left, ["id", "text", "price"]),
    (options.right, right, ["id", "text", "price"]),
    (options.links, links, ["id_a", "id_b"]),
):
    if missing := [column for column in columns if column not in table]:
        sys.exit(f"{file} has no column {missing[0]!r}; it has {', '.join(map(repr, table))}.")
if "label" in links:
    links = links[links["label"] == 1]
is_link = np.zeros((len(left), len(right)), dtype=bool)
is_link[pd.Index(left["id"]).get_indexer(links["id_a"]), pd.Index(right["id"]).get_indexer(links["id_b"])] = True
print(f"1. {len(left):,} and {len(right):,} rows, {is_link.sum():,} links between them are known")
if options.left == OWN_DATA:
    print("   A demonstration set made up for this project, not a benchmark.")

# %% [markdown]
# ## 2. Links by the embedding alone
# `text.join` needs no known link. `min_score` is what two names must have in common. Nearest rows are often nearest to
# several; one to one, each is taken once.

# %%
import skembed


def measure(rows, others):
    """Return precision, recall and F1 of links."""
    n_right = is_link[rows, others].sum()
    return n_right / max(1, len(rows)), n_right / is_link.sum(), 2 * n_right / (len(rows) + is_link.sum())


vectors = {"vectors": skembed.embed(left["text"]), "other_vectors": skembed.embed(right["text"])}
print("\n2. The embedding alone          precision  recall    F1")
for name, one_to_one in (("nearest row", False), ("one to one", True)):
    joined = left["text"].text.join(right["text"], min_score=0.6, one_to_one=one_to_one, **vectors)
    joined = joined.dropna(subset="score")
    figures = measure(joined.index, joined["position"].to_numpy(dtype=int))
    print(f"   {name + ', min_score=0.6':<30}" + "".join(f"{figure:8.3f}" for figure in figures))

# %% [markdown]
# ## 3. Candidates
# No pair that is among the ten best of neither row, by neither score, is looked at again.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer


def tfidf(texts, others, **params):
    """Return the cosines of all pairs of texts by their TF-IDF."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, **params).fit([*texts, *others])
    return (vectorizer.transform(texts) @ vectorizer.transform(others).T).toarray()


def rank(scores, axis):
    return (-scores).argsort(axis=axis, kind="stable").argsort(axis=axis, kind="stable")


CHARACTERS = {"analyzer": "char_wb", "ngram_range": (3, 5)}
scores = {
    "embedding": vectors["vectors"] @ vectors["other_vectors"].T,
    "characters": tfidf(left["text"], right["text"], **CHARACTERS),
}
ranks = {(name, axis): rank(cosines, axis) for name, cosines in scores.items() for axis in (0, 1)}
rows, others = np.nonzero(np.minimum.reduce(list(ranks.values())) < 10)
kept = is_link[rows, others].sum() / is_link.sum()
print(f"\n3. {len(rows):,} of {is_link.size:,} pairs are candidates, with {kept:.1%} of the links")

# %% [markdown]
# ## 4. What tells a link
# Scores, ranks from both sides, how far a pair is ahead of the next best of either row, prices, the first word, which
# is often the brand, and tokens with digits, which are often model numbers.

# %%
import re


def numbers_in(text):
    """Return the tokens with a digit: "KX-720" is kx720."""
    tokens = re.findall(r"[a-z0-9]+", text.lower().replace("-", ""))
    return {token for token in tokens if len(token) > 2 and any(map(str.isdigit, token))}


def lead(cosines, axis):
    """Return how far each pair is ahead of the best other pair of its row or column."""
    best, second = (np.sort(cosines, axis=axis).take([place], axis=axis) for place in (-1, -2))
    return cosines - np.where(cosines >= best, second, best)


def longest_in(numbers, texts):
    """Return, for each candidate, the length of the longest number that the other text has, too."""
    return [max((len(n) for n in of_row if n in text), default=0) for of_row, text in zip(numbers, texts, strict=True)]


sides = left.loc[rows].reset_index(drop=True), right.loc[others].reset_index(drop=True)
prices = [pd.to_numeric(side["price"], errors="coerce").where(lambda price: price > 0) for side in sides]
numbers = [side["text"].map(numbers_in) for side in sides]
compact = [side["text"].str.lower().str.replace(r"[^a-z0-9]", "", regex=True) for side in sides]
first_words = [side["text"].str.lower().str.split().str[0] for side in sides]
features = pd.DataFrame(
    {
        **{name: cosines[rows, others] for name, cosines in scores.items()},
        **{f"rank by {name} {axis}": table[rows, others] for (name, axis), table in ranks.items()},
        **{f"lead by {name} {axis}": lead(scores[name], axis)[rows, others] for name, axis in ranks},
        "words": tfidf(left["text"], right["text"])[rows, others],
        "price": np.abs(np.log(prices[0] / prices[1])),
        "first word": first_words[0] == first_words[1],
        "numbers in common": [len(mine & theirs) for mine, theirs in zip(*numbers, strict=True)],
        "other numbers": [len(mine ^ theirs) for mine, theirs in zip(*numbers, strict=True)],
        "longest number": longest_in(numbers[0], compact[1]),
        "longest number of the other": longest_in(numbers[1], compact[0]),
    }
).astype(float)
if "description" in left and "description" in right:
    whole = (table["text"] + " " + table["description"] for table in (left, right))
    features["characters with description"] = tfidf(*whole, **CHARACTERS)[rows, others]
print(f"\n4. {features.shape[1]} features of each pair")

# %% [markdown]
# ## 5. A classifier, and one partner for each
# All pairs of a row of the left table are in one fold, so that each pair is judged by a classifier that has seen no
# pair of its row. The assignment chooses the links with the largest sum of probabilities. Below which probability a
# link does not count is chosen on the other four folds, too.

# %%
from scipy.optimize import linear_sum_assignment
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

classifier = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression(max_iter=1000))
folds = list(GroupKFold(5).split(rows, groups=rows))
target = is_link[rows, others]
probabilities = np.zeros(is_link.shape)
probabilities[rows, others] = cross_val_predict(classifier, features, target, cv=folds, method="predict_proba")[:, 1]
row, other = linear_sum_assignment(probabilities, maximize=True)
probability = probabilities[row, other]
THRESHOLDS = np.arange(0.02, 1, 0.02)


def f1_of(is_chosen, is_counted):
    """Return the F1 of links, counting some rows of the left table."""
    counted = is_chosen & is_counted[row]
    return 2 * is_link[row, other][counted].sum() / max(1, counted.sum() + is_link[is_counted].sum())


is_kept, thresholds = np.zeros(len(row), dtype=bool), []
for _, held_out in folds:
    is_held_out = np.isin(np.arange(len(left)), rows[held_out])
    thresholds.append(max(THRESHOLDS, key=lambda threshold: f1_of(probability >= threshold, ~is_held_out)))
    is_kept |= is_held_out[row] & (probability >= thresholds[-1])
precision, recall, f1 = measure(row[is_kept], other[is_kept])
print(f"\n5. Links by the classifier, one to one, at probabilities from {min(thresholds):.2f} to {max(thresholds):.2f}")
print(f"   precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")

# %% [markdown]
# ## 6. Which features count
# The largest weights, for features of the same scale.

# %%
fitted = classifier.fit(features, target)
names = fitted[0].get_feature_names_out(features.columns)
weights = pd.Series(fitted[-1].coef_[0], index=names).sort_values(key=np.abs, ascending=False)
print("\n6. The five largest weights\n")
print(weights.head().to_string(float_format="%+.2f"))
