"""No module imports itself by way of others, not even for its types: `lint-imports` looks at siblings alone."""

from __future__ import annotations

import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_no_module_imports_itself_by_way_of_others() -> None:
    grimp = pytest.importorskip("grimp", reason="import-linter brings it")
    graph = grimp.build_graph("turnguard", exclude_type_checking_imports=False)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    for contract in tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]:
        for ignored in contract.get("ignore_imports", ()):
            importer, imported = ignored.split(" -> ")
            imports[importer].discard(imported)
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None
