"""The rooms of the package: which imports which, how large files and functions are, and where a module's tests are."""

import ast
import fnmatch
import functools
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "dst_dist"
TESTS = Path(__file__).parent
BASE = {
    "errors",
    "launched",
    "launch_settings",
    "deepspeed_settings",
    "devices",
    "exit",
    "files",
    "file_system",
    "heads",
    "metrics",
    "paths",
    "recipe_types",
    "config",
    "recipes",
    "logs",
    "processes",
    "run_folder",
    "terminal",
    "versions",
}
ARROWS = {
    "errors": set(),
    "launched": set(),
    "deepspeed_settings": {"launched"},
    "launch_settings": {"config", "deepspeed_settings", "errors", "launched"},
    "devices": {"errors", "launched"},
    "exit": {"launched"},
    "files": set(),
    "file_system": {"errors", "files"},
    "heads": set(),
    "metrics": {"heads"},
    "paths": set(),
    "recipe_types": {"paths"},
    "versions": {"errors"},
    "arguments": set(),
    "terminal": set(),
    "config": {"metrics", "recipe_types"},
    "recipes": {"config", "errors", "paths", "recipe_types"},
    "logs": {"devices"},
    "processes": {"devices", "errors", "launched"},
    "run_folder": set(),
    "data": {"config", "errors", "files", "heads", "launched", "logs", "versions"},
    "demo": {"data"},
    "sentence_models": {"errors", "logs", "versions"},
    "build": {"arguments", "data", "errors", "file_system", "files", "paths", "sentence_models"},
    "model": {"config", "devices", "errors", "heads", "logs", "data"},
    "setup": {"config", "errors", "launched", "logs", "data", "model"},
    "features": {"config", "errors", "file_system", "files", "logs", "processes", "recipes", "data", "model", "setup"},
    "plan": {
        "config",
        "errors",
        "heads",
        "launch_settings",
        "launched",
        "logs",
        "processes",
        "recipes",
        "run_folder",
        "data",
        "model",
        "setup",
    },
    "measure": {"heads", "sentence_models", "data"},
    "streaming": {"errors", "heads", "logs", "data", "model", "measure"},
    "train": BASE | {"data", "model", "setup", "features", "plan", "measure"},
    "evaluate": (BASE - {"exit", "launched", "terminal", "versions"})
    | {"data", "model", "setup", "features", "measure", "streaming"},
    "report": {"errors", "files", "heads", "metrics", "run_folder", "data"},
    "publish": {"errors", "files", "logs", "metrics", "recipes", "run_folder", "model"},
    "slurm": {"config", "errors", "recipes", "run_folder", "train"},
    "inspection": {"arguments", "data", "errors", "files", "heads", "logs", "paths", "recipes", "setup"},
    "doctor": {"data", "devices", "errors", "file_system", "launched", "plan", "processes", "versions"},
    "start": {"devices", "errors", "exit", "recipes", "run_folder"},
    "bench": {
        "config",
        "devices",
        "errors",
        "heads",
        "launched",
        "recipes",
        "run_folder",
        "data",
        "model",
        "setup",
        "features",
        "plan",
        "train",
    },
    "recipe_verbs": {"arguments", "bench", "launched", "logs", "paths", "plan", "recipes", "slurm", "start"},
    "cli": {
        "arguments",
        "demo",
        "doctor",
        "build",
        "errors",
        "evaluate",
        "exit",
        "features",
        "inspection",
        "launched",
        "logs",
        "paths",
        "publish",
        "recipe_verbs",
        "report",
        "terminal",
        "versions",
    },
}
"""Room -> the rooms it may import. `dst_dist/README.md` draws them; a new arrow needs a reason there."""
LONGEST_FILE, LONGEST_FUNCTION = 300, 50


def modules() -> dict[str, Path]:
    paths = sorted(PACKAGE.rglob("*.py"))
    named = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in paths}
    return {name: path for name, path in named.items() if name not in ("dst_dist.__init__", "dst_dist.__main__")}


@functools.cache
def imported(path: Path) -> set[str]:
    """The package's modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dst_dist" and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("dst_dist.")}
    known = modules()
    return {name if name in known else name.rpartition(".")[0] for name in found}


def room(module: str) -> str:
    return module.split(".")[1]


def arrows(paths: dict[str, Path]) -> dict[str, set[str]]:
    """Room -> the other rooms that its modules import."""
    drawn: dict[str, set[str]] = {}
    for name, path in paths.items():
        others = {room(module) for module in imported(path) if module != "dst_dist"}
        drawn.setdefault(room(name), set()).update(others - {room(name)})
    return drawn


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that reach themselves."""

    def reachable(start: str) -> set[str]:
        seen, waiting = set(), list(graph.get(start, ()))
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += graph.get(module, ())
        return seen

    return [module for module in graph if module in reachable(module)]


