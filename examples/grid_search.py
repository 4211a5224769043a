# ruff: noqa: E402 - an import stands where it is first used
# %% [markdown]
# # Grid search: which pooling, which layer, how many dimensions?
#
# A sentence embedding depends on choices. The model reads a text as tokens (words and pieces of words) and computes a
# vector for every token in each of its layers. Which layer is used, and how its token vectors are combined into one
# vector for the text, decides what the numbers are good at. Here, scikit-learn's GridSearchCV tries such choices
# together with the classifier's own setting, while the model reads every text once:
#
#     python examples/grid_search.py
#     python examples/grid_search.py --csv reviews.csv.gz --text body --label stars --plot reviews.png
#
# The picture at the end needs matplotlib: `pip install 'skembed[openvino,plot]'`.

# %%
import sys
from argparse import ArgumentParser
from pathlib import Path

folder = Path(__file__).parent if "__file__" in globals() else Path()  # a notebook has no __file__
OWN_DATA = folder / "data" / "support_tickets.csv"
parser = ArgumentParser(description="A grid search over pooling, layer, dimensions and C, on a CSV file.")
parser.add_argument("--csv", type=Path, default=OWN_DATA, metavar="FILE", help="table to read (default: the tickets)")
parser.add_argument("--text", default="text", metavar="COLUMN", help="where its texts are (default: text)")
parser.add_argument("--label", default="label", metavar="COLUMN", help="where its categories are (default: label)")
parser.add_argument("--rows", type=int, default=2000, metavar="N", help="read N random rows at most (default: 2000)")
parser.add_argument("--folds", type=int, default=5, metavar="N", help="of the cross-validation (default: 5)")
parser.add_argument("--plot", type=Path, default=Path("grid_search.png"), metavar="FILE", help="where the PNG goes")
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
if not options.csv.is_file():
    parser.error(f"there is no file {options.csv}")
if not options.plot.absolute().parent.is_dir():
    parser.error(f"there is no folder {options.plot.parent} for the picture")
if options.folds < 2 or options.rows < 1:
    parser.error("--folds must be 2 or more, --rows 1 or more")

# %% [markdown]
# ## 1. The texts, and a quarter of them held out
# The best of many candidates looks better than it is: it was chosen for its score, and some of that was luck. A quarter
# of the texts therefore takes no part in the search and is used once, at the end. Labels with too few texts for all the
# folds are omitted, and so are rows with an empty cell.

# %%
import pandas as pd
from sklearn.model_selection import train_test_split

table = pd.read_csv(options.csv, dtype=str, keep_default_na=False).fillna("")
missing_columns = [name for name in (options.text, options.label) if name not in table]
if missing_columns:
    sys.exit(f"{options.csv} has no column {missing_columns[0]!r}; it has {', '.join(map(repr, table))}.")
rows = table.sample(min(options.rows, len(table)), random_state=0).sort_index()
texts, labels = rows[options.text], rows[options.label]
is_full = texts.str.strip().ne("") & labels.str.strip().ne("")
is_usable = is_full & labels.where(is_full).map(labels[is_full].value_counts()).ge(2 * options.folds)
texts, labels = texts[is_usable], labels[is_usable]
print(f"1. {options.csv.name}: {len(texts):,} texts with {labels.nunique()} labels")
if options.csv == OWN_DATA:
    print("   A demonstration set written for this project: its scores are not a benchmark.")
if len(rows) < len(table):
    print(f"   These are from {len(rows):,} rows, drawn at random from {len(table):,}; --rows draws more.")
if len(texts) < len(rows):
    n_rare = is_full.sum() - len(texts)
    print(f"   Left out: {(~is_full).sum():,} rows with an empty cell, {n_rare:,} with a label of too few texts.")
if labels.nunique() < 2:
    sys.exit(f"Nothing to tell apart: {options.label!r} has fewer than two labels with {2 * options.folds} texts each.")
X, X_test, y, y_test = train_test_split(texts, labels, test_size=0.25, stratify=labels, random_state=0)
print(f"   {len(X):,} for the search, {len(X_test):,} held out until the end")

# %% [markdown]
# ## 2. How long it takes to encode the texts once
# This is the yardstick for the search: all its texts pass through the model once, and nothing is kept (`cache=None`).
# The model is loaded before the clock starts.

# %%
import warnings
from time import perf_counter

import skembed

