"""The documentation: links lead somewhere, reference and map are complete, the site is built without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from myst_parser.slugs import github_slugify

import skembed
from tests.test_imports import FLOORS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "RELEASING.md",
    "benchmarks/README.md",
    "docs/architecture.md",
    "docs/classification.md",
    "docs/decisions.md",
    "docs/linking.md",
    "docs/recipes/index.md",
    "docs/recipes/label_next.md",
    "docs/recipes/passages.md",
    "docs/recipes/hybrid_search.md",
    "docs/thresholds.md",
    "docs/topics.md",
    "examples/README.md",
]


def inline_tokens(document: Path) -> list:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(document.read_text(encoding="utf-8"))
    return [(before, token) for before, token in zip([None, *tokens], tokens, strict=False) if token.type == "inline"]


def links_of(document: Path) -> list[str]:
    parts = [part for _, token in inline_tokens(document) for part in token.children]
    return [str(part.attrGet("href") or part.attrGet("src")) for part in parts if part.type in ("link_open", "image")]


@cache
def anchors_of(document: Path) -> set[str]:
    return {github_slugify(token.content) for before, token in inline_tokens(document) if before.type == "heading_open"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_of_a_document_lead_to_files_and_headings(name):
    document = ROOT / name
    for link in links_of(document):
        parts = urlsplit(link)
        if not parts.scheme:
            target = document.parent / unquote(parts.path) if parts.path else document
            assert target.exists(), link
            assert not parts.fragment or parts.fragment in anchors_of(target), link


def commands_of_installing(document: Path) -> list[str]:
    """Return the commands that install skembed itself; of a script, those in its comments."""
    lines = document.read_text(encoding="utf-8").splitlines()
    if document.suffix == ".py":
        lines = [line.partition("#")[2] for line in lines]
    commands = [command for line in lines for command in re.findall(r"pip install [^`&#]+", line)]
    named = r"(skembed|\.)(\[.*\])?"
    return [command for command in commands if any(re.fullmatch(named, word) for word in shlex.split(command))]


@pytest.mark.parametrize("pattern", ["*.md", "docs/*.md", "benchmarks/*.md", "examples/*.md", "examples/*.py"])
def test_every_command_that_installs_skembed_installs_openvino(pattern):
    commands = [command for document in ROOT.glob(pattern) for command in commands_of_installing(document)]
    assert commands
    assert [command for command in commands if "openvino" not in command] == []


def test_every_public_name_is_in_the_reference_once():
    entries = re.findall(r"^   (\w+)$", (ROOT / "docs" / "api.rst").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(entries) == skembed.__all__


def files_of_the_map(heading: str) -> set[str]:
    """Read the paths from lines such as ``    texts.py   any container``; their folders are above, less indented."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = contributing.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    paths, folders = set(), {}
    for indent, name in re.findall(r"^( +)([\w/]+(?:\.py)?) *", section, flags=re.MULTILINE):
        folders = {other: folder for other, folder in folders.items() if other < len(indent)}
        if name.endswith("/"):
            folders[len(indent)] = name
        elif name.endswith(".py"):
            paths.add("".join(folders.values()) + name)
    return paths


def test_the_map_of_the_code_names_every_file():
    files = {path for path in (ROOT / "skembed").rglob("*.py") if path.name != "__init__.py"}
    expected = {path.relative_to(ROOT).as_posix() for path in files} | {"skembed/__init__.py"}
    assert files_of_the_map("Map of the code") == expected


def test_the_map_of_the_tests_names_every_file_that_does_not_test_the_file_of_its_name():
    tests = {path for path in (ROOT / "tests").rglob("*.py") if path.name not in ("__init__.py", "conftest.py")}
    package = {path.relative_to(ROOT / "skembed") for path in (ROOT / "skembed").rglob("*.py")}
    mirrors = {ROOT / "tests" / path.parent / f"test_{path.stem.strip('_')}.py" for path in package}
    assert files_of_the_map("Map of the tests") == {path.relative_to(ROOT).as_posix() for path in tests - mirrors}


def test_the_picture_of_the_architecture_shows_the_floors_of_the_rule_of_imports():
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "docs" / "draw_architecture.py")
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    shown = [re.sub(r" \(.*\)", "", files).replace("__init__", "").split() for _, files in reversed(drawing.FLOORS)]
    as_shown = [[name.partition(".")[2].replace(".", "/") for name in floor if "." in name] for floor in FLOORS]
    assert [sorted(name.strip("/") for name in names) for names in shown] == [sorted(names) for names in as_shown]


def test_the_version_is_written_twice_and_alike():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == skembed.__version__


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str | None] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.update((found.get("id"), found.get("name")))
        if "href" in found:
            (self.loaded if tag == "link" else self.links).append(found["href"])
        if "src" in found:
            self.loaded.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(folder / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(folder / "html")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = [path for path in (folder / "html").rglob("*.html") if "_static" not in path.parts]  # the theme's templates
    return {path: Page(path) for path in pages}


def leads_nowhere(link: str, path: Path, site: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    has_no_anchor = target in site and parts.fragment and unquote(parts.fragment) not in site[target].anchors
    return not parts.scheme and (not target.is_file() or bool(has_no_anchor))


@pytest.mark.slow
def test_every_link_in_the_site_leads_to_a_file_and_an_anchor_of_it(site):
    links = [(link, path) for path, page in site.items() for link in [*page.links, *page.loaded]]
    assert [(link, path) for link, path in links if leads_nowhere(link, path, site)] == []


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    assert [link for page in site.values() for link in page.loaded if urlsplit(link).netloc] == []


@pytest.mark.slow
def test_there_is_a_page_for_every_example(site):
    pages = {path.stem for path in site if path.parent.name == "examples"}
    assert pages == {script.stem for script in (ROOT / "examples").glob("*.py")}
