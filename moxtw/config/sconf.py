"""The sconf text format: lines to a tree and back.

    # a comment, on lines of its own
    Key: value
    Section:
    →Key: value
    List:
    →- value
    →-
    →→Key: value
    Empty: nil

Lines are indented with tabs, one per level (shown as arrows). A value is the rest of its line,
without quoting or escaping; the text after ``Key: `` is taken as it stands, blanks included.
``nil`` stands for an empty section, list or map. What a line means, key and value or list
item, depends on the type it belongs to: see `moxtw.config.codec`. Here are only lines, their
nesting, and the comments before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MAX_TEXT: Final = 64 << 20
"""Characters of a file. 100,000 accounts need some 50 million."""

MAX_DEPTH: Final = 32
"""Levels of indentation, some three times what the configuration needs."""


class SconfError(ValueError):
    """A line that is not as the format demands; `line` counts from 1, 0 if there is none."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"{line}: {message}" if line else message)
        self.line = line
        self.message = message


class Node:
    """A line with the lines nested below it.

    `text` is the line without indentation and without line end. `lead` holds the comment and
    blank lines before it, `tail` those after its last child, as they stand in the file.
    Nodes are not changed once made: an edited tree shares what stayed the same.
    """

    __slots__ = ("children", "lead", "line", "tail", "text")

    def __init__(
        self,
        text: str,
        children: list[Node] | None = None,
        *,
        line: int = 0,
        lead: list[str] | None = None,
        tail: list[str] | None = None,
    ) -> None:
        self.text = text
        self.children = [] if children is None else children
        self.line = line
        self.lead = [] if lead is None else lead
        self.tail = [] if tail is None else tail

    def with_lead(self, lead: list[str]) -> Node:
        """The same line and its children after other comments."""
        return Node(self.text, self.children, line=self.line, lead=lead, tail=self.tail)

    def __repr__(self) -> str:
        return f"Node({self.text!r}, {len(self.children)} children, line={self.line})"


def parse_tree(text: str, errors: list[SconfError]) -> Node:
    """Read lines into a tree; the root has no text. Faulty lines are left out, with an error.

    Line ends may be LF or CRLF. Linear in the length of the text.
    """
    root = Node("")
    if len(text) > MAX_TEXT:
        errors.append(SconfError(0, f"file holds more than {MAX_TEXT} characters"))
        return root
    open_nodes = [root]  # The last node of each level, the root first.
    pending: list[str] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.removesuffix("\r")
        content = line.lstrip("\t")
        if not content or content[0] in " #":
            stripped = content.lstrip(" \t")
            if not stripped or stripped[0] == "#":
                pending.append(line)
                continue
            errors.append(SconfError(number, "indentation must consist of tabs, not spaces"))
            continue
        depth = len(line) - len(content)
        if "\x00" in content:
            errors.append(SconfError(number, "NUL character"))
            continue
        if depth >= MAX_DEPTH:
            errors.append(SconfError(number, f"more than {MAX_DEPTH} levels of indentation"))
            continue
        if depth >= len(open_nodes):
            errors.append(
                SconfError(number, f"indented {depth - len(open_nodes) + 1} tabs too deep")
            )
            continue
        if depth < len(open_nodes) - 1:
            pending = _settle(open_nodes, depth, pending)
            del open_nodes[depth + 1 :]
        node = Node(content, line=number, lead=pending)
        pending = []
        open_nodes[depth].children.append(node)
        open_nodes.append(node)
    # The text after the last line end is no line, so that it must not become a blank one.
    if pending and pending[-1] == "":
        pending.pop()
    pending = _settle(open_nodes, 0, pending)
    root.tail.extend(pending)
    return root


def _settle(open_nodes: list[Node], depth: int, pending: list[str]) -> list[str]:
    """Give comments indented deeper than `depth` to the section that they end.

    Returns the others, which belong to the line to come.
    """
    end = 0
    deepest = 0
    for index, line in enumerate(pending):
        tabs = len(line) - len(line.lstrip("\t"))
        if line.strip() and tabs > depth:
            end = index + 1
            deepest = max(deepest, tabs)
    if end:
        open_nodes[min(deepest, len(open_nodes) - 1)].tail.extend(pending[:end])
    return pending[end:]


def format_tree(root: Node) -> str:
    """The text of a tree, comments included."""
    lines: list[str] = []
    # An explicit stack of iterators: nesting costs no recursion.
    _emit(root, lines)
    lines.extend(root.tail)
    return "\n".join(lines) + "\n" if lines else ""


def _emit(root: Node, lines: list[str]) -> None:
    stack: list[tuple[Node, Iterator[Node]]] = [(root, iter(root.children))]
    while stack:
        parent, children = stack[-1]
        node = next(children, None)
        if node is None:
            stack.pop()
            if stack:
                lines.extend(parent.tail)
            continue
        lines.extend(node.lead)
        lines.append("\t" * (len(stack) - 1) + node.text)
        if node.children or node.tail:
            stack.append((node, iter(node.children)))


def split_key(text: str) -> tuple[str, str] | None:
    """A line as key and value; the value is empty for ``Key:``. None if there is no key.

    The key ends at the first colon followed by a blank, or at a colon that ends the line. A
    part in double quotes at its start, as in ``"a: b"@example.org: nil``, is skipped over.
    """
    start = 0
    if text.startswith('"'):
        start = _quoted_end(text)
    end = text.find(": ", start)
    if end < 0:
        # Trailing blanks after the colon are invisible to whoever wrote the line.
        stripped = text.rstrip()
        if len(stripped) < 2 or not stripped.endswith(":"):
            return None
        return stripped[:-1], ""
    if end == 0:
        return None
    return text[:end], text[end + 2 :]


def _quoted_end(text: str) -> int:
    """Where the quoted start of a key ends, 0 if the quote is never closed."""
    index = 1
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 2
            continue
        if char == '"':
            return index + 1
        index += 1
    return 0


def join_key(key: str, value: str | None) -> str:
    """A line of key and value, or ``key:`` for a section (None).

    Raises SconfError if the format cannot hold them.
    """
    line = f"{key}:" if value is None else f"{key}: {value}"
    if split_key(line) != (key, value or "") or not plain(key) or key[0] in "\t #":
        raise SconfError(0, f"cannot be written as a key: {key!r}")
    if value is not None and not plain(value):
        raise SconfError(0, f"cannot hold line ends: {key}: {value!r}")
    return line


def plain(text: str) -> bool:
    """Whether text can stand on one line of a file: no line ends, no NUL, no surrogates."""
    if "\n" in text or "\x00" in text or text.endswith("\r"):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
