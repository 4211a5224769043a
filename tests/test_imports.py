"""The rule of imports: a file imports only from its own floor and from floors below it, and never in a circle."""

from __future__ import annotations

import ast
import shutil
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import skembed

PACKAGE = Path(skembed.__file__).parent
GROUND = ["atomic", "checks", "compat", "errors", "locks", "optional", "paths", "processor"]
FLOORS = [  # from the ground up; a folder stands for all of its files that are not named by themselves
    [f"skembed.{name}" for name in GROUND],
    ["skembed.encoding"],
    ["skembed.encoding.cache"],
    ["skembed.encoding.settings"],
    ["skembed.encoding.backends"],
    ["skembed.encoding.models"],
    ["skembed.encoding.plan"],
    ["skembed.encoding.finishing", "skembed.encoding.long_texts"],
    ["skembed.encoding.call"],
    ["skembed.encoding.encoder"],
    ["skembed.training"],
    ["skembed.embedding", "skembed.transformer"],
    ["skembed.embedders"],
    ["skembed.finetuner"],
    ["skembed.classification", "skembed.clustering", "skembed.similarity"],
    ["skembed.plotting", "skembed.precomputing"],
    ["skembed.frames"],
    ["skembed.files", "skembed.text"],
    ["skembed", "skembed.__main__"],
]
NUMBERS = {name: number for number, names in enumerate(FLOORS) for name in names}


def imports_of(package: Path) -> dict[str, set[str]]:
    """Map each module of a package to the modules of it that it imports, in functions and for type checking, too."""
    files = {name_of(path, package): path for path in package.rglob("*.py")}
    return {name: imports_in(name, path, set(files)) - {name} for name, path in files.items()}


def name_of(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_in(name: str, path: Path, modules: set[str]) -> set[str]:
    found = set()
    parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), parent)
            members = {f"{source}.{alias.name}" for alias in node.names}
            found.update(members & modules or {source})
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "import_module":
            found.update(argument.value for argument in node.args if isinstance(argument, ast.Constant))
    return found & modules


def floor_of(module: str) -> int:
    """Return the number of a module's floor: its own in FLOORS, else that of the folder it lies in."""
    name = module
    while name not in NUMBERS:
        name = name.rpartition(".")[0]
        assert name != "skembed", f"{module} is not in FLOORS"
    return NUMBERS[name]


def imports_upwards(package: Path) -> list[str]:
    imports = [(module, other) for module, others in imports_of(package).items() for other in others]
    return sorted(f"{module} imports {other}" for module, other in imports if floor_of(other) > floor_of(module))


def circle_in(package: Path) -> list[str]:
    """Return the modules of one circle of imports, or an empty list."""
    try:
        TopologicalSorter(imports_of(package)).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_file_imports_from_a_floor_above_it():
    assert imports_upwards(PACKAGE) == []


def test_no_files_import_each_other_in_a_circle():
    assert circle_in(PACKAGE) == []


def test_every_name_in_the_floors_is_that_of_one_file_or_folder():
    names = [name for floor in FLOORS for name in floor]
    assert len(names) == len(set(names))
    assert set(names) <= set(imports_of(PACKAGE))


@pytest.fixture
def copy(tmp_path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / "skembed", ignore=shutil.ignore_patterns("__pycache__")))


def plant(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{line}\n", encoding="utf-8")


@pytest.mark.parametrize(
    "line",
    [
        "from skembed.finetuner import SentenceEmbeddingFineTuner",
        "from skembed import finetuner",
        "import skembed.finetuner",
        "from ...finetuner import SentenceEmbeddingFineTuner",
        "def later():\n    import skembed.finetuner",
        "if TYPE_CHECKING:\n    from skembed.finetuner import SentenceEmbeddingFineTuner",
        'importlib.import_module("skembed.finetuner")',
    ],
)
def test_an_import_upwards_is_found_wherever_it_stands(copy, line):
    plant(copy / "encoding" / "cache" / "records.py", line)
    assert "skembed.encoding.cache.records imports skembed.finetuner" in imports_upwards(copy)


def test_a_circle_on_one_floor_is_found(copy):
    plant(copy / "errors.py", "from skembed import paths")
    plant(copy / "paths.py", "def later():\n    from skembed.errors import SkembedError")
    assert {"skembed.errors", "skembed.paths"} <= set(circle_in(copy))


def test_a_new_file_needs_a_floor(copy):
    (copy / "attic.py").write_text("import skembed.errors\n")
    with pytest.raises(AssertionError, match=r"skembed\.attic is not in FLOORS"):
        imports_upwards(copy)
