"""Loads a filter in Python, in a worker; and for `gwfast check` in a process of its own, which it may block or end.

Rule: what is no filter is an exception, whatever it is; a module may raise anything, and may call sys.exit.
"""
import importlib
import importlib.util
import linecache
import os
import select
import signal
import sys
import traceback
import types
from typing import Any

import msgspec

from gwfast import limits
from gwfast.plan.ir import ExtensionFilter


class NoClass(TypeError):
    """A filter's class is not there, or is none of a filter."""


def make(definition: ExtensionFilter) -> Any:
    """Import a filter and make one."""
    module = _module(definition)
    if not hasattr(module, definition.class_name):
        where = os.path.basename(definition.file) or definition.module or definition.config_map
        raise NoClass(f"{where} has no class {definition.class_name}")
    made = getattr(module, definition.class_name)(msgspec.json.decode(definition.config))
    if not callable(getattr(made, "on_request", None)) and not callable(getattr(made, "on_response", None)):
        raise NoClass(f"{definition.class_name} has neither on_request nor on_response")
    return made


def _module(definition: ExtensionFilter) -> Any:
    if definition.module:
        return importlib.import_module(definition.module)
    name = f"gwfast_filter_{definition.id:016x}"
    if definition.config_map:
        return _of_config_map(definition, name)
    spec = importlib.util.spec_from_file_location(name, definition.file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{definition.file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _of_config_map(definition: ExtensionFilter, name: str) -> Any:
    """Run what a ConfigMap holds as a module. Tracebacks show its lines: where they are looked up, they are put."""
    file = file_of(definition)
    compiled = compile(definition.code, file, "exec", dont_inherit=True)
    linecache.cache[file] = (len(definition.code), None, definition.code.splitlines(keepends=True), file)
    module = sys.modules[name] = types.ModuleType(name)
    module.__file__ = file
    exec(compiled, module.__dict__)
    return module


def file_of(definition: ExtensionFilter) -> str:
    """Return what tracebacks call the file of a filter's code; '' for a module."""
    return f"<ConfigMap {definition.config_map}>" if definition.config_map else definition.file


def fault(definition: ExtensionFilter, timeout: float = limits.FILTER_CHECKED) -> tuple[str, str]:
    """Return the field to blame and why a filter cannot be loaded; '' if it can. It is made, and not started."""
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        _child(definition, tell)
    os.close(tell)
    with open(told, "rb", closefd=True) as pipe:
        late = not select.select([pipe], [], [], timeout)[0]
        if late:
            os.kill(pid, signal.SIGKILL)
        words = pipe.read().decode("utf-8", "replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if late:
        words = f"it has not been loaded within {timeout:g} s"
    elif status and not words:
        words = f"it ends the process that loads it (status {status})"
    named = "file" if definition.file else "module" if definition.module else "configMap"
    return "class" if words.startswith("class\n") else named, words.removeprefix("class\n")


def _child(definition: ExtensionFilter, tell: int) -> None:
    """Load it without a word on our output; say why it failed, and end whatever happens."""
    status = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        try:
            make(definition)
        except BaseException as error:
            os.write(tell, _words(error, definition).encode("utf-8", "replace")[:select.PIPE_BUF])
        status = 0
    finally:
        os._exit(status)


def _words(error: BaseException, definition: ExtensionFilter) -> str:
    if isinstance(error, NoClass):
        return f"class\n{error}"
    if isinstance(error, FileNotFoundError) and error.filename == definition.file:
        return f"there is no file {definition.file}"
    said = " ".join("".join(traceback.format_exception_only(error)).split())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file_of(definition)]
    return f"{said} ({os.path.basename(definition.file) or definition.config_map} line {frames[-1].lineno})" if frames else said
