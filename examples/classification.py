# ruff: noqa: E402 - an import stands where it is first used
# %% [markdown]
# # Classification: from the names of the labels to a classifier
#
# 300 support tickets have one of six labels. How far do the names of the labels get without a labelled ticket, and how
# many tickets does a classifier need? Then the model itself learns, rows that nobody can be sure of are set aside, and
# the classifier is saved for other programs.
#
#     python examples/classification.py
#     python examples/classification.py --csv questions.csv.gz --text body --label intent --examples 1 2 4 8 --tune 0
#
# To install: `pip install 'skembed[offline,openvino,plot,skops,train]'`.

# %%
import sys
from argparse import ArgumentParser
from pathlib import Path

folder = Path(__file__).parent if "__file__" in globals() else Path()  # a notebook has no __file__
TICKETS = folder / "data" / "support_tickets.csv"
parser = ArgumentParser(description="A column of texts to labels: names, few examples, fine-tuning, doubt, saving.")
parser.add_argument("--csv", type=Path, default=TICKETS, metavar="FILE", help="table to read (default: the tickets)")
parser.add_argument("--text", default="text", metavar="COLUMN", help="its column of texts (default: text)")
parser.add_argument("--label", default="label", metavar="COLUMN", help="its column of labels (default: label)")
parser.add_argument("--examples", nargs="+", type=int, default=[1, 2, 4, 8, 16], metavar="N", help="of each label")
parser.add_argument("--tune", type=int, default=8, metavar="N", help="fine-tune on N of each label; 0: do not")
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
if not options.csv.is_file():
    parser.error(f"there is no file {options.csv}")
if min(options.examples) < 1 or options.tune < 0:
    parser.error("--examples must be 1 or more, --tune 0 or more")

# %% [markdown]
# ## 1. The table
# Half of the rows are for learning, the other half tells how good it is. Rows with an empty cell are left out, and so
# are labels with too few rows for the largest number of examples.

# %%
import pandas as pd
from sklearn.model_selection import train_test_split

table = pd.read_csv(options.csv, dtype=str, keep_default_na=False).fillna("")
for column in (options.text, options.label):
    if column not in table:
        sys.exit(f"{options.csv} has no column {column!r}; it has {', '.join(map(repr, table))}.")
df = pd.DataFrame({"text": table[options.text], "label": table[options.label]})
df = df[df["text"].str.strip().ne("") & df["label"].str.strip().ne("")]
needed = 2 * max(*options.examples, options.tune) + 1
df = df[df.groupby("label")["label"].transform("size") >= needed]
if df["label"].nunique() < 2:
    sys.exit(f"{options.label!r} has fewer than two labels with {needed} texts each; --examples asks for fewer.")
train, test = train_test_split(df, test_size=0.5, stratify=df["label"], random_state=0)
print(f"1. {options.csv.name}: {len(df):,} texts with {df['label'].nunique()} labels, half of them to learn from")
if options.csv == TICKETS:
    print("   A demonstration set written for this project, not a benchmark.")

# %% [markdown]
# ## 2. Without a labelled row
# Each label is described by its name. A text gets the label whose description is nearest.

# %%
from skembed import SentenceEmbeddingClassifier

descriptions = {label: label.replace("_", " ") for label in df["label"].unique()}
zero_shot = SentenceEmbeddingClassifier(descriptions).fit()
print(f"\n2. The names of the labels alone: accuracy {zero_shot.score(test['text'], test['label']):.2f}")

# %% [markdown]
# ## 3. With a few examples
# A description counts as one more example of its label. TF-IDF sees words instead of meanings. Examples are drawn five
# times, and each text is embedded once.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

classifiers = {
    "names and examples": SentenceEmbeddingClassifier(descriptions),
    "examples": SentenceEmbeddingClassifier(),
    "TF-IDF": make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000)),
}
rows = []
for n in options.examples:
    for draw in range(5):
        few = train.groupby("label").sample(n, random_state=draw)
        for name, classifier in classifiers.items():
            score = classifier.fit(few["text"], few["label"]).score(test["text"], test["label"])
            rows.append({"examples": n, "draw": draw, "classifier": name, "accuracy": score})
