# ruff: noqa: E402 - an import stands where it is first used
# %% [markdown]
# # Reviews in pandas: a column of vectors, and what to do with it
#
# With skembed, a column of texts has a method `embed`. Its vectors can be a column of the same table, one vector per
# row, which is filtered, joined and saved like the other columns, while scikit-learn gets the matrix. This script shows
# clusters, a search, near-duplicates, a parquet file and a picture.
#
#     python examples/pandas_reviews.py
#     python examples/pandas_reviews.py --csv messages.csv.gz --text body --clusters 12 --query "see you tomorrow"
#
# The file needs pyarrow and the picture matplotlib: `pip install 'skembed[openvino,parquet,plot]'`.

# %%
import sys
from argparse import ArgumentParser
from pathlib import Path

folder = Path(__file__).parent if "__file__" in globals() else Path()  # a notebook has no __file__
OWN_DATA = folder / "data" / "reviews.csv"
parser = ArgumentParser(description="A column of vectors in pandas: clusters, search, near-duplicates, parquet.")
parser.add_argument("--csv", type=Path, default=OWN_DATA, metavar="FILE", help="table to read (default: the reviews)")
parser.add_argument("--text", default="review", metavar="COLUMN", help="where its texts are (default: review)")
parser.add_argument("--rows", type=int, default=2000, metavar="N", help="read N random rows at most (default: 2000)")
parser.add_argument("--clusters", type=int, default=8, metavar="N", help="how many to make (default: 8)")
parser.add_argument("--query", default="it arrived broken", metavar="TEXT", help="what to search for")
parser.add_argument("--parquet", type=Path, default=Path("reviews.parquet"), metavar="FILE", help="where to save it")
parser.add_argument("--plot", type=Path, default=Path("pandas_reviews.png"), metavar="FILE", help="where the PNG goes")
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
if not options.csv.is_file():
    parser.error(f"there is no file {options.csv}")
for path in (options.parquet, options.plot):
    if not path.absolute().parent.is_dir():
        parser.error(f"there is no folder {path.parent} for {path.name}")
if options.rows < 1 or options.clusters < 2:
    parser.error("--rows must be 1 or more, --clusters 2 or more")

# %% [markdown]
# ## 1. The table
# Only an empty cell is a missing text here; by default, pandas would also treat the text "NA" as missing. A column
# `product` is not needed, but if there is one, the clusters are compared with it.

# %%
import pandas as pd

table = pd.read_csv(options.csv, dtype={options.text: str, "product": str}, keep_default_na=False, na_values=[""])
if options.text not in table:
    sys.exit(f"{options.csv} has no column {options.text!r}; it has {', '.join(map(repr, table))}.")
df = table.sample(min(options.rows, len(table)), random_state=0).sort_index()
texts = df[options.text]
products = df["product"].fillna("none") if "product" in df else None
n_products = "" if products is None else f", {products.nunique():,} products"
print(f"1. {options.csv.name}: {len(df):,} rows, {texts.isna().sum():,} of them without a text{n_products}")
if options.csv == OWN_DATA:
    print("   A demonstration set written for this project, not a benchmark.")
if len(df) < len(table):
    print(f"   These are drawn at random from {len(table):,} rows; --rows draws more.")
if texts.nunique() < options.clusters:
    sys.exit(f"{texts.nunique()} different texts do not make {options.clusters} clusters; --clusters sets the number.")

# %% [markdown]
# ## 2. Vectors, as one column or as many
# `df["review"].embed(output="vector")` returns one column with a vector in each row; a row without a text stays
# missing. The model reads a text once, even if it appears twice. With a cache, this also holds for the next call: the
# wide frame, with one float32 column per dimension, needs no second pass.

# %%
import warnings

import skembed

cache = skembed.EmbeddingCache()
df["vector"] = texts.embed(output="vector", cache=cache)
n_read = cache.stats()["misses"]
warnings.simplefilter("ignore", skembed.TruncationWarning)  # if texts were too long, the call above has warned already
wide = texts.embed(cache=cache)
print(f"\n2. df['vector']: {df['vector'].dtype.name}, {df['vector'].isna().sum():,} rows missing\n")
examples = df.iloc[sorted({0, 1, texts.isna().argmax()})]  # two rows, and the first one without a text
print(examples[[options.text, "vector"]].to_string(max_colwidth=60))
print(f"\n   {texts.count():,} texts, {texts.nunique():,} different, {n_read:,} read by the model")
print(f"   Wide, {wide.columns[0]} to {wide.columns[-1]}: {cache.stats()['misses'] - n_read:,} more read")

# %% [markdown]
# ## 3. Clusters
# `text.cluster` groups the rows by topic and names each group by words that set its texts apart. The text nearest to
# the centre of a group, which has rank 1, represents it. The groups are found without the products; "mostly" is the
# most frequent one of a group. The Rand index measures how well groups and products agree: 1 is exact, about 0 is
# chance.

# %%
from textwrap import shorten

from sklearn.metrics import adjusted_rand_score

found = pd.DataFrame({"text": texts, "vector": df["vector"], "product": products})
found = found.join(texts.text.cluster(options.clusters, vectors=df["vector"])).dropna(subset="text")
found["short"] = [shorten(text, 76, placeholder=" ...") for text in found["text"]]
matrix = found["vector"].to_numpy("float32")
clusters = (
    found.sort_values("rank")
    .groupby("cluster")
    .agg(name=("name", "first"), nearest=("short", "first"), texts=("short", "size"))
)
if products is not None:
    counts = pd.crosstab(found["cluster"], found["product"])
    clusters["mostly"], clusters["share"] = counts.idxmax(axis=1), counts.max(axis=1) / clusters["texts"]
