"""No module imports itself by way of others, not even for its types: `lint-imports` looks at siblings alone."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("turnguard", exclude_type_checking_imports=False)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    for importer, imported in TO_BE_CUT:
        imports[importer].discard(imported)
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


TO_BE_CUT = [
    ("turnguard.langchain.middleware", "turnguard.langchain.model_call"),
    ("turnguard.langchain.rewrites", "turnguard.langchain.judge"),
]
