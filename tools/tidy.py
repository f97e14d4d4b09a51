"""Checks the house rules that no off-the-shelf linter knows: sizes, names, places, words.

    python tools/tidy.py [ROOT]

Reads `src`, `tests`, `tools` and `bench`, prints `file:line: what is wrong`, and exits with 1 when
there is anything to print. A rule is a function from a source file to its violations.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

TREES = ("src", "tests", "tools", "bench")
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70

BANNED_PARTS = frozenset({"manager", "helper", "helpers", "util", "utils", "base", "data"})
BANNED_PREFIX = "process_"
BANNED_WORDS = re.compile(r"\b(TODO|FIXME|XXX)\b")
# Public names that programs written for the reference already use.
NAMES_OF_THE_CONTRACT = frozenset({"DBOSBaseException", "DBOSStoredDataError", "to_error_data"})

# The layers whose code is driven by others, and so may neither wait, nor draw, nor connect.
LOOP_FREE = frozenset({"engine", "ops"})
KEPT_OUT_OF_LOOP_FREE = (
    "asyncio",
    "concurrent",
    "multiprocessing",
    "psycopg",
    "psycopg_pool",
    "random",
    "socket",
    "sqlite3",
    "threading",
    "time",
    "uuid",
)
# Imports that belong to one layer.
AT_HOME = {"sqlalchemy": "transactions", "opentelemetry": "telemetry"}
# What may be imported late: optional dependencies, SQLAlchemy, and what imports them at its top;
# and croniter, which takes longer to import than any module of ours and which few programs need.
IMPORTED_LATE = (
    "attr",
    "attrs",
    "confluent_kafka",
    "croniter",
    "dbos.integrations",
    "dbos.storage.postgres",
    "dbos.transactions",
    "fastapi",
    "flask",
    "opentelemetry",
    "pydantic",
    "sqlalchemy",
)

LOCKS = frozenset({"Barrier", "BoundedSemaphore", "Condition", "Lock", "RLock", "Semaphore"})
LOCK_MODULES = frozenset({"asyncio", "multiprocessing", "threading"})
LOCKING_LAYERS = frozenset({"runtime", "storage"})

# Upper case, or lower case in a shape that prose does not have: a message may begin with "Select".
SQL = re.compile(
    r"\s*(?:"
    r"(?:SELECT|PRAGMA|NOTIFY|LISTEN|UNLISTEN|VACUUM|TRUNCATE|SAVEPOINT)\s"
    r"|(?:INSERT(?:\s+OR\s+\w+)?\s+INTO|DELETE\s+FROM|MERGE\s+INTO)\s"
    r"|UPDATE\s+\S+\s+(?:AS\s+\w+\s+)?SET\s"
    r"|(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+|UNIQUE\s+|TEMP\s+)?"
    r"(?:TABLE|INDEX|SCHEMA|DATABASE|TRIGGER|FUNCTION|VIEW|TYPE|SEQUENCE)\s"
    r"|WITH\s+(?:RECURSIVE\s+)?\w+\s*(?:\([^)]*\)\s*)?AS\s*\("
    r"|(?:BEGIN|COMMIT|ROLLBACK)(?:\s+[A-Z]+)*\s*;?\s*$"
    r"|select\s.+\sfrom\s+\w+|insert\s+into\s+\S+\s*(?:\(|values|select)"
    r"|update\s+\S+\s+set\s+\w+\s*=|delete\s+from\s+\S+\s+where\s)",
    re.DOTALL,
)

Violation = tuple[int, str]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Source:
    """One parsed file, at its path below the root."""

    path: PurePosixPath
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        """The tree: one of TREES."""
        return self.path.parts[0]

    @property
    def layer(self) -> str | None:
        """The package or module directly below src/dbos; None outside of it."""
        parts = self.path.with_suffix("").parts
        return parts[2] if parts[:2] == ("src", "dbos") and len(parts) > 2 else None


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, in full, that counts when the program runs."""

    line: int
    name: str
    is_late: bool

    def is_of(self, *modules: str) -> bool:
        return any(self.name == module or self.name.startswith(f"{module}.") for module in modules)


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    files = sorted(file for tree in TREES for file in (root / tree).rglob("*.py"))
    if not files:
        print(f"tidy: no Python file below {root}; name the root of the project", file=sys.stderr)
        return 2
    reports = [report for file in files for report in check_file(file, root)]
    print("\n".join(reports) if reports else f"tidy: {len(files)} files, nothing to say")
    return 1 if reports else 0


def check_file(file: Path, root: Path) -> list[str]:
    """Return one `path:line: text` for each violation in the file, in the order of its lines."""
    path = PurePosixPath(file.relative_to(root).as_posix())
    text = file.read_text(encoding="utf-8")
    try:
        source = Source(path, text, ast.parse(text))
    except SyntaxError as error:
        return [f"{path}:{error.lineno or 1}: does not parse: {error.msg}"]
    found = sorted(violation for rule in RULES for violation in rule(source))
    return [f"{path}:{line}: {text}" for line, text in found]