skembed.embed(["This sentence loads the model."], cache=None)
start = perf_counter()
skembed.embed(X, cache=None)
encode_seconds = perf_counter() - start
warnings.simplefilter("ignore", skembed.TruncationWarning)  # if texts were too long, the line above has warned already
print(f"\n2. Encoding the {len(X):,} texts once, without a cache: {encode_seconds:.1f} s")

# %% [markdown]
# ## 3. The grid
# - **pooling**: how the vectors of the tokens are combined. "mean" averages them, "cls" takes the vector of a special
#   first token, "max" takes the largest value in each dimension. A model was trained with one of them (this one with
#   "mean"), and that one usually wins, but not for every task.
# - **layers**: the last layer, 6 in this model, is shaped most by the model's training task. Earlier layers keep more
#   of the wording and the grammar, which may be just what a task needs. A tuple such as (5, 6) averages layers.
# - **truncate_dim**: how many leading numbers of the 384 to keep. Fewer take less memory and time in every later step.
#   This model was not trained to be truncated, so expect a loss; section 5 shows it.
# - **C**: how closely the classifier follows its training texts.
#
# The scaler matters here. In earlier layers, and with poolings that the model was not trained with, all texts lie close
# together and far from zero. A classifier sees almost nothing of their differences until every number has mean 0 and
# variance 1.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

grid = {
    "embed__pooling": ["mean", "cls", "max"],
    "embed__layers": [1, 2, 3, 4, 5, 6],
    "embed__truncate_dim": [96, 192, 384],
    "classify__C": [0.01, 0.1, 1],
}
DEFAULTS = {"embed__pooling": "mean", "embed__layers": 6, "embed__truncate_dim": 384, "classify__C": 1}
cache = skembed.EmbeddingCache()
pipeline = Pipeline(
    [
        ("embed", skembed.SentenceEmbeddingTransformer(cache=cache)),
        ("scale", StandardScaler()),
        ("classify", LogisticRegression(max_iter=2000)),
    ]
)
search = GridSearchCV(pipeline, grid, cv=StratifiedKFold(options.folds, shuffle=True, random_state=0))
n_candidates = len(ParameterGrid(grid))
n_fits = n_candidates * options.folds + 1
print(f"\n3. {n_candidates} candidates x {options.folds} folds, and the winner once more on all: {n_fits} fits\n")
for name, values in grid.items():
    print(f"   {name.partition('__')[2]:<13} {', '.join(map(str, values))}")

# %% [markdown]
# ## 4. One pass through the model, then the search
# `precompute` finds every setting of the embedding in the search and computes all of them together. When the model has
# read a text, its layers are available anyway; pooling them is cheap, and truncation needs no model at all. Afterwards,
# the search only reads the cache. (This cache is in memory, which processes do not share. For `n_jobs=2`, give it a
# folder: `EmbeddingCache("folder")`.)

# %%
done = skembed.precompute(search, X)
ahead = cache.stats()
print(f"\n4. precompute: {done.texts:,} texts, {done.models} model, {done.settings} settings, {done.seconds:.1f} s")
start = perf_counter()
search.fit(X, y)
fit_seconds = perf_counter() - start
after = cache.stats()
n_found, n_encoded = after["hits"] - ahead["hits"], after["misses"] - ahead["misses"]
print(f"   The search after it: {n_found:,} texts found in the cache, {n_encoded:,} encoded")

# %% [markdown]
# ## 5. The winner and the scores
# `cv_results_` has a row for each candidate. The score is the mean accuracy over the folds. Small differences mean
# little: one more correct ticket out of 225 adds 0.004.

# %%
results = pd.DataFrame(search.cv_results_).rename(columns=lambda name: name.removeprefix("param_").split("__")[-1])
results["error"] = results["std_test_score"] / (options.folds - 1) ** 0.5  # standard error of the mean over the folds
winner = results.loc[search.best_index_]
plain = results[results["params"] == DEFAULTS].iloc[0]


def describe(candidate):
    return f"{candidate.pooling}, layer {candidate.layers}, {candidate.truncate_dim} dimensions, C={candidate.C}"


