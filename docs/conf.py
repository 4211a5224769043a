"""Sphinx configuration: a website from the docstrings, the examples and the documents of the repository.

The documents are included from their own folders. Their links point to files; here they are changed to point to the
pages of these files.
"""

from __future__ import annotations

import builtins
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import skembed

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
GENERATED = DOCS / "generated"
PAGES = {  # document -> its page
    ROOT / "README.md": DOCS / "index.md",
    ROOT / "CONTRIBUTING.md": DOCS / "contributing.md",
    ROOT / "CHANGELOG.md": DOCS / "changelog.md",
    ROOT / "RELEASING.md": DOCS / "releasing.md",
    ROOT / "LICENSE": DOCS / "licence.md",
    ROOT / "benchmarks" / "README.md": DOCS / "benchmarks.md",
    DOCS / "architecture.md": DOCS / "architecture.md",
    DOCS / "decisions.md": DOCS / "decisions.md",
    ROOT / "benchmarks" / "results": GENERATED / "benchmarks" / "results.md",
    ROOT / "examples" / "README.md": DOCS / "examples.md",
    **{path: GENERATED / "examples" / f"{path.stem}.md" for path in sorted((ROOT / "examples").glob("*.py"))},
}

project = "skembed"
author = "The skembed developers"
release = version = skembed.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build"]
smartquotes = False  # options such as --csv keep their dashes

myst_heading_anchors = 4  # levels of headings that links point to

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_inherit_docstrings = False  # pandas' and scikit-learn's own methods are documented there
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False  # autodoc writes them out

# References to our own names are checked. Those to other packages would need a network, so they remain plain text.
nitpicky = True
nitpick_ignore_regex = [(r"py:\w+", r"(?!skembed\b)[a-z_]+\..*"), (r"py:\w+", "|".join(dir(builtins)))]

html_theme = "pydata_sphinx_theme"
html_title = f"skembed {release}"
html_show_sourcelink = html_copy_source = False  # the source of a page that includes a document is one line
html_theme_options = {"header_links_before_dropdown": 6, "secondary_sidebar_items": ["page-toc"]}
_WITHOUT_SIDEBAR = (
    "index",
    "benchmarks",
    "architecture",
    "decisions",
    "changelog",
    "contributing",
    "releasing",
    "licence",
)
html_sidebars = {page: [] for page in _WITHOUT_SIDEBAR}  # they have no pages below them


def write_pages(_app: Sphinx) -> None:
    """Write a page for each example, and one that lists the results; autosummary writes those of the reference."""
    shutil.rmtree(GENERATED, ignore_errors=True)  # remove the pages of deleted examples
    for path, page in PAGES.items():
        if page.is_relative_to(GENERATED):
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(turn_links(to_markdown(path), path.parent, page), encoding="utf-8")


def to_markdown(path: Path) -> str:
    """Write the page of a script in cells, or of a folder of files; links are relative to the parent folder."""
    if path.is_dir():
        files = [f"- [{file.name}]({path.name}/{file.name})\n" for file in sorted(path.iterdir())]
        return f"# Files of {path.relative_to(ROOT)}\n\n{''.join(files)}"
    parts = []
    for cell in re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        kind, _, content = cell.partition("\n")
        is_text = "[markdown]" in kind
        parts.append(re.sub("^# ?", "", content, flags=re.M) if is_text else f"````python\n{content.strip()}\n````\n")
    return "\n".join([*parts, f"[{path.relative_to(ROOT)}](path:{path.name})"])


def turn_included_links(app: Sphinx, path: Path, _parent: str, content: list[str]) -> None:
    """Change the links of an included document to those of its page."""
    path = (Path(app.srcdir) / path).resolve()
    if path in PAGES:
        content[0] = turn_links(content[0], path.parent, PAGES[path])


def turn_links_of_page(app: Sphinx, name: str, content: list[str]) -> None:
    """Change the links of a page written by hand to documents that are included elsewhere."""
    page = Path(app.env.doc2path(name))
    if not page.is_relative_to(GENERATED):  # written with the links that it needs
        content[0] = turn_links(content[0], page.parent, page)


def turn_links(text: str, folder: Path, page: Path) -> str:
    """Change links relative to a folder into links relative to a page; Sphinx reports broken ones."""

    def turn(link: re.Match[str]) -> str:
        target = (folder / link["path"]).resolve()
        if not target.exists():
            return link[0]
        is_file_meant = link["scheme"] or target not in PAGES
        return link["scheme"] + os.path.relpath(target if is_file_meant else PAGES[target], page.parent)

    return re.sub(r"(?<=\]\()(?P<scheme>(?:path:)?)(?P<path>[^)#:\s]+)", turn, text)


def skip_made_methods(_app: Sphinx, _what: str, name: str, _obj: object, _skip: bool, _options: object) -> bool | None:
    """Skip the methods that scikit-learn generates for metadata routing; they are documented there."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> None:
    """Connect the functions: pages must be written before autosummary looks for more."""
    app.connect("builder-inited", write_pages, priority=100)
    app.connect("source-read", turn_links_of_page)
    app.connect("include-read", turn_included_links)
    app.connect("autodoc-skip-member", skip_made_methods)
