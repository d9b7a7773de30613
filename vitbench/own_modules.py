"""Modules of one's own that a plug-in imports: their code is part of its numbers' identity, as the plug-in's is.

Read off the text and imported by nobody, so that an import inside a function counts too, and every process finds the same. One's
own is what lies in the plug-in's folder or in the project around it (.git, pyproject.toml): no installed package, no other project.
"""

from __future__ import annotations

import ast
import importlib.util
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from vitbench.paths import PACKAGE

_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))


def project_of(file: Path) -> Path:
    """The nearest folder above that is a project's, or the file's own."""
    return next((folder for folder in file.parents if _is_project(folder)), file.parent)


def own_modules(file: Path) -> list[Path]:
    """Files of the modules that a file imports, through each other too, sorted. Names put together as it runs are not seen."""
    root, found, todo = project_of(file), {file}, [file]
    while todo:
        new = {path for path in _imported(todo.pop()) if _own(path, root)} - found
        found |= new
        todo += new
    return sorted(found - {file})


def _is_project(folder: Path) -> bool:
    return any((folder / name).exists() for name in (".git", "pyproject.toml"))


def _own(path: Path, root: Path) -> bool:
    installed = "site-packages" in path.parts or any(
        folder in path.parents for folder in (PACKAGE.resolve(), *_INSTALLED)
    )
    # A home folder under version control holds the checkouts of others.
    below = [folder for folder in path.parents if root in folder.parents]
    return root in path.parents and not installed and not any(map(_is_project, below))


def _imported(file: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # an extension, or what a run would say
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name.split("."), None)
        elif isinstance(node, ast.ImportFrom):
            parts = node.module.split(".") if node.module else []
            folder = file.parents[node.level - 1] if node.level else None
            for alias in node.names:  # what is imported may be a module itself
                yield from _files([*parts, alias.name], folder)


def _files(parts: list[str], folder: Path | None) -> Iterator[Path]:
    """The files behind a dotted name as far as it is one of modules, found in `folder` or on the path."""
    if folder is None:
        try:
            spec = importlib.util.find_spec(parts[0])
        except (ImportError, ValueError):
            return
        if spec is None:
            return
        if spec.origin and Path(spec.origin).is_file():
            yield Path(spec.origin).resolve()
        folders, parts = [Path(p) for p in spec.submodule_search_locations or ()], parts[1:]
    else:
        folders = [folder]
    for part in parts:
        for path in (p for f in folders for p in (f / part / "__init__.py", f / f"{part}.py") if p.is_file()):
            yield path.resolve()
        folders = [f / part for f in folders if (f / part).is_dir()]