print("\n5. Accuracy in the cross-validation\n")
print(f"   The winner       {winner.mean_test_score:.3f}   {describe(winner)}")
print(f"   The defaults     {plain.mean_test_score:.3f}   {describe(plain)}")
print("\n   Pooling x layer, the best over dimensions and C\n")
best = results.pivot_table(index="pooling", columns="layers", values="mean_test_score", aggfunc="max", sort=False)
print(best.rename_axis(index=None, columns="layer").to_string(float_format="%.3f"))
print(f"\n   Fewer dimensions ({winner.pooling}, layer {winner.layers}, the best over C)\n")
same_vectors = results[results["pooling"].eq(winner.pooling) & results["layers"].eq(winner.layers)]
by_dim = same_vectors.groupby("truncate_dim")["mean_test_score"].max()[::-1].to_frame("accuracy")
by_dim["difference"] = (by_dim["accuracy"] - by_dim["accuracy"].iloc[0]).map("{:+.3f}".format)
by_dim["bytes a text"] = 4 * by_dim.index
print(by_dim.rename_axis("dimensions").reset_index().to_string(index=False, float_format="%.3f"))

# %% [markdown]
# ## 6. An unbiased score
# The held-out texts are used once. If there are too few texts to hold some out, nested cross-validation does the same
# for every text in turn: `cross_val_score(search, X, y)`. It costs no second pass through the model either.

# %%
test_score = search.score(X_test, y_test)
test_error = (test_score * (1 - test_score) / len(y_test)) ** 0.5
print(f"\n6. The winner on the {len(X_test):,} held-out texts: {test_score:.3f}, standard error {test_error:.3f}")
print(f"   (always guessing {y.mode()[0]!r}: {y_test.eq(y.mode()[0]).mean():.3f})")

# %% [markdown]
# ## 7. What it cost
# Without a cache, every fit encodes its training texts and every score its test texts: together all texts, for each
# candidate and fold. The final fit, with the winner's settings, encodes all of them once more. The time for this is
# calculated from section 2, not measured.

# %%
costs = {
    "Texts through the model": f"{after['misses']:,}",
    f"Without a cache: ({n_candidates} x {options.folds} + 1) x {len(X):,}": f"{n_fits * len(X):,}",
    "": "",
    "Encoding the texts once, as in section 2": f"{encode_seconds:,.1f} s",
    "The whole search": f"{done.seconds + fit_seconds:,.1f} s",
    "   of it precompute": f"{done.seconds:,.1f} s",
    "   of it fits and scores of the classifier": f"{fit_seconds:,.1f} s",
    f"Encoding {n_fits} times, calculated": f"{n_fits * encode_seconds:,.0f} s  ",
}
print("\n7. What it cost\n")
for what, value in costs.items():
    print(f"   {what:<42} {value:>11}".rstrip())

# %% [markdown]
# ## 8. The picture
# Left: accuracy by layer and pooling. Right: the cost of fewer dimensions. Each point is the best over the rest of the
# grid; the bars show one standard error over the folds, a measure of how much to trust a difference.

# %%
LOOKS = {"mean": ("#0072B2", "o", "-"), "cls": ("#D55E00", "s", "--"), "max": ("#009E73", "^", ":")}


def draw_scores(axes, parameter, positions):
    for number, (pooling, (color, marker, line)) in enumerate(LOOKS.items()):
        of_pooling = results[results["pooling"] == pooling]
        top = of_pooling.loc[of_pooling.groupby(parameter)["mean_test_score"].idxmax()]
        places = [position + 0.1 * (number - 1) for position in positions]  # side by side, so that bars do not overlap
        style = {"color": color, "marker": marker, "linestyle": line, "capsize": 3, "markersize": 6}
        axes.errorbar(places, top["mean_test_score"], yerr=top["error"], label=pooling, **style)
    axes.set_xticks(positions, sorted(results[parameter].unique()))
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


try:
    from matplotlib import pyplot as plt
except ImportError:
    print("\n8. No picture: matplotlib is missing. To install it: pip install 'skembed[plot]'")
else:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.5), sharey=True, width_ratios=[2, 1], layout="constrained")
    draw_scores(left, "layers", range(6))
    draw_scores(right, "truncate_dim", range(3))
    left.set(xlabel="Hidden layer (6: the last)", ylabel=f"Accuracy (mean of {options.folds} folds ± standard error)")
    right.set(xlabel="Dimensions kept, of 384")
    figure.suptitle(f"{options.csv.name}: {len(X):,} texts, {y.nunique()} labels; best over the rest of the grid")
    figure.legend(*left.get_legend_handles_labels(), title="Pooling", loc="outside right center", frameon=False)
    figure.savefig(options.plot, format="png", dpi=150)
    print(f"\n8. The picture is in {options.plot}")
