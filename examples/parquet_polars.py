# %% [markdown]
# # From pandas to a parquet file to polars: one column of vectors
#
# The vectors are a column like any other. In the file they are fixed-size lists of float32, which any parquet reader
# understands. polars reads them as an array column and can continue without pandas. To install both:
# `pip install 'skembed[openvino,parquet,plot,polars]'`.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import polars as pl

import skembed
import skembed.frames.polars
from skembed import EmbeddingMapDisplay

folder = Path(__file__).parent if "__file__" in globals() else Path()
reviews = pd.read_csv(folder / "data" / "reviews.csv").dropna(subset="review")
reviews["vector"] = reviews["review"].embed(output="vector")
print(f"pandas: {reviews['vector'].dtype.name}, made by {reviews['vector'].array.model}")

# %% [markdown]
# ## The file
# `skembed.read_parquet` returns the vector column, including the name of the model that made it.

# %%
path = Path(tempfile.mkdtemp()) / "reviews.parquet"
reviews.to_parquet(path)
again = skembed.read_parquet(path)
print(f"file: {path.stat().st_size / 1024:.0f} KiB; read back, it is the same table: {again.equals(reviews)}")
print(f"plain pandas: {type(pd.read_parquet(path)['vector'].iloc[0]).__name__} objects")

# %% [markdown]
# ## polars
# The query is embedded in polars, too, and the cosines are a matrix product. (The vectors have unit length.)

# %%
frame = pl.read_parquet(path)
print(f"polars: {frame.schema['vector']}")
query = pl.Series(["my feet hurt"]).text.embed().to_numpy()[0]
frame = frame.with_columns(score=pl.Series(frame["vector"].to_numpy() @ query))
best = frame.group_by("product").agg(pl.col("score").max(), pl.col("stars").mean()).sort("score", descending=True)
print(f"\nBest answer to 'my feet hurt' by product:\n{best.head(4)}")

# %% [markdown]
# ## The picture
# All reviews, coloured by their cosine to the query.

# %%
figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
scores = pd.Series(frame["score"].to_numpy(), name="cosine to 'my feet hurt'")
EmbeddingMapDisplay.from_embeddings(again["vector"], labels=scores, random_state=0, ax=axes)
figure.savefig("parquet_polars.png", dpi=120)
