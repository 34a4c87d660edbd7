"""The package's imports run one way, and files and functions stay small."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "dst_dist"
LAYERS = ("errors", "ending", "recipe_faults", "config", "data", "model", "logs", "prepare", "evaluate", "train", "slurm", "cli")
"""A module may import what stands before its own layer, and its own."""


def layer_of(module: str) -> int:
    return LAYERS.index(module.split(".")[1])


def imported_modules(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "dst_dist":
            names += [f"dst_dist.{alias.name}" for alias in node.names]
    return [name for name in names if name.startswith("dst_dist.")]


def wrong_imports(path: Path, module: str) -> list[str]:
    return [name for name in imported_modules(path) if layer_of(name) > layer_of(module)]


def modules() -> dict[str, Path]:
    paths = sorted(PACKAGE.rglob("*.py"))
    named = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in paths}
    return {name: path for name, path in named.items() if name not in ("dst_dist.__init__", "dst_dist.__main__")}


def test_imports_run_one_way():
    assert {name: wrong for name, path in modules().items() if (wrong := wrong_imports(path, name))} == {}


def test_an_upward_import_is_seen(tmp_path):
    path = tmp_path / "clips.py"
    path.write_text("def f():\n    from dst_dist.model import losses\n    import dst_dist.train.loop\n")
    assert wrong_imports(path, "dst_dist.data.clips") == ["dst_dist.model", "dst_dist.train.loop"]


def test_only_the_engine_touches_accelerates_plugins_and_deepspeed():
    touching = [name for name, path in modules().items() if "deepspeed." in path.read_text() or "Plugin(" in path.read_text()]
    assert touching == ["dst_dist.train.engine"]


def test_files_and_functions_stay_small():
    long_files = {name: count for name, path in modules().items() if (count := len(path.read_text().splitlines())) > 400}
    assert long_files == {}
    functions = [
        (name, node.name, node.end_lineno - node.lineno + 1)
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [found for found in functions if found[2] > 60] == []


def ends_without_finalizing(path: Path) -> bool:
    """Whether a program's last statement is `leave(...)`."""
    last = ast.parse(path.read_text()).body[-1]
    call = getattr(last.body[-1] if isinstance(last, ast.If) else last, "value", None)
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == "leave"


def test_programs_of_several_processes_do_not_finalize_python(tmp_path):
    """Gloo's threads may abort one that does: seen once in hundreds of launches, so no run of it would tell."""
    programs = [*PACKAGE.rglob("__main__.py"), *(Path(__file__).parent / "train").glob("*.py")]
    programs = [path for path in programs if path.name == "__main__.py" or "__name__ ==" in path.read_text()]
    assert len(programs) >= 8
    # A server that forks the others, and does not train itself.
    assert [path.name for path in programs if not ends_without_finalizing(path)] == ["forking.py"]
    path = tmp_path / "program.py"
    path.write_text("if __name__ == '__main__':\n    sys.exit(main())\n")
    assert not ends_without_finalizing(path)