print(f"\n3. {len(clusters)} clusters, and the text nearest to the centre of each\n")
print(clusters.drop(columns="nearest").to_string(float_format="{:.0%}".format))
print()
for number, nearest in clusters["nearest"].items():
    print(f"   {number}: {nearest}")
if products is not None:
    print(f"\n   Adjusted Rand index: {adjusted_rand_score(found['product'], found['cluster']):.2f}")

# %% [markdown]
# ## 4. Search by meaning
# The vectors have unit length, so the product of two is their cosine: matrix times query scores all the rows.

# %%
found["score"] = matrix @ skembed.embed([options.query], cache=cache)[0]
hits = found.nlargest(5, "score")
hits["rank"] = range(1, len(hits) + 1)
print(f"\n4. The texts nearest to {options.query!r}\n")
columns = ["rank", "score"] if products is None else ["rank", "score", "product"]
print(hits.set_index("short").rename_axis(None)[columns].to_string(float_format="%.3f"))

# %% [markdown]
# ## 5. Near-duplicates
# `NearDuplicates` joins all rows that are connected by cosines of 0.95 or more. That is strict, because a dropped row
# is gone. The pairs that stay apart show whether it is too strict for these texts. (At most ten groups and three pairs
# are printed.)

# %%
from sklearn.neighbors import NearestNeighbors

SAME = 0.95


def show_texts(cosine, texts):
    print(f"   {cosine:.3f}  " + "\n          ".join(shorten(text, 104, placeholder=" ...") for text in texts))


found["group"] = skembed.NearDuplicates(threshold=SAME).fit_predict(found["vector"])
kept, n_repeated = found.drop_duplicates("group"), found["text"].duplicated().sum()
reworded = [group for _, group in found.groupby("group") if group["text"].nunique() > 1]
print(f"\n5. {len(found) - len(kept):,} of {len(found):,} rows could be dropped, {n_repeated:,} of them exact repeats")
print(f"   {len(reworded):,} groups of texts that are nearly the same, each with its smallest cosine\n")
for group in reworded[:10]:
    vectors = group["vector"].to_numpy("float32")
    show_texts((vectors @ vectors.T).min(), group["text"].unique())
if len(kept) > 1:
    distance, place = NearestNeighbors(n_neighbors=1).fit(kept["vector"].to_numpy("float32")).kneighbors()
    pairs = {tuple(sorted(pair)): d for pair, d in zip(enumerate(place[:, 0]), distance[:, 0], strict=True)}
    print("\n   Of the rows kept, the nearest to another\n")
    for pair in sorted(pairs, key=pairs.get)[:3]:
        show_texts(1 - pairs[pair] ** 2 / 2, kept["text"].iloc[list(pair)])

# %% [markdown]
# ## 6. A file
# pandas writes the vectors next to the other columns. Any parquet reader can read them: plain pandas as one array
# object per row, `skembed.read_parquet` as the original vector column.

# %%
try:
    df.to_parquet(options.parquet, engine="pyarrow")
except ImportError:
    print("\n6. No file: pyarrow is missing. To install it: pip install 'skembed[parquet]'")
else:
    again, plain = skembed.read_parquet(options.parquet), pd.read_parquet(options.parquet)
    print(f"\n6. {options.parquet}: {options.parquet.stat().st_size / 1024:,.0f} KiB\n")
    print(f"   skembed.read_parquet: {again['vector'].dtype.name}; the same table as before: {again.equals(df)}")
    print(f"   pandas.read_parquet:  {plain['vector'].dtype.name}")

# %% [markdown]
# ## 7. The picture
# A map of the vectors by t-SNE, which is designed to keep near texts near: for these reviews, scikit-learn's
# `trustworthiness` is 0.94, compared with 0.71 for the first two axes of a PCA. The axes of the map mean nothing, and
# distances across it mean little.

# %%
COLORS = ["#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#888888"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
try:
    from matplotlib import pyplot as plt
except ImportError:
    print("\n7. No picture: matplotlib is missing. To install it: pip install 'skembed[plot]'")
else:
    from sklearn.manifold import TSNE

    tsne = TSNE(metric="cosine", init="pca", perplexity=min(30, len(found) - 1), random_state=0)
    found["x"], found["y"] = tsne.fit_transform(matrix).T
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    for number, members in found.groupby("cluster"):
        top = "" if products is None else ", {share:.0%} {mostly}".format_map(clusters.loc[number])
        style = {"color": COLORS[number % 8], "marker": MARKERS[(number + number // 8) % 8], "s": 40, "linewidth": 0.5}
        axes.scatter(members["x"], members["y"], label=f"{number}: {len(members):,} texts{top}", **style)
    found_texts = found.loc[hits.index]
    ring = {"s": 150, "facecolors": "none", "edgecolors": "black"}
    axes.scatter(found_texts["x"], found_texts["y"], label="found by the search", **ring)
    axes.set(xticks=[], yticks=[], title=f"{options.csv.name}: {len(found):,} texts in {len(clusters)} clusters")
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, title="Cluster", alignment="left")
    figure.savefig(options.plot, format="png", dpi=150)
    print(f"\n7. The picture is in {options.plot}")
