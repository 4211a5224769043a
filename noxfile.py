"""Tasks for developers: ``nox -l`` lists them, ``nox -s quick`` runs one, ``nox -s quick -- tests/encoding`` a part.

The first sessions run in the environment of nox itself, see CONTRIBUTING.md; the others create one of their own. Steps
that .ci/run also has are defined there and called from here.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
CONSTRAINED = ("-c", str(ROOT / "constraints.txt"))
# The part of the extra "test" that tests of the core need.
TESTERS = ("pytest", "hypothesis")
OF_EXTRA = {  # extra -> arguments of pytest: tests that need no other extra, except for the default model
    "dask": ["tests/frames/test_dask.py"],
    "docs": ["tests/test_docs.py"],
    "faiss": ["tests/similarity/test_neighbours.py"],
    "offline": ["tests/encoding/models/test_fingerprint.py"],
    "openvino": ["tests/test_embedding.py", "tests/encoding/backends/test_openvino_trial.py"],  # both run on it
    "parquet": ["tests/files/test_manifest.py"],
    "plot": ["tests/test_public_names.py"],
    "polars": ["tests/frames/test_polars.py", "-k", "not hand_vectors_to_each_other"],
    "ray": ["tests/frames/test_ray.py"],
    "train": ["tests/training/test_batches.py"],
}
OF_CORE = ["tests/encoding/test_recipes.py", "tests/encoding/test_batching.py", "tests/encoding/test_tokens.py"]

nox.options.sessions = ["quick"]
nox.options.reuse_existing_virtualenvs = True


def python(session: nox.Session, *arguments: str) -> None:
    """Run Python, as a module or a script, in the environment that nox runs in."""
    session.run(sys.executable, *arguments, external=True)


def ci(session: nox.Session, *arguments: str) -> None:
    """Run a function of .ci/run in the environment that nox runs in."""
    session.run("bash", ".ci/run", *arguments, env={"PYTHON": sys.executable}, external=True)


@nox.session(python=False)
def quick(session: nox.Session) -> None:
    """Check style, and run a quarter of the fast tests, or those that are named, in under three minutes."""
    ci(session, "style")
    chosen = session.posargs or ["--share", "1/4"]
    python(session, "-m", "pytest", "-q", "-x", "-n", "auto", "--dist", "worksteal", *chosen)


@nox.session(python=False)
def full(session: nox.Session) -> None:
    """Run everything that a change must pass, in a fresh .venv: .ci/run."""
    session.run("bash", ".ci/run", external=True)


@nox.session(python=False)
def slow(session: nox.Session) -> None:
    """Run the tests that start processes or take several seconds."""
    ci(session, "slow", *session.posargs)


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """Draw the picture of the architecture, and build the website in docs/_build/html; warnings are errors."""
    python(session, "docs/draw_architecture.py")
    python(session, "-m", "sphinx", "-W", "-n", "-q", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session(python=False)
def bench(session: nox.Session) -> None:
    """Run a benchmark: nox -s bench -- cache --json results.json."""
    if not session.posargs:
        session.error(f"name one of {', '.join(sorted(path.stem for path in (ROOT / 'benchmarks').glob('*.py')))}")
    name, *arguments = session.posargs
    python(session, f"benchmarks/{name}.py", *arguments)


@nox.session(python=False)
def release(session: nox.Session) -> None:
    """Build the sdist and the wheel to publish, in an empty dist/; see RELEASING.md for the other steps."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    python(session, "-m", "build", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Test the built wheel without the source."""
    folder = Path(session.create_tmp())
    shutil.rmtree(folder / "tests", ignore_errors=True)
    shutil.rmtree(folder / "dist", ignore_errors=True)
    session.install(*CONSTRAINED, "build")
    session.run("python", "-m", "build", "-q", "--outdir", str(folder / "dist"))  # the wheel is built from the sdist
    (built,) = (folder / "dist").glob("*.whl")
    session.install(*CONSTRAINED, "--force-reinstall", "--no-deps", str(built))
    session.install(*CONSTRAINED, f"{built}[offline,polars]", *TESTERS, "pyarrow")
    shutil.copytree(ROOT / "tests", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    session.chdir(folder)
    chosen = ["tests/test_embedding.py", "tests/test_public_names.py", "tests/test_transformer.py"]
    session.run("python", "-m", "pytest", *(session.posargs or chosen))


@nox.session
def bare(session: nox.Session) -> None:
    """Run tests of the core without any extra."""
    session.install(*CONSTRAINED, ".", *TESTERS)
    load_all_names(session)
    session.run("python", "-m", "pytest", *(session.posargs or OF_CORE))


@nox.session
@nox.parametrize("name", sorted(OF_EXTRA))
def extra(session: nox.Session, name: str) -> None:
    """Run the tests of one extra without the others, except for the default model."""
    session.install(*CONSTRAINED, f".[offline,{name}]", *TESTERS)
    load_all_names(session)
    session.run("python", "-m", "pytest", *(session.posargs or OF_EXTRA[name]))


def load_all_names(session: nox.Session) -> None:
    """Look up every public name, which must not need an extra."""
    session.run("python", "-c", "import skembed; [getattr(skembed, name) for name in skembed.__all__]")
