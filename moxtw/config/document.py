"""A configuration file in memory: its lines, the value that they mean, and edits.

`Document.edited` writes a changed value into the text so that comments, order, blank lines and
the spelling of whatever did not change stay as the admin wrote them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from moxtw.config.codec import (
    Codec,
    ListCodec,
    MapCodec,
    OptionalCodec,
    StructCodec,
    struct_codec,
)
from moxtw.config.sconf import Node, SconfError, format_tree, parse_tree, split_key

T = TypeVar("T")

Step = str | int
"""Part of a path to a value: a field name or key, or the index of a list item."""

_DIFF_LIMIT: Final = 2000
"""Items up to which list changes are matched item by item; matching is quadratic."""


@dataclass(frozen=True, slots=True)
class Document(Generic[T]):
    """The text of a file as tree, and its value."""

    root: Node
    value: T

    @property
    def text(self) -> str:
        """The file's text, with LF line ends."""
        return format_tree(self.root)

    def edited(self, value: T) -> Document[T]:
        """The document with another value. Raises SconfError for what cannot be written."""
        codec = struct_codec(type(value))
        children, rest = _patch_struct(codec, self.root, self.value, value)
        root = Node("", children, lead=self.root.lead, tail=[*rest, *self.root.tail])
        return Document(root, value)

    def line_of(self, path: Iterable[Step]) -> int:
        """The line where the value at `path` stands, or the section that it is missing from."""
        node = self.root
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node = found
        return node.line


def read(text: str, cls: type[T], errors: list[SconfError]) -> Document[T]:
    """Parse text as a section of class `cls`; errors are collected.

    With errors the value is incomplete: what could not be read is at its zero value.
    """
    root = parse_tree(text, errors)
    value = struct_codec(cls).decode_fields(root, errors)
    errors.sort(key=lambda error: error.line)
    return Document(root, value)


def new(value: T) -> Document[T]:
    """The document of a value, without comments. Raises SconfError."""
    _, children = struct_codec(type(value)).encode(value)
    return Document(Node("", children), value)


def write(value: Any) -> str:
    """The text of a value, without comments. Raises SconfError."""
    return new(value).text


def _child(node: Node, step: Step) -> Node | None:
    if isinstance(step, int):
        return node.children[step] if 0 <= step < len(node.children) else None
    for child in node.children:
        pair = split_key(child.text)
        if pair is not None and pair[0] == step:
            return child
    return None


def _patched(codec: Codec, node: Node, key: str | None, old: Any, new: Any) -> Node:
    """The line for `new` in place of `node`, which stands for `old`. `key` None: list item."""
    inner = codec.inner if isinstance(codec, OptionalCodec) else codec
    nested = old is not None and new is not None and node.children
    rest: list[str] = []
    if nested and isinstance(inner, StructCodec):
        children, rest = _patch_struct(inner, node, old, new)
    elif nested and isinstance(inner, MapCodec) and new:
        children, rest = _patch_map(inner, node, old, new)
    elif nested and isinstance(inner, ListCodec) and new:
        children, rest = _patch_list(inner, node, old, new)
    else:
        children = []
    if children:
        head = "-" if key is None else _section_head(node, key)
        return Node(head, children, line=node.line, lead=node.lead, tail=[*rest, *node.tail])
    fresh = _fresh(codec, key, new)
    tail = node.tail if fresh.children else []
    return Node(fresh.text, fresh.children, line=node.line, lead=node.lead, tail=tail)


def _section_head(node: Node, key: str) -> str:
    pair = split_key(node.text)
    return f"{key}:" if pair is None or pair[1].strip() else node.text


def _fresh(codec: Codec, key: str | None, value: Any) -> Node:
    if key is None:
        return ListCodec(codec).item_node(value)
    return MapCodec(codec).item_node(key, value)


def _kept_comments(node: Node) -> list[str]:
    """The comments before a removed line that are not about it: those above a blank line."""
    for index in range(len(node.lead) - 1, -1, -1):
        if not node.lead[index].strip():
            return node.lead[: index + 1]
    return []


