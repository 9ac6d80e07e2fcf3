"""Load a config: every fault found, each with file, line, key, value and a hint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from latentomics.config.model import Config
from latentomics.config.row import closest
from latentomics.problems import Problem


def read_yaml(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Parse a config file; an unreadable one is one problem, not a traceback."""
    name = str(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        hint = "create it; the line `samples: config/samples.tsv` is a complete config."
        return {}, [Problem(name, f"cannot read the config: {error.strerror or error}", hint)]
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        return {}, [Problem(name, "bytes that are not UTF-8", "save the file as UTF-8.", row=row)]
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        places = list(_walk(root, ())) if root else []
        raw = loader.construct_document(root) if root else None
    # ValueError: a date such as 2024-13-45; RecursionError: a section that holds itself through an alias.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        row = mark.line + 1 if mark else None
        what = f"not valid YAML: {getattr(error, 'problem', None) or error}"
        return {}, [Problem(name, what, "check indentation, colons and quotes near this line.", row=row)]
    if raw is None:
        return {}, []
    if not isinstance(raw, dict):
        return {}, [Problem(name, "not a mapping of keys to values", "start with `samples: config/samples.tsv`.")]
    return raw, _repeated(name, places)


class _Loader(yaml.SafeLoader):
    """Keys stay as they are written: ``on:`` is not ``True``, ``1:`` not a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def _repeated(name: str, places: list[tuple[tuple, int]]) -> list[Problem]:
    """YAML lets the last of two equal keys win in silence."""
    first: dict[tuple, int] = {}
    again: dict[tuple, int] = {}
    for loc, line in places:
        if loc not in first:
            first[loc] = line
        elif not any(loc[:n] in again for n in range(1, len(loc))):
            again[loc] = line
    hint = "join the two: only one can count."
    return [
        Problem(name, f"key appears twice, first in row {first[loc]}", hint, row=line, key=_dotted(loc))
        for loc, line in again.items()
    ]


def load_config(raw: Mapping[str, Any], path: Path) -> tuple[Config, list[Problem]]:
    """Validate a parsed config.

    Parameters
    ----------
    raw
        The merged config (file and command line).
    path
        Its file, for messages and line numbers.

    Returns
    -------
    config, problems
        With problems, ``config`` is what remains after every faulty key falls back to its default, so that the sample
        sheet can still be found and checked in the same go.
    """
    values = _plain(raw)
    problems: list[Problem] = []
    written = read_yaml(path)[0]
    lines = _lines(path)
    # Each pass drops the faulty keys; a section-wide fault may only show once its single keys are sound.
    for _ in range(5):
        try:
            return Config.model_validate(values), problems
        except ValidationError as error:
            for fault in error.errors():
                row = _row(tuple(fault["loc"]), fault["input"], written, lines)
                problems.append(_problem(fault, path, row))
                _drop(values, fault["loc"])
    return Config(), problems


def _plain(value: Any) -> Any:
    return {str(k): _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _row(loc: tuple, value: Any, written: Any, lines: Mapping[tuple, int]) -> int | None:
    """Line of a faulty value; None if it is not what stands in the file but came from the command line."""
    for part in loc:
        try:
            written = written[part]
        except (KeyError, IndexError, TypeError):
            return None
    if not isinstance(value, Mapping) and repr(value) != repr(written):
        return None
    return next((lines[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in lines), None)


def _dotted(loc: tuple) -> str:
    return ".".join(map(str, loc))


def _problem(fault: Mapping[str, Any], path: Path, row: int | None) -> Problem:
    loc = tuple(fault["loc"])
    key = _dotted(loc)
    section = _section(loc[:-1])
    here = _section(loc)
    known = list(section.model_fields) if section else []
    kind = fault["type"]
    if kind == "extra_forbidden":
        what = "unknown key"
        hint = f"{closest(str(loc[-1]), known)}Keys known here: {', '.join(known)}."
    elif kind == "literal_error":
        allowed = [word.strip(" '") for word in fault["ctx"]["expected"].replace(" or ", ", ").split(",")]
        what = "unknown value"
        hint = f"{closest(str(fault['input']), allowed)}Allowed: {', '.join(allowed)}."
    elif kind == "model_type" and here:
        what = "a section of keys belongs here"
        hint = f"write its keys below it, indented; known here: {', '.join(here.model_fields)}."
    elif here:
        what = fault["msg"].removeprefix("Value error, ")
        hint = "config/README.md says what each key means."
    else:
        what = fault["msg"].removeprefix("Value error, ")
        described = _description(loc)
        hint = f"{key}: {described}" if described else "see config/README.md for the keys and their meaning."
    value = None if isinstance(fault["input"], (dict, BaseModel)) else fault["input"]
    return Problem(str(path), what, hint, row=row, key=key, value=value)


def _section(loc: tuple) -> type[BaseModel] | None:
    model: Any = Config
    for part in loc:
        if not (isinstance(part, str) and part in model.model_fields):
            return None
        model = model.model_fields[part].annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return None
    return model


def _description(loc: tuple) -> str | None:
    names = [part for part in loc if isinstance(part, str)]
    section = _section(tuple(names[:-1])) if names else None
    found = section.model_fields.get(names[-1]) if section else None
    return found.description if found else None


def _drop(values: dict, loc: tuple) -> None:
    """Remove the faulty key; a fault inside a list drops the list."""
    names = [part for part in loc if isinstance(part, str)]
    for part in names[:-1]:
        if not isinstance(values.get(part), dict):
            values.pop(part, None)
            return
        values = values[part]
    if names:
        values.pop(names[-1], None)


def line_of(path: Path, key: tuple) -> int | None:
    """Line of a key in a config file; None where it does not stand there."""
    return _lines(path).get(key)


def _lines(path: Path) -> dict[tuple, int]:
    """Line number of every key of a YAML file; empty where it cannot be parsed (values from the command line)."""
    try:
        root = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
        return dict(_walk(root, ())) if root is not None else {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}


def _walk(node: yaml.Node, at: tuple) -> Iterator[tuple[tuple, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                where = (*at, key.value)
                yield where, key.start_mark.line + 1
                yield from _walk(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*at, i), value.start_mark.line + 1
            yield from _walk(value, (*at, i))