scores = pd.DataFrame(rows)
curves = scores.pivot_table("accuracy", "examples", "classifier", sort=False)[list(classifiers)]
print("\n3. Accuracy by examples of each label, means of five draws\n")
print(curves.rename_axis(columns=None).to_string(float_format="%.2f"))

# %% [markdown]
# ## 4. The model itself learns
# A fine-tuner as the embedder learns from examples and names, and the classifier from its vectors.

# %%
from skembed import SentenceEmbeddingFineTuner

if options.tune:
    few = train.groupby("label").sample(options.tune, random_state=0)
    tuner = SentenceEmbeddingFineTuner(n_pairs_per_text=8, random_state=0)
    print(f"\n4. Accuracy with {options.tune} examples of each label")
    for name, embedder in (("as it is", None), ("fine-tuned", tuner)):
        tuned = SentenceEmbeddingClassifier(descriptions, embedder=embedder).fit(few["text"], few["label"])
        print(f"   the model {name}: {tuned.score(test['text'], test['label']):.2f}")

# %% [markdown]
# ## 5. Doubt
# The surest half is right more often. Predictions for rows that were left out say where to draw the line: the lowest
# probability at and above which 95 % of them are right. Texts below it are for people.

# %%
import numpy as np
from sklearn.model_selection import cross_val_predict

classifier = SentenceEmbeddingClassifier()
left_out = cross_val_predict(classifier, train["text"], train["label"], cv=5, method="predict_proba")
classifier.fit(train["text"], train["label"])
sure, is_right = left_out.max(axis=1), classifier.classes_[left_out.argmax(axis=1)] == train["label"].to_numpy()
surest_first = np.argsort(-sure)
is_precise = np.cumsum(is_right[surest_first]) >= 0.95 * np.arange(1, len(train) + 1)
limit = sure[surest_first][is_precise].min(initial=1)
probabilities = pd.Series(classifier.predict_proba(test["text"]).max(axis=1), index=test.index)
is_right = classifier.predict(test["text"]) == test["label"]
print(f"\n5. On {len(train):,} rows: right in {is_right.mean():.0%} of the other rows")
is_sure = probabilities >= limit
print(f"   Sure enough (from {limit:.2f}): {is_sure.mean():.0%} of them, right in {is_right[is_sure].mean():.0%}")
for row in probabilities.nsmallest(3).index:
    print(f"   unsure ({probabilities[row]:.2f}): {test['text'][row][:90]}")

# %% [markdown]
# ## 6. Saved for other programs
# skops writes files that run no code when they are read. It asks which types to trust; these two are all of skembed.

# %%
import skops.io

TRUSTED = [
    "skembed.classification.classifier.SentenceEmbeddingClassifier",
    "skembed.transformer.SentenceEmbeddingTransformer",
]
skops.io.dump(classifier, "classifier.skops")
loaded = skops.io.load("classifier.skops", trusted=TRUSTED)
is_same = (loaded.predict(test["text"]) == classifier.predict(test["text"])).all()
print(
    f"\n6. classifier.skops: {Path('classifier.skops').stat().st_size / 1000:.0f} kB; the same predictions: {is_same}"
)

# %% [markdown]
# ## The picture
# Points are means of five draws, bars their standard deviation.

# %%
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("\nNo picture: matplotlib is missing. To install it: pip install 'skembed[plot]'")
else:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    spread = scores.pivot_table("accuracy", "examples", "classifier", aggfunc="std")
    for name, marker in zip(classifiers, "os^", strict=True):
        axes.errorbar(curves.index, curves[name], spread[name], label=name, marker=marker, capsize=3)
    axes.axhline(zero_shot.score(test["text"], test["label"]), label="names alone", color="grey", linestyle="--")
    axes.set(xscale="log", xlabel="examples of each label", ylabel="accuracy on the other half", ylim=(0, 1))
    axes.set_xticks(curves.index, curves.index)
    axes.minorticks_off()
    axes.legend(loc="lower right")
    figure.savefig("classification.png", dpi=120)
    print("\nThe picture is in classification.png")
