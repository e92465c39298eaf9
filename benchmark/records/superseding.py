"""Selection of the records that tables show: those measured by older code, on older data or as a trial are left out."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmark.records.store import Record
from benchmark.request.cell import differences

BY_CATEGORY = ("data", "auxiliary")  # kinds of content that each record knows for its own categories


def reasons(records: Iterable[Record]) -> dict[int, str]:
    """The superseded ones among the records: `id` of the record → the reason, in words.

    Among the records of one setup, as the user wrote it, the newest decides on code, weights, pixels and the content of
    every file; a record that differs from it in any of them is superseded. So is a limited trial beside a full run.
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
    """The records that are not superseded, in their order."""
    records = list(records)
    older = reasons(records)
    return [record for record in records if id(record) not in older]


def contents(record: Record) -> dict[str, Any]:
    """Everything besides the request that the numbers of a record depend on, as far as it was recorded."""
    files = {key: sha256 for key, sha256 in record.cell.files.items() if not key.startswith("backbone.")}
    weights = record.backbone.get("weights_sha256")
    return {
        **record.content,
        "files": files,
        "defaults": record.cell.setup,
        **({"weights": weights} if weights else {}),
    }


def _known(content: Mapping[str, Any], newest: Mapping[str, Any]) -> dict[str, Any]:
    """The content, with categories that only one side knows taken from `newest`, so that they are no difference."""
    return {
        kind: {**newest[kind], **{key: value[key] for key in value if key in newest[kind]}}
        if kind in BY_CATEGORY and kind in newest
        else value
        for kind, value in content.items()
    }


def _learn(newest: dict[str, Any], content: Mapping[str, Any]) -> None:
    for kind, value in content.items():
        newest[kind] = {**newest.get(kind, {}), **value} if kind in BY_CATEGORY else value
