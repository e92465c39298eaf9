"""Which records stand in a table: of what was measured by older code, on older data or as a trial, none does."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmark.records.store import Record
from benchmark.request.cell import differences

BY_CATEGORY = ("data", "auxiliary")  # kinds of content that each record knows for its own categories


def reasons(records: Iterable[Record]) -> dict[int, str]:
    """Why each superseded record is: `id` of the record → words.

    Among the records of one setup, as the user wrote it, the newest decides on code, weights, pixels and the content of
    every file; what differs from it in any is older. A limited trial gives way to a full run of the same setup.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.cell.words, []).append(record)
    found = {}
    for group in groups.values():
        full = any(record.cell.limit is None and record.status == "ok" for record in group)
        newest: dict[str, Any] = {}
        for record in sorted(group, key=lambda record: record.started, reverse=True):
            content = contents(record)
            if changed := differences(_known(content, newest), newest):
                found[id(record)] = f"superseded: older {'; '.join(changed)}"
            elif full and record.cell.limit is not None:
                found[id(record)] = "superseded: a full run stands beside this limited one"
            else:
                _learn(newest, content)
    return found


def standing(records: Iterable[Record]) -> list[Record]:
    """Those of the records that stand in tables, in their order."""
    records = list(records)
    older = reasons(records)
    return [record for record in records if id(record) not in older]


def contents(record: Record) -> dict[str, Any]:
    """All that a record says of what its numbers depend on besides the request."""
    files = {key: sha256 for key, sha256 in record.cell.files.items() if not key.startswith("backbone.")}
    weights = record.backbone.get("weights_sha256")
    return {
        **record.content,
        "files": files,
        "defaults": record.cell.setup,
        **({"weights": weights} if weights else {}),
    }


def _known(content: Mapping[str, Any], newest: Mapping[str, Any]) -> dict[str, Any]:
    """The content as far as newer records can contradict it: categories that only one side knows are no difference."""
    return {
        kind: {**newest[kind], **{key: value[key] for key in value if key in newest[kind]}}
        if kind in BY_CATEGORY and kind in newest
        else value
        for kind, value in content.items()
    }


def _learn(newest: dict[str, Any], content: Mapping[str, Any]) -> None:
    for kind, value in content.items():
        newest[kind] = {**newest.get(kind, {}), **value} if kind in BY_CATEGORY else value
