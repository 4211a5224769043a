# %% [markdown]
# # Zero-shot labels: describe the labels, label the texts
#
# Training needs no labelled tickets. Each label has one or two descriptions, and a ticket gets the label whose
# description is nearest to it. Labels that are often confused show which descriptions need improvement.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.metrics import ConfusionMatrixDisplay

from skembed import SentenceEmbeddingClassifier

folder = Path(__file__).parent if "__file__" in globals() else Path()
df = pd.read_csv(folder / "data" / "support_tickets.csv")
by_name = SentenceEmbeddingClassifier({label: label for label in df["label"].unique()}).fit()
described = SentenceEmbeddingClassifier(
    {
        "billing": ["My invoice is wrong.", "I was charged twice."],
        "bug": ["The app crashes.", "The page shows an error."],
        "feature request": ["It would be great if the app could do this.", "Please add an option."],
        "login": ["I cannot log in.", "I forgot my password."],
        "returns": ["I want to send this back.", "I would like a refund for the item I returned."],
        "shipping": ["Where is my parcel?", "My order has not arrived."],
    }
).fit()
print(f"names alone: accuracy {by_name.score(df['text'], df['label']):.2f}")
print(f"descriptions: accuracy {described.score(df['text'], df['label']):.2f}")

# %% [markdown]
# ## How sure
# `predict_proba` is a softmax of cosines. It is not calibrated, but it ranks: the most confident half is right more
# often, and people can label the rest.

# %%
surest = pd.Series(described.predict_proba(df["text"]).max(axis=1), index=df.index)
is_right = pd.Series(described.predict(df["text"]) == df["label"])
is_sure = surest >= surest.median()
print(f"the surer half: {is_right[is_sure].mean():.2f}, the other: {is_right[~is_sure].mean():.2f}")
for row in surest.nsmallest(3).index:
    print(f"  unsure ({surest[row]:.2f}): {df['text'][row][:90]}")

# %% [markdown]
# ## The picture

# %%
figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
ConfusionMatrixDisplay.from_estimator(
    described, df["text"], df["label"], ax=axes, colorbar=False, cmap="Blues", xticks_rotation=30
)
axes.set_title(f"{len(df)} tickets, none of them used for training")
figure.savefig("zero_shot.png", dpi=120)
