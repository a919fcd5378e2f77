"""The map of the house, kept by reading the imports: arrows point down, and a file is a page or two."""

import ast
import fnmatch
import graphlib
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "mhe_jax"

# From the top; what stands on one line may use each other, as long as there is no circle.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("mhe_jax",),
    ("serving", "export"),
    ("inference",),
    ("train",),
    ("targets",),
    ("evaluation",),
    ("tasks",),
    ("codes",),
    ("data",),
    ("interop",),
    ("models",),
    ("heads",),
    ("ops",),
    ("recipes",),
    ("labels", "registry", "settings", "version"),
)
# Of folders that are divided by kind: which of the other kinds each may use. The files beside them are what all share;
# they use no kind, but for the listed ones, which choose one.
KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "data": {"images": (), "texts": ("features",), "faces": ("images",), "features": ()},
    "models": {
        "layers": (),
        "images": ("layers",),
        "texts": ("layers",),
        "faces": ("layers",),
        "features": ("layers",),
    },
    "heads": {"softmax": (), "multilabel": ("softmax",), "margin": ()},
}
CHOOSE_A_KIND = ("mhe_jax.data.build", "mhe_jax.data.feeds", "mhe_jax.models", "mhe_jax.heads")
# Who may not import whom, beyond the floors.
FORBIDDEN = (
    # Mathematics and modules: usable without any of these installed.
    ("mhe_jax.ops*", "torch transformers tensorflow tensorflow_datasets"),
    ("mhe_jax.heads*", "torch transformers tensorflow tensorflow_datasets"),
    ("mhe_jax.models*", "torch transformers tensorflow tensorflow_datasets"),
    # Protocols compute on arrays.
    ("mhe_jax.evaluation*", "mhe_jax.tasks mhe_jax.models mhe_jax.heads mhe_jax.interop torch"),
    # Data knows files and no model.
    ("mhe_jax.data*", "mhe_jax.models mhe_jax.heads mhe_jax.interop torch tensorflow"),
    # Configs are read to be listed and described, long before a device is needed.
    ("mhe_jax.recipes*", "jax flax torch transformers"),
    # Files on disk are read by worker processes, which need no device.
    ("mhe_jax.data.*.formats*", "jax flax"),
    ("mhe_jax.data.tables*", "jax flax"),
    ("mhe_jax.data.lines", "jax flax"),
    ("mhe_jax.data.order", "jax flax"),
    ("mhe_jax.data.images.decode", "jax flax"),
)
# What the processes that load pictures import: the code that they run, and the sources that they are given.
IN_WORKERS = (
    "mhe_jax.data.images.workers",
    "mhe_jax.data.images.examples",
    "mhe_jax.data.images.file_source",
    "mhe_jax.data.images.folder_source",
    "mhe_jax.data.images.table_source",
    "mhe_jax.data.images.tar_source",
    "mhe_jax.data.images.tfds_source",
    "mhe_jax.data.faces.formats.records",
)
LONGEST = 350


def source_files() -> list[pathlib.Path]:
    folders = (ROOT / name for name in ("mhe_jax", "configs", "tests", "launch", "docs"))
    files = [path for folder in folders for path in folder.rglob("*.py")] + list(ROOT.glob("*.py"))
    return sorted({path.resolve() for path in files})


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything that is imported, inside functions too; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{'.' * node.level}{node.module}.{alias.name}", node.lineno) for alias in node.names)


def modules() -> dict[str, pathlib.Path]:
    paths = (path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts)
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def module_of(name: str, known: dict[str, pathlib.Path]) -> str:
    """The module that an imported name lies in, or the name itself if it is from elsewhere."""
    parent = name.rpartition(".")[0]
    return parent if name not in known and parent in known else name


MODULES = modules()
ARROWS = {
    module: [(module_of(name, MODULES), line) for name, line in imports(ast.parse(path.read_text()))]
    for module, path in MODULES.items()
}