def file_size(source: Source) -> Iterator[Violation]:
    lines = len(source.text.splitlines())
    if lines > MAX_FILE_LINES:
        yield lines, f"file of {lines} lines; split it, {MAX_FILE_LINES} is the limit"


def function_size(source: Source) -> Iterator[Violation]:
    for node in _functions(source.tree):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            said = f"function {node.name} of {lines} lines"
            yield node.lineno, f"{said}; split it, {MAX_FUNCTION_LINES} is the limit"


def module_docstring(source: Source) -> Iterator[Violation]:
    if source.tree.body and not (ast.get_docstring(source.tree) or "").strip():
        yield 1, "no module docstring; say in one line what the module is responsible for"


def banned_names(source: Source) -> Iterator[Violation]:
    module = source.path.parent.name if source.path.stem == "__init__" else source.path.stem
    yield from _name_violations(1, f"module {module}", module)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            yield from _name_violations(node.lineno, f"class {node.name}", node.name)
        elif isinstance(node, Function) and not node.name.startswith("test_"):
            yield from _name_violations(node.lineno, f"function {node.name}", node.name)


def banned_words(source: Source) -> Iterator[Violation]:
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and (word := BANNED_WORDS.search(token.string)):
            yield token.start[0], f"{word.group()} in a comment; do it, or file it elsewhere"


def sql_outside_storage(source: Source) -> Iterator[Violation]:
    if source.layer in (None, "storage"):
        return
    prose = {id(node.value) for node in ast.walk(source.tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) not in prose and SQL.match(node.value):
            yield node.lineno, "SQL outside src/dbos/storage; move it there, behind a function"


def late_imports(source: Source) -> Iterator[Violation]:
    """Tests and measurements are left alone: how long an import takes is one of their subjects."""
    if source.place not in ("src", "tools"):
        return
    for found in _imports(source):
        if found.is_late and not found.is_of(*IMPORTED_LATE):
            yield found.line, f"import of {found.name} inside a function; move it to the top"


def misplaced_imports(source: Source) -> Iterator[Violation]:
    if source.layer is None:
        return
    for found in _imports(source):
        if source.layer in LOOP_FREE and found.is_of(*KEPT_OUT_OF_LOOP_FREE):
            yield found.line, f"import of {found.name} in dbos.{source.layer}; go through Io"
        for module, home in AT_HOME.items():
            if found.is_of(module) and source.layer != home:
                yield found.line, f"import of {found.name} outside dbos.{home}"


def misplaced_locks(source: Source) -> Iterator[Violation]:
    if source.layer is None or source.layer in LOCKING_LAYERS:
        return
    said = "outside dbos.runtime and dbos.storage, the only places with locks"
    for found in _imports(source):
        module, _, name = found.name.rpartition(".")
        if module in LOCK_MODULES and name in LOCKS:
            yield found.line, f"{found.name} {said}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, name = node.value.id, node.attr
            if module in LOCK_MODULES and name in LOCKS:
                yield node.lineno, f"{module}.{name} {said}"


RULES: tuple[Callable[[Source], Iterator[Violation]], ...] = (
    file_size,
    function_size,
    module_docstring,
    banned_names,
    banned_words,
    sql_outside_storage,
    late_imports,
    misplaced_imports,
    misplaced_locks,
)


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _name_violations(line: int, what: str, name: str) -> Iterator[Violation]:
    if name in NAMES_OF_THE_CONTRACT:
        return
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    for word in words:
        if word.lower() in BANNED_PARTS:
            yield line, f"{what}: '{word}' says nothing; name what it is in the domain"
    if name.lstrip("_").startswith(BANNED_PREFIX):
        yield line, f"{what}: '{BANNED_PREFIX}' says nothing; name what is done"


def _imports(source: Source) -> Iterator[Import]:
    pending: list[tuple[ast.AST, bool]] = [(source.tree, False)]
    while pending:
        node, is_late = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (Import(node.lineno, name, is_late) for name in _names(source, node))
        is_late = is_late or isinstance(node, Function)
        pending += [(child, is_late) for child in _children_at_run_time(node)]


def _children_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Leave out what only type checkers see: signatures may name what the layer may not use."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return iter(node.orelse)
    return ast.iter_child_nodes(node)


def _names(source: Source, node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    package = source.path.parts[1:] if source.place == "src" else source.path.parts
    origin = [*package[: -node.level]] if node.level else []
    origin += [node.module] if node.module else []
    return [".".join([*origin, alias.name]) for alias in node.names]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
