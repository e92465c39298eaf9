"""What differs between two cells of a pair: settings, code, data, weights, versions; and why they do not compare."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmark.records.store import Record

DIGITS = 10  # of a hash
LENGTHS = (40, 64)  # of a commit's and of a file's
KINDS = {  # of a record's content, in words; code and versions are told apart from them
    "data": "data (by category)",
    "auxiliary": "auxiliary data (by category)",
    "captions": "captions of the suite",
    "pixels": "how images decode and resize",
}
Pair = tuple[Record, Record]


def changes(
    pairs: Sequence[Pair], whole_a: Callable[[Record], Record], whole_b: Callable[[Record], Record]
) -> list[str]:
    """What changed from A to B, a line each, over all pairs; settings and versions are those of the first.

    Args:
        pairs: cells of one seed and category; not empty.
        whole_a: a record of A with all its fields.
        whole_b: the same of B.
    """
    a, b = pairs[0]
    return [
        *_settings(a, b),
        *_code(pairs),
        *(f"{words}: {', '.join(parts)}" for kind, words in KINDS.items() if (parts := _parts(pairs, kind))),
        *_moved("weights", _weights(a), _weights(b)),
        *_versions(whole_a(a), whole_b(b)),
    ]


def _settings(a: Record, b: Record) -> Iterator[str]:
    """Settings by key, A's value and B's; those of two methods are not set side by side."""
    yield from _moved("method", a.cell.method, b.cell.method)
    yield from _moved("split of the data set", a.cell.variant, b.cell.variant)
    yield from _moved("limit", a.cell.limit, b.cell.limit)
    before, after = a.cell.by_content, b.cell.by_content
    for group in before:
        if group == "method" and a.cell.method != b.cell.method:
            continue
        for key in sorted({*before[group], *after[group]}):
            yield from _moved(f"{group}.{key}", *(_short(side[group].get(key)) for side in (before, after)))


def _short(value: Any) -> Any:
    """A value, or the first digits of a hash that stands for a file or a commit."""
    is_hash = isinstance(value, str) and len(value) in LENGTHS and not {*value} - {*"0123456789abcdef"}
    return value[:DIGITS] if is_hash else value


def _moved(name: str, before: Any, after: Any) -> list[str]:
    return [f"{name}: {before} -> {after}"] if before != after else []


def _code(pairs: Iterable[Pair]) -> list[str]:
    """In-house files that differ; of two methods, those that both are made of."""
    changed, only_a, only_b = set(), set(), set()
    for a, b in pairs:
        before, after = a.content.get("code", {}), b.content.get("code", {})
        changed |= {name for name in before if name in after and before[name] != after[name]}
        if a.cell.method == b.cell.method and before and after:
            only_a |= {*before} - {*after}
            only_b |= {*after} - {*before}
    told = (("code", changed), ("code of A alone", only_a), ("code of B alone", only_b))
    return [f"{words}: {', '.join(sorted(names))}" for words, names in told if names]


def _parts(pairs: Iterable[Pair], kind: str) -> list[str]:
    """The parts of one kind of content that differ in some pair; ["changed"] where it has no parts."""
    found = set()
    for a, b in pairs:
        before, after = a.content.get(kind), b.content.get(kind)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found |= {str(key) for key in before if key in after and before[key] != after[key]}
        elif before is not None and after is not None and before != after:
            found.add("changed")
    return sorted(found)


def _weights(record: Record) -> str:
    return str(record.backbone.get("weights_sha256", ""))[:DIGITS]


def _versions(a: Record, b: Record) -> Iterator[str]:
    """Versions of protocol and metrics, of Python and packages, the commit and the device."""
    for before, after in ((a.content.get("versions", {}), b.content.get("versions", {})), (a.provenance, b.provenance)):
        for key, one, other in _leaves(before, after):
            yield from _moved(key, _short(one), _short(other))


def _leaves(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted({*before, *after}):
        one, other = before.get(key), after.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _leaves(one, other)
        else:
            yield key, one, other


def why_not_comparable(pairs: Sequence[Pair]) -> list[str]:
    """What of a comparison differs in pairs whose comparison ids differ, a few words each; whole records."""
    found: dict[str, None] = {}
    for a, b in pairs:
        its = [words for words, of in GROUNDS.items() if of(a) != of(b)]
        found |= dict.fromkeys(its or ["something that no record names"])
    return list(found)


def _tested(record: Record) -> Any:
    data = record.content.get("data", {})
    return {category: data.get(category) for category in record.cell.categories}


GROUNDS: Mapping[str, Callable[[Record], Any]] = {
    "other files of the data set": _tested,
    "other numbers of shots": lambda record: record.cell.shots,
    "other shots": lambda record: (record.data.get("shots_sha256"), record.data.get("shot_rule")),
    "other categories fitted on": lambda record: record.cell.fitted,
    "other categories in one model": lambda record: record.cell.categories,
    "other evaluation size": lambda record: record.cell.settings.protocol.evaluation_size,
    "other regions": lambda record: record.cell.settings.protocol.regions,
    "other limit": lambda record: record.cell.limit,
    "other protocol": lambda record: record.cell.protocol,
    "other decoding of images": lambda record: record.content.get("pixels"),
    "other versions of protocol or metrics": lambda record: record.content.get("versions"),
}
