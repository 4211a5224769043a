# %% [markdown]
# # Mixed columns: two columns of text and numbers in one pipeline
#
# Is a review good (four stars or more)? A `ColumnTransformer` embeds the review and the name of the product, and scales
# two numbers. Permuting one column at a time (Breiman 2001) shows which columns the classifier relies on.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skembed import SentenceEmbeddingTransformer

folder = Path(__file__).parent if "__file__" in globals() else Path()
reviews = pd.read_csv(folder / "data" / "reviews.csv").dropna(subset="review").drop_duplicates("review")
reviews["words"] = reviews["review"].str.split().str.len()
reviews["exclamation marks"] = reviews["review"].str.count("!")
X, y = reviews.drop(columns="stars"), reviews["stars"] >= 4
print(f"{len(X)} reviews, {y.mean():.0%} of them good")

# %% [markdown]
# ## Which columns help
# Each text is encoded once, however many pipelines and folds need it.

# %%
text = (SentenceEmbeddingTransformer(), "review")
product = (SentenceEmbeddingTransformer(truncate_dim=64), "product")
numbers = (StandardScaler(), ["words", "exclamation marks"])
choices = {"numbers": [numbers], "product": [product], "review": [text], "all four": [text, product, numbers]}
pipelines = {
    name: make_pipeline(make_column_transformer(*parts), LogisticRegression(C=10, max_iter=1000))
    for name, parts in choices.items()
}
scores = {name: cross_val_score(pipeline, X, y, cv=10) for name, pipeline in pipelines.items()}
for name, values in scores.items():
    print(f"{name}: accuracy {values.mean():.2f}, standard error {values.std(ddof=1) / len(values) ** 0.5:.2f}")

# %% [markdown]
# ## The picture

# %%
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
fitted = pipelines["all four"].fit(X_train, y_train)
importance = permutation_importance(fitted, X_test, y_test, n_repeats=20, random_state=0)
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
left.boxplot(scores.values(), tick_labels=list(scores))
left.set(ylabel="accuracy in ten folds", ylim=(0, 1.02))
right.boxplot(importance.importances.T, orientation="horizontal", tick_labels=list(X))
right.set(xlabel="accuracy lost when the column is shuffled")
figure.savefig("mixed_columns.png", dpi=120)