def _patch_struct(
    codec: StructCodec, node: Node, old: Any, new: Any
) -> tuple[list[Node], list[str]]:
    """The fields of `new` in the order and spelling of `node`'s, and comments left at the end."""
    result: list[Node] = []
    attrs: list[str] = []
    orphans: list[str] = []
    for child in node.children:
        pair = split_key(child.text)
        field = codec.by_name.get(pair[0]) if pair is not None else None
        if field is None or field.attr in attrs:
            continue  # Only in a file with errors, which is never edited.
        before, after = getattr(old, field.attr), getattr(new, field.attr)
        if before == after:
            patched = child
        elif field.optional and field.codec.is_zero(after):
            orphans.extend(_kept_comments(child))
            continue
        else:
            patched = _patched(field.codec, child, field.name, before, after)
        result.append(_after(orphans, patched))
        orphans = []
        attrs.append(field.attr)
    order = {field.attr: index for index, field in enumerate(codec.fields)}
    for field in codec.fields:
        value = getattr(new, field.attr)
        if field.attr in attrs or (field.optional and field.codec.is_zero(value)):
            continue
        # Behind the fields that come before it in the documentation.
        place = len(attrs)
        while place and order[attrs[place - 1]] > order[field.attr]:
            place -= 1
        result.insert(place, codec.field_node(field, value))
        attrs.insert(place, field.attr)
    return result, orphans


def _after(orphans: list[str], node: Node) -> Node:
    return node.with_lead([*orphans, *node.lead]) if orphans else node


def _patch_map(codec: MapCodec, node: Node, old: Any, new: Any) -> tuple[list[Node], list[str]]:
    result: list[Node] = []
    keys: list[str] = []
    seen: set[str] = set()
    orphans: list[str] = []
    for child in node.children:
        pair = split_key(child.text)
        if pair is None or pair[0] in seen:
            continue
        key = pair[0]
        if key not in new:
            orphans.extend(_kept_comments(child))
            continue
        before, after = old[key], new[key]
        patched = child
        if before is not after and before != after:
            patched = _patched(codec.item, child, key, before, after)
        result.append(_after(orphans, patched))
        orphans = []
        keys.append(key)
        seen.add(key)
    ordered = all(a < b for a, b in zip(keys, keys[1:], strict=False))
    added = [key for key in new if key not in seen]
    if ordered and keys:
        # The admin, or an earlier program, keeps the keys sorted: go on so.
        for key in sorted(added, reverse=True):
            place = _sorted_place(keys, key)
            result.insert(place, codec.item_node(key, new[key]))
    else:
        result.extend(codec.item_node(key, new[key]) for key in added)
    return result, orphans


def _sorted_place(keys: Sequence[str], key: str) -> int:
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


def _patch_list(codec: ListCodec, node: Node, old: Any, new: Any) -> tuple[list[Node], list[str]]:
    result: list[Node] = []
    orphans: list[str] = []
    nodes = node.children
    if len(nodes) != len(old) or len(old) + len(new) > _DIFF_LIMIT:
        return [codec.item_node(item) for item in new], orphans
    before = [repr(item) for item in old]
    after = [repr(item) for item in new]
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            kept = nodes[i1:i2]
        else:
            both = min(i2 - i1, j2 - j1)
            kept = [
                _patched(codec.item, nodes[i1 + n], None, old[i1 + n], new[j1 + n])
                for n in range(both)
            ]
            kept += [codec.item_node(item) for item in new[j1 + both : j2]]
            removed = nodes[i1 + both : i2]
            if removed:
                if kept:
                    kept[0] = _after(orphans, kept[0])
                    orphans = []
                    result += kept
                    kept = []
                for gone in removed:
                    orphans.extend(_kept_comments(gone))
        if kept:
            kept[0] = _after(orphans, kept[0])
            orphans = []
            result += kept
    return result, orphans
