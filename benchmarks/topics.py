"""Measure how good and how fast ``TopicModel`` is, beside k-means, BERTopic and turftopic on the same vectors.

    python benchmarks/topics.py --data FOLDER --json benchmarks/results/topics.json
    python benchmarks/topics.py --data FOLDER --tools skembed --earlier benchmarks/results/topics.json

Texts are all rows of 20 newsgroups, AG News, Stack Overflow titles and Banking77, which have 20, 4, 20 and 77 labels.
All tools get the vectors that ``skembed.embed`` computes with its default model; none encodes a text by itself.

- skembed: ``TopicModel()``, which chooses the number of topics, and ``TopicModel(n_topics)`` with the number of labels.
- k-means: scikit-learn's ``KMeans(n_topics, n_init=10)`` on the vectors. It has no terms.
- BERTopic: its defaults (UMAP, HDBSCAN, class-based tf-idf), as it comes; and then reduced to the number of labels by
  ``reduce_topics``, which is what its parameter ``nr_topics`` does. It counts the rows without topic as a topic, so it
  is asked for one more.
- turftopic: ``ClusteringTopicModel`` with its defaults (t-SNE, HDBSCAN, soft class-based tf-idf), as it comes; and then
  reduced by ``reduce_topics``, likewise with one more.

Tools that are not installed are left out, with their bounds. The columns, a row for each set and tool:

- NMI and ARI: normalised mutual information (arithmetic mean) and adjusted Rand index of topics and labels, over all
  rows. Rows without topic count as one more topic, as scikit-learn would count them.
- Without topic: the share of rows that the tool calls outliers. They are no topic in the number of topics.
- Shuffled, 1 % less: ARI of a fit's topics with those of a fit to the same rows in another order, and to 99 % of them
  in the same order, over the rows that both have. Means of three draws; of one for BERTopic and turftopic.
- Coherence: mean NPMI over all pairs of the first 8 terms of a topic, then over topics. Texts are documents; a text has
  a term or not. Pairs that no text has count -1. A text has a term if it is among its words, or pairs of adjacent ones,
  in lower case, however one of the three tools reads words: so no tool's terms are missing because of an apostrophe.
- Diversity: the share of distinct terms among the first 8 of all topics.
- Seconds, CPU seconds (over all threads) and memory growth (the peak, less the resident memory before) of one fit, in a
  fresh process for each tool, after a fit to 500 rows. For the reduced models, they include the fit before.

Then ``TopicModel()`` is fitted to ``--n-rows`` vectors alone, each time in a fresh process: the vectors of all four
sets (all of them, or half of the rows), and these again with Gaussian noise, so that the cosine to the origin is even
from 0.5 to 0.95.

The vectors of all texts take a quarter of an hour on two cores; ``--vectors`` names a folder in which they are kept.
BERTopic and turftopic take minutes for a set; their UMAP and t-SNE have no seed. ``--tools`` measures only some tools,
and ``--earlier`` takes the other rows from the results of an earlier run.

Needs Linux. Exit status 1 if a bound fails. With the number of labels, NMI is at least that of k-means less 0.01 on
each set. On average over the sets, both as they come and with the number of labels: NMI is above BERTopic's, coherence
and diversity are no lower, and agreement after 1 % is left out is at least 0.85. The same topics after shuffling, names
all distinct, no row without topic. The number of topics is within a factor of 2.5 of the number of labels on three of
four sets, and of 4 on all. 100,000 rows take at most 60 s, 1,000,000 at most 15 minutes, and each row beyond the first
100,000 at most a tenth of the memory of its vector.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Self

import numpy as np
from data import add_data_argument, read_table
from duplicates import MB, add_noise, status_bytes
from numpy.typing import NDArray
from report import add_json_argument, describe_machine, print_report, verdict, write_json
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import skembed

SETS = {
    "20 newsgroups": "twenty_newsgroups/twenty_newsgroups",
    "AG News": "ag_news/ag_news",
    "Stack Overflow titles": "stackoverflow_titles/stackoverflow_titles",
    "Banking77": "banking77/banking77",
}
OURS, BERTOPIC, TURFTOPIC, GIVEN = "skembed", "BERTopic", "turftopic", ", number of labels"
OURS_GIVEN, KMEANS = OURS + GIVEN, "k-means" + GIVEN
ORDER = (OURS, OURS_GIVEN, KMEANS, BERTOPIC, BERTOPIC + GIVEN, TURFTOPIC, TURFTOPIC + GIVEN)  # in the table
TOOLS = (OURS, "k-means", BERTOPIC, TURFTOPIC)
PEER_PACKAGES = ("bertopic", "umap-learn", "hdbscan", "turftopic")
N_TERMS = 8
N_KEPT = 20  # the largest topics, whose terms the results keep
N_DRAWS = 3
SHARE_REMOVED = 0.01
N_ROWS_TO_WARM_UP = 500
LARGEST_LOSS_OF_NMI = 0.01
SMALLEST_AGREEMENT = 0.85
USUAL_FACTOR, LARGEST_FACTOR = 2.5, 4
LARGEST_SECONDS = {100_000: 60, 1_000_000: 900}
LARGEST_GROWTH_PER_ROW = 384 * 4 / 10
HEADER = (
    "texts", "labels", "tool", "topics", "without topic", "NMI", "ARI", "shuffled", "1 % less", "coherence",
    "diversity", "seconds", "CPU seconds", "memory growth",
)  # fmt: skip
BOUND_HEADER = ("what", "measured", "bound", "holds")
SCALE_HEADER = ("rows", "topics", "seconds", "CPU seconds", "memory growth", "bound", "holds")
READINGS = (  # the words of a text in lower case: as skembed, as CountVectorizer, and as BERTopic reads them
    re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*(?:\+\+|#)?").findall,
    re.compile(r"\b\w\w+\b").findall,
    lambda text: re.sub(r"[^a-z0-9 ]+", "", re.sub(r"[\n\t]", " ", text)).split(),
)

Texts = list[str]
Vectors = NDArray[np.float32]
Rows = NDArray[np.intp]
Result = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a tool found: the topic of each row, -1 if it has none, and of each topic the terms and the name."""

    labels: Rows
    terms: list[list[str]] | None = None
    names: list[str] | None = None