def test_imports_run_one_way():
    new = {name: others - ARROWS[name] for name, others in arrows(modules()).items()}
    assert {name: others for name, others in new.items() if others} == {}


def test_no_arrow_is_drawn_that_is_not_there():
    drawn = arrows(modules())
    spare = {name: allowed - drawn[name] for name, allowed in ARROWS.items() if name not in ("train", "evaluate")}
    assert {name: others for name, others in spare.items() if others} == {}
    assert drawn.keys() == ARROWS.keys()


def test_there_is_no_circle_also_inside_functions():
    assert cycles({name: imported(path) for name, path in modules().items()}) == []
    assert cycles(ARROWS) == []


def test_a_new_arrow_and_a_circle_are_seen(tmp_path):
    path = tmp_path / "clips.py"
    path.write_text("def f():\n    from dst_dist.model import losses\n    import dst_dist.train.loop\n")
    assert imported(path) == {"dst_dist.model.losses", "dst_dist.train.loop"}
    assert arrows({"dst_dist.data.clips": path})["data"] - ARROWS["data"] == {"model", "train"}
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_only_the_engine_touches_accelerates_plugins_and_deepspeed():
    paths = modules().items()
    touching = [name for name, path in paths if "deepspeed." in path.read_text() or "Plugin(" in path.read_text()]
    assert touching == ["dst_dist.train.engine"]


def test_files_and_functions_stay_small():
    files = [*modules().values(), *TESTS.rglob("*.py")]
    assert {str(path): count for path in files if (count := len(path.read_text().splitlines())) > LONGEST_FILE} == {}
    functions = [
        (name, node.name, node.end_lineno - node.lineno + 1)
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [found for found in functions if found[2] > LONGEST_FUNCTION] == []


def test_a_modules_tests_are_found_by_its_name():
    """`dst_dist/data/clips.py` is tested by `tests/data/test_clips*.py`."""
    without = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
        and not list((TESTS / path.relative_to(PACKAGE).parent).glob(f"test_{path.stem}*.py"))
    ]
    assert without == []


def ends_without_finalizing(path: Path) -> bool:
    """Return whether a program's last statement is `leave(...)`."""
    last = ast.parse(path.read_text()).body[-1]
    call = getattr(last.body[-1] if isinstance(last, ast.If) else last, "value", None)
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == "leave"


def test_programs_of_several_processes_do_not_finalize_python(tmp_path):
    """Gloo's threads may abort one that does: seen once in hundreds of launches, so no run of it would tell."""
    programs = [*PACKAGE.rglob("__main__.py"), *(TESTS / "train").glob("*.py")]
    programs = [path for path in programs if path.name == "__main__.py" or "__name__ ==" in path.read_text()]
    assert len(programs) >= 8
    # A server that forks the others, and does not train itself.
    assert [path.name for path in programs if not ends_without_finalizing(path)] == ["forking.py"]
    path = tmp_path / "program.py"
    path.write_text("if __name__ == '__main__':\n    sys.exit(main())\n")
    assert not ends_without_finalizing(path)


def is_text_call(call: ast.Call) -> bool:
    """Whether a call reads or writes a text file by Python's own means, with `encoding` or without."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    modes = [ast.unparse(argument) for argument in (*call.args, *(word.value for word in call.keywords))]
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    opens = name == "open" and (not owner or "path" in owner.lower() or "file" in owner or owner == "temporary")
    return name in ("read_text", "write_text") or (opens and not any("b" in mode for mode in modes if "'" in mode))


def test_text_files_are_utf_8_whatever_the_system_says():
    """A run folder that is written under one locale is read under another."""
    calls = [
        (name, node)
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and is_text_call(node)
    ]
    assert len(calls) > 30
    assert not [
        f"{name}:{call.lineno}"
        for name, call in calls
        if not any(word.arg == "encoding" and "utf-8" in ast.unparse(word.value) for word in call.keywords)
    ]


def test_no_folder_of_tests_is_passed_over(request):
    """Pytest leaves out folders of some names, among them `build`, without a word."""
    patterns = request.config.getini("norecursedirs")
    folders = {path.parent.name for path in Path(__file__).parent.rglob("test_*.py")}
    assert "build" in folders
    assert not [folder for folder in folders for pattern in patterns if fnmatch.fnmatch(folder, pattern)]