def floor(module: str) -> int:
    """The place in FLOORS, from the top."""
    name = module.split(".")[1] if "." in module else module
    found = [place for place, names in enumerate(FLOORS) if name in names]
    assert found, f"{module} stands on none of the floors"
    return found[0]


def kind(module: str, folder: str) -> str | None:
    """The kind within `folder` that a module belongs to; None for the files that all kinds share."""
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and parts[1] == folder and parts[2] in KINDS[folder] else None


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def inner_arrows() -> Iterator[tuple[str, str, str]]:
    """(from, to, where) of the arrows between this package's modules."""
    for module, arrows in ARROWS.items():
        for target, line in arrows:
            if within(target, "mhe_jax"):
                yield module, target, f"{MODULES[module].relative_to(ROOT)}:{line}: {module} imports {target}"


def test_every_import_of_the_package_is_one_of_its_modules():
    wrong = [where for _, target, where in inner_arrows() if target not in MODULES]
    wrong += [
        f"{module}: a relative import" for module, arrows in ARROWS.items() if any(t[0] == "." for t, _ in arrows)
    ]
    assert wrong == []


def test_there_is_no_circle():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, target, _ in inner_arrows():
        graph[module].add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


def test_arrows_point_down_the_floors():
    assert [where for module, target, where in inner_arrows() if floor(target) < floor(module)] == []


@pytest.mark.parametrize("folder", KINDS)
def test_kinds_use_what_they_share_and_no_other_kind(folder):
    wrong = []
    for module, target, where in inner_arrows():
        if not within(module, f"mhe_jax.{folder}") or not within(target, f"mhe_jax.{folder}"):
            continue
        source, used = kind(module, folder), kind(target, folder)
        if source is None:
            allowed = used is None or module in CHOOSE_A_KIND
        else:
            allowed = target not in CHOOSE_A_KIND and (used in (None, source) or used in KINDS[folder][source])
        if not allowed:
            wrong.append(where)
    assert wrong == []


@pytest.mark.parametrize(("pattern", "names"), FORBIDDEN, ids=[pattern for pattern, _ in FORBIDDEN])
def test_what_a_part_knows_nothing_of(pattern, names):
    matched = fnmatch.filter(ARROWS, pattern)
    assert matched
    wrong = [
        f"{module}:{line}: {target}"
        for module in matched
        for target, line in ARROWS[module]
        for name in names.split()
        if within(target, name)
    ]
    assert wrong == []


@pytest.mark.parametrize("module", IN_WORKERS)
def test_no_import_leads_from_worker_processes_to_jax(module):
    """Not by detours either, nor by the packages above a module; but for what is imported when it is first used."""
    seen, open_ends = set(), [module]
    while open_ends:
        name = open_ends.pop()
        parts = name.split(".")
        above = [".".join(parts[:count]) for count in range(1, len(parts))]
        for found in {name, *above} & set(MODULES) - seen:
            seen.add(found)
            if found != "mhe_jax":  # whose names are imported when they are first used
                open_ends += [target for target, _ in ARROWS[found]]
        assert parts[0] not in ("jax", "flax", "torch", "tensorflow"), name
    assert len(seen) > 3


def test_configs_import_recipes_alone():
    for path in sorted((ROOT / "configs").glob("*.py")):
        for name, line in imports(ast.parse(path.read_text())):
            assert within(name, "mhe_jax.recipes") or name == "functools", f"{path.name}:{line}: {name}"


def test_nothing_imports_configs():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in source_files()
        for name, line in imports(ast.parse(path.read_text()))
        if within(name, "configs")
    ]
    assert wrong == []


def test_files_are_short():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in source_files()}
    assert len(lengths) > 250
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_tests_lie_where_the_code_does():
    """Beside the folders of the package: what is tested across all of it, and what is started from outside."""
    of_their_own = {"benchmarks", "docs", "launch", "multiprocess", "parity", "targets"}
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*.py")}
    unknown = [str(name) for name in folders if not (PACKAGE / name).is_dir() and name.parts[0] not in of_their_own]
    assert unknown == []
