"""Imports and cimports point one way: text -> config -> graph -> plan -> image -> engine, and what serves it on top."""
import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gwfast"

# From the bottom up; a module may import from its own layer and from those below it.
LAYERS = [
    r"gwfast|backoff|collector|crowd|errors|grammar|identity|limits|lines|linux|sendable|sharing",
    r"config(\..*)?",
    r"graph(\..*)?",
    r"plan(\.(?!image).*)?",
    r"(_match|_pick|http|http1|http2|tls|table|engine|upstream|exchange|extend|l4)(\..*)?|filters",  # the compiled stages
    r"plan\.image",  # the door to the compiled image writer
    r"endpoints(\..*)?",
    r"observe(\..*)?|serve\.options",
    r"kinds|options|parameters",
    r"kubernetes(\..*)?",
    r"serve(\..*)?",
    r"controller(\..*)?",
    r"ingress(\..*)?",
    r"show|echo",
    r"cli",
    r"__main__",
]


def modules() -> dict[str, list[Path]]:
    """Name without 'gwfast.' -> its files (a .pyx and its .pxd are one module)."""
    found: dict[str, list[Path]] = {}
    for file in sorted(PACKAGE.rglob("*.p*")):
        if file.suffix in (".py", ".pyx", ".pxd", ".pyi"):
            parts = file.relative_to(PACKAGE).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "gwfast"
            found.setdefault(name, []).append(file)
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """Modules of gwfast that this one imports or cimports, also in the middle of its functions."""
    return {target for file in MODULES[name] for target in imports_of(file)} - {name}


def imports_of(file: Path) -> set[str]:
    text = file.read_text()
    if file.suffix in (".py", ".pyi"):
        nodes = [node for node in ast.walk(ast.parse(text))]
        pairs = [(n.module, [a.name for a in n.names]) for n in nodes if isinstance(n, ast.ImportFrom) and n.module]
        pairs += [(a.name, []) for n in nodes if isinstance(n, ast.Import) for a in n.names]
    else:
        pairs = [(m[1], re.findall(r"\w+", m[2])) for m in
                 re.finditer(r"^\s*from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^\n]*)", text, re.M)]
        pairs += [(m[1], []) for m in re.finditer(r"^\s*c?import\s+([\w.]+)", text, re.M)]
    return {target for module, names in pairs for target in targets(module, names)}


def targets(module: str, names: list[str]) -> set[str]:
    if module != "gwfast" and not module.startswith("gwfast."):
        return set()
    own = module.removeprefix("gwfast").removeprefix(".")
    below = {".".join(filter(None, (own, name))) for name in names} & MODULES.keys()
    return below or {own or "gwfast"}


def layer(name: str) -> int:
    return next(i for i, pattern in enumerate(LAYERS) if re.fullmatch(pattern, name))


def test_every_import_points_down() -> None:
    wrong = [f"{name} (layer {layer(name)}) imports {target} (layer {layer(target)})"
             for name in MODULES for target in imports(name) if layer(target) > layer(name)]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: imports(name) for name in MODULES}
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"a circle among {sorted(graph)}"


def test_what_this_test_sees() -> None:
    """The checks above are worth nothing if imports go unnoticed."""
    assert "http.head" in imports("http1.parser")
    assert "plan.ir" in imports("plan.build")
    assert "serve.supervisor" in imports("cli")