Tool = Callable[[Texts, Vectors, int], Iterator[tuple[str, Found]]]


def main() -> int:
    arguments = parse_arguments()
    warnings.simplefilter("ignore", skembed.TruncationWarning)  # topics of what the model reads are meant
    if arguments.tool is not None:
        print(json.dumps(measure_tool(arguments)))
        return 0
    if arguments.only_scale:
        print(json.dumps(measure_scale(arguments)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        arguments.vectors = arguments.vectors or folder
        return measure_all(arguments)


def measure_all(arguments: argparse.Namespace) -> int:
    machine = {**describe_machine(), **{package: version(package) for package in PEER_PACKAGES if find_peer(package)}}
    machine["load_before"] = round(os.getloadavg()[0], 1)
    results = [result for name in arguments.sets for result in measure_set(name, arguments)]
    options = [("--only-scale", "--n-rows", str(n_rows), "--sets", *arguments.sets) for n_rows in arguments.n_rows]
    scale = [in_fresh_process(arguments, *option) for option in options]
    results, scale = with_earlier(results, scale, arguments.earlier)
    machine["load_after"] = round(os.getloadavg()[0], 1)
    bounds = [*check_sets(results), *check_growth(scale)]
    print_report(machine, HEADER, map(result_row, results))
    print_report({}, BOUND_HEADER, map(bound_row, bounds))
    print_report({}, SCALE_HEADER, map(scale_row, scale))
    write_json(arguments.json, machine=machine, results=results, bounds=bounds, scale=scale)
    return 0 if all(result["holds"] is not False for result in (*bounds, *scale)) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET", help="default: all four")
    parser.add_argument("--vectors", metavar="FOLDER", help="where the vectors of each set are kept, as .npy")
    tools = {"nargs": "+", "choices": TOOLS, "default": TOOLS, "metavar": "TOOL"}
    parser.add_argument("--tools", help=f"{', '.join(TOOLS)} (default: all that are installed)", **tools)
    parser.add_argument("--earlier", metavar="FILE", help="results of an earlier run, for what is not measured now")
    sizes = {"nargs": "*", "default": list(LARGEST_SECONDS), "help": "default: 100,000 and 1,000,000"}
    parser.add_argument("--n-rows", type=int, metavar="N", **sizes)
    parser.add_argument("--tool", choices=find_tools(), help=argparse.SUPPRESS)
    parser.add_argument("--only-scale", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def find_peer(package: str) -> bool:
    return find_spec({"umap-learn": "umap"}.get(package, package)) is not None


def find_tools() -> dict[str, Tool]:
    """Return the installed tools by name."""
    tools: dict[str, Tool] = {OURS: fit_skembed, OURS_GIVEN: partial(fit_skembed, is_given=True), KMEANS: fit_kmeans}
    peers: dict[str, Tool] = {BERTOPIC: fit_bertopic, TURFTOPIC: fit_turftopic}
    return {**tools, **{name: tool for name, tool in peers.items() if find_peer(name.lower())}}


class KnownVectors(TransformerMixin, BaseEstimator):
    """An embedder that returns the existing vectors of the texts."""

    def __init__(self, texts: Texts, vectors: Vectors) -> None:
        self.texts = texts
        self.vectors = vectors
        self.row_of_ = {text: row for row, text in enumerate(texts)}  # in __init__, because it is never cloned

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        """Do nothing."""
        return self

    def transform(self, X: Iterable[str]) -> Vectors:
        """Look the vectors up."""
        return self.vectors[[self.row_of_[text] for text in X]]

    encode = transform  # turftopic wants to see it


def fit_skembed(
    texts: Texts, vectors: Vectors, n_labels: int, *, is_given: bool = False
) -> Iterator[tuple[str, Found]]:
    n_topics: Any = n_labels if is_given else "auto"
    model = skembed.TopicModel(n_topics, embedder=KnownVectors(texts, vectors), n_terms=N_TERMS).fit(texts)
    terms, names = model.topics_["terms"].tolist(), model.topics_["name"].tolist()
    yield OURS_GIVEN if is_given else OURS, Found(model.labels_, terms, names)


def fit_kmeans(texts: Texts, vectors: Vectors, n_labels: int) -> Iterator[tuple[str, Found]]:  # noqa: ARG001
    yield KMEANS, Found(KMeans(n_labels, n_init=10, random_state=0).fit_predict(vectors))


def fit_bertopic(texts: Texts, vectors: Vectors, n_labels: int) -> Iterator[tuple[str, Found]]:
    from bertopic import BERTopic

    def found() -> Found:
        terms = {topic: [term for term, _ in pairs if term] for topic, pairs in model.get_topics().items()}
        return Found(np.array(model.topics_), [terms[topic][:N_TERMS] for topic in sorted(terms) if topic >= 0])

    model = BERTopic().fit(texts, vectors)
    yield BERTOPIC, found()
    model.reduce_topics(texts, n_labels + (-1 in model.topics_))
    yield BERTOPIC + GIVEN, found()


def fit_turftopic(texts: Texts, vectors: Vectors, n_labels: int) -> Iterator[tuple[str, Found]]:
    from turftopic import ClusteringTopicModel

    def found() -> Found:
        topics = [terms for topic, terms in model.get_topics(N_TERMS) if topic >= 0]
        return Found(np.array(model.labels_), [[term for term, _ in terms] for terms in topics])

    model = ClusteringTopicModel(encoder=KnownVectors(texts, vectors))
    model.fit_predict(texts, embeddings=vectors)
    yield TURFTOPIC, found()
    model.reduce_topics(n_labels + (-1 in model.labels_))
    yield TURFTOPIC + GIVEN, found()


def measure_set(name: str, arguments: argparse.Namespace) -> list[Result]:
    """Measure the tools on one set, each in a fresh process."""
    texts, _ = read_set(name, arguments)
    keep_vectors(name, texts, arguments)
    tools = [tool for tool in find_tools() if tool.startswith(tuple(arguments.tools))]
    options = [("--tool", tool, "--sets", name) for tool in tools]
    results = [result for option in options for result in in_fresh_process(arguments, *option)]
    has_term = find_terms(texts, [result["terms"] for result in results if result["terms"]])
    judged = [{**result, **judge_terms(result["terms"], has_term)} for result in results]
    return [{**result, "terms": result["terms"] and result["terms"][:N_KEPT]} for result in judged]


def read_set(name: str, arguments: argparse.Namespace) -> tuple[Texts, NDArray[Any]]:
    table = read_table(arguments.data, SETS[name])
    return table["text"].tolist(), table["label"].to_numpy()


def vectors_file(name: str, arguments: argparse.Namespace) -> Path:
    return Path(arguments.vectors) / f"{Path(SETS[name]).name}.npy"


def keep_vectors(name: str, texts: Texts, arguments: argparse.Namespace) -> None:
    if not vectors_file(name, arguments).exists():
        Path(arguments.vectors).mkdir(parents=True, exist_ok=True)
        np.save(vectors_file(name, arguments), skembed.embed(texts))


def with_earlier(results: list[Result], scale: list[Result], file: str | None) -> tuple[list[Result], list[Result]]:
    """Add what an earlier run measured, unless it was measured now."""
    earlier = {"results": [], "scale": []} if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
    by_place = {(one["texts"], one["tool"]): one for one in [*earlier["results"], *results]}
    by_size = {one["n_rows"]: one for one in [*earlier["scale"], *scale]}
    places = [(name, tool) for name in SETS for tool in ORDER if (name, tool) in by_place]
    return [by_place[place] for place in places], [by_size[n_rows] for n_rows in sorted(by_size)]


def in_fresh_process(arguments: argparse.Namespace, *options: str) -> Any:
    command = [sys.executable, __file__, "--vectors", arguments.vectors, *options]
    command += [] if arguments.data is None else ["--data", arguments.data]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(*options, file=sys.stderr, flush=True)
    return json.loads(child.stdout.splitlines()[-1])


def measure_tool(arguments: argparse.Namespace) -> list[Result]:
    """Fit one tool to one set, time it, and fit it again to the rows in another order and to some of them."""
    (name,) = arguments.sets
    texts, labels = read_set(name, arguments)
    vectors, n_labels = np.load(vectors_file(name, arguments)), len(np.unique(labels))
    tool = find_tools()[arguments.tool]
    next(tool(texts[:N_ROWS_TO_WARM_UP], vectors[:N_ROWS_TO_WARM_UP], n_labels))
    results = []
    found = {}
    for variant, one, costs in with_costs(partial(tool, texts, vectors, n_labels)):
        found[variant] = one.labels
        facts = {"texts": name, "n_labels": n_labels, "tool": variant, **judge_labels(one.labels, labels)}
        results.append({**facts, "terms": one.terms, "names": one.names, **costs})
    n_draws = 1 if arguments.tool in (BERTOPIC, TURFTOPIC) else N_DRAWS
    agreements = measure_agreements(partial(fit_rows, tool, texts, vectors, n_labels), found, n_draws)
    return [{**result, **agreements[result["tool"]]} for result in results]


def with_costs(fit: Callable[[], Iterator[tuple[str, Found]]]) -> Iterator[tuple[str, Found, Result]]:
    """Fit, and add to what is found how long it took from the start and how far the memory rose until then."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before, start, cpu_start = status_bytes("VmRSS"), perf_counter(), process_time()
    for variant, found in fit():
        costs = {"seconds": perf_counter() - start, "cpu_seconds": process_time() - cpu_start}
        yield variant, found, {**costs, "growth_bytes": status_bytes("VmHWM") - before}


def judge_labels(found: Rows, labels: NDArray[Any]) -> Result:
    return {
        "n_topics": len(np.unique(found[found >= 0])),
        "percent_without": 100 * float((found < 0).mean()),
        "nmi": float(normalized_mutual_info_score(labels, found)),
        "ari": float(adjusted_rand_score(labels, found)),
    }


def fit_rows(tool: Tool, texts: Texts, vectors: Vectors, n_labels: int, rows: Rows) -> dict[str, Rows]:
    found = tool([texts[row] for row in rows], vectors[rows], n_labels)
    return {variant: one.labels for variant, one in found}


def measure_agreements(fit: Callable[[Rows], dict[str, Rows]], found: dict[str, Rows], n_draws: int) -> Any:
    """Compare the topics of all rows with those of fits to shuffled rows, and to fewer."""
    n_rows = len(next(iter(found.values())))
    agreements: dict[str, dict[str, list[float]]] = {variant: {"shuffled": [], "removed": []} for variant in found}
    for draw in range(n_draws):
        shuffled = np.random.default_rng(draw).permutation(n_rows)
        kept = np.sort(shuffled[int(SHARE_REMOVED * n_rows) :])
        for what, rows in (("shuffled", shuffled), ("removed", kept)):
            for variant, labels in fit(rows).items():
                agreements[variant][what].append(float(adjusted_rand_score(found[variant][rows], labels)))
    return agreements


def find_terms(texts: Texts, all_terms: Iterable[list[list[str]]]) -> tuple[Any, dict[str, int]]:
    """Return which text (row) has which term (column), and the column of each term."""
    terms = {written(term) for topics in all_terms for topic in topics for term in topic}
    longest = max((len(term.split()) for term in terms), default=1)
    counter = CountVectorizer(vocabulary=sorted(terms), analyzer=partial(terms_of, longest=longest), binary=True)
    return counter.transform(texts).tocsc() if terms else None, counter.vocabulary_ if terms else {}


def written(term: str) -> str:
    return " ".join(READINGS[0](term.lower()))


def terms_of(text: str, longest: int) -> set[str]:
    found: set[str] = set()
    for read in READINGS:
        words = read(text.lower())
        found.update(words)
        for length in range(2, longest + 1):
            found.update(" ".join(run) for run in zip(*(words[start:] for start in range(length)), strict=False))
    return found


def judge_terms(topics: list[list[str]] | None, has_term: tuple[Any, dict[str, int]]) -> Result:
    if not topics:
        return {"coherence": None, "diversity": None}
    all_terms = [written(term) for topic in topics for term in topic]
    coherences = [coherence([written(term) for term in topic], *has_term) for topic in topics if len(topic) > 1]
    return {"coherence": float(np.mean(coherences)), "diversity": len(set(all_terms)) / len(all_terms)}


def coherence(terms: Sequence[str], has_term: Any, column_of: dict[str, int]) -> float:
    """Compute the mean normalised pointwise mutual information of all pairs of terms."""
    columns = has_term[:, [column_of[term] for term in terms]].astype(np.float64)
    shares = (columns.T @ columns).toarray() / columns.shape[0]
    first, second = np.triu_indices(len(terms), 1)
    single, both = shares.diagonal(), shares[first, second]
    with np.errstate(divide="ignore", invalid="ignore"):
        npmi = np.log(both / (single[first] * single[second])) / -np.log(both)
    return float(np.select([both == 0, both == 1], [-1.0, 1.0], npmi).mean())


def measure_scale(arguments: argparse.Namespace) -> Result:
    """Fit skembed to noisy rows, without texts."""
    (n_rows,) = arguments.n_rows
    vectors = np.concatenate([np.load(vectors_file(name, arguments)) for name in arguments.sets])
    vectors, _ = add_noise(vectors, n_rows)
    skembed.TopicModel().fit(vectors[:N_ROWS_TO_WARM_UP])

    def fit() -> Iterator[tuple[str, Found]]:
        yield OURS, Found(skembed.TopicModel().fit(vectors).labels_)

    ((_, found, costs),) = with_costs(fit)
    most = LARGEST_SECONDS.get(n_rows)
    bound = {"bound": "" if most is None else f"at most {most} s", "holds": most and costs["seconds"] <= most}
    return {"n_rows": n_rows, "n_topics": len(np.unique(found.labels)), **costs, **bound}


def check_sets(results: list[Result]) -> list[Result]:
    """Check the bounds of the sets; those beside tools that were not measured are left out."""
    ours = [result for result in results if result["tool"] in (OURS, OURS_GIVEN)]
    if not ours:
        return []
    return [
        *check_nmi_of_sets(results),
        *(one for given in ("", GIVEN) for one in check_means(results, given)),
        *check_numbers([result for result in ours if result["tool"] == OURS]),
        make_bound("least agreement after shuffling", min(min(one["shuffled"]) for one in ours), "1", at_least=1),
        make_bound("names used twice", sum(len(o["names"]) - len(set(o["names"])) for o in ours), "0", at_most=0),
        make_bound("most rows without topic, %", max(one["percent_without"] for one in ours), "0", at_most=0),
    ]


def make_bound(
    what: str,
    measured: float,
    bound: str,
    *,
    at_least: float = -np.inf,
    above: float = -np.inf,
    at_most: float = np.inf,
) -> Result:
    holds = bool(at_least <= measured <= at_most and measured > above)
    return {"what": what, "measured": measured, "bound": bound, "holds": holds}


def check_nmi_of_sets(results: list[Result]) -> Iterator[Result]:
    nmi = {(result["texts"], result["tool"]): result["nmi"] for result in results}
    for name in (name for name, tool in nmi if tool == KMEANS and (name, OURS_GIVEN) in nmi):
        least = nmi[name, KMEANS] - LARGEST_LOSS_OF_NMI
        bound = f"k-means' {nmi[name, KMEANS]:.3f} - {LARGEST_LOSS_OF_NMI}"
        yield make_bound(f"NMI{GIVEN}: {name}", nmi[name, OURS_GIVEN], bound, at_least=least)


def check_means(results: list[Result], given: str) -> Iterator[Result]:
    """Compare means over the sets with BERTopic's; with the number of labels, or as the tools come."""
    how = given or ", as they come"
    ours, theirs = (
        {what: mean_of(results, tool + given, what) for what in ("nmi", "removed", "coherence", "diversity")}
        for tool in (OURS, BERTOPIC)
    )
    agreement = f"at least {SMALLEST_AGREEMENT}"
    yield make_bound(f"agreement, 1 % less{how}: mean", ours["removed"], agreement, at_least=SMALLEST_AGREEMENT)
    if theirs["nmi"] is None:
        return
    yield make_bound(f"NMI{how}: mean", ours["nmi"], f"above BERTopic's {theirs['nmi']:.3f}", above=theirs["nmi"])
    for what in ("coherence", "diversity"):
        bound = f"BERTopic's {theirs[what]:.3f}"
        yield make_bound(f"{what}{how}: mean", ours[what], bound, at_least=theirs[what])


def mean_of(results: list[Result], tool: str, what: str) -> Any:
    values = [np.mean(result[what]) for result in results if result["tool"] == tool]
    return float(np.mean(values)) if values else None


def check_numbers(results: list[Result]) -> Iterator[Result]:
    """Check how far the number of topics is from the number of labels."""
    ratios = [result["n_topics"] / result["n_labels"] for result in results]
    factors = sorted(max(ratio, 1 / ratio) for ratio in ratios)
    usual = factors[: -(-3 * len(factors) // 4)][-1]  # of three quarters of the sets
    yield make_bound("topics to labels, three of four: largest factor", usual, "2.5", at_most=USUAL_FACTOR)
    yield make_bound("topics to labels, all: largest factor", factors[-1], "4", at_most=LARGEST_FACTOR)


def check_growth(scale: list[Result]) -> Iterator[Result]:
    """Check how far the memory grows with more rows than 100,000."""
    for fewer, more in pairwise(result for result in scale if result["n_rows"] >= min(LARGEST_SECONDS)):
        n_more = more["n_rows"] - fewer["n_rows"]
        growth = (more["growth_bytes"] - fewer["growth_bytes"]) / n_more
        bound = f"{LARGEST_GROWTH_PER_ROW} bytes"
        yield make_bound(f"memory of {n_more:,} more rows, each", growth, bound, at_most=LARGEST_GROWTH_PER_ROW)


def result_row(result: Result) -> list[str]:
    shares = (result["nmi"], result["ari"], np.mean(result["shuffled"]), np.mean(result["removed"]))
    of_terms = ("" if result[what] is None else f"{result[what]:.3f}" for what in ("coherence", "diversity"))
    return [
        result["texts"],
        str(result["n_labels"]),
        result["tool"],
        str(result["n_topics"]),
        f"{result['percent_without']:.1f} %",
        *(f"{share:.3f}" for share in shares),
        *of_terms,
        *cost_cells(result),
    ]


def cost_cells(result: Result) -> list[str]:
    return [f"{result['seconds']:.1f}", f"{result['cpu_seconds']:.1f}", f"{result['growth_bytes'] / MB:,.0f} MB"]


def bound_row(result: Result) -> list[str]:
    return [result["what"], f"{result['measured']:.3f}", result["bound"], verdict(result["holds"])]


def scale_row(result: Result) -> list[str]:
    return [
        f"{result['n_rows']:,}",
        str(result["n_topics"]),
        *cost_cells(result),
        result["bound"],
        verdict(result["holds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
