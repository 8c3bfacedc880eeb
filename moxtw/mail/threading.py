"""Messages put into threads (RFC 5256 section 3): ORDEREDSUBJECT, REFERENCES, and REFS.

Messages are known by their place in the mailbox, from 0. Dummies, which stand for messages
that others refer to and that are not there, have the numbers behind. Nothing here is
recursive, and the time is linear, also for references that go in circles: they come from
outside.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from moxtw.mail.sortkeys import ThreadKeys

# Items that are sorted in one go; sorting does not let other threads work meanwhile.
_PIECE: Final = 8192
# Steps for each message that are taken to find out whether a link would close a circle. Usual
# mail needs next to none.
_STEPS: Final = 10


class Forest(NamedTuple):
    """Threads: the roots in order, and the children, in order, of those that have any.

    Only a root may be a dummy, and then has two children or more.
    """

    size: int
    roots: list[int]
    children: dict[int, list[int]]


def order_by(keys: Sequence[int]) -> list[int]:
    """The places of `keys` in the order of the keys; of equal keys the first place is first."""
    count = len(keys)
    if count <= _PIECE:
        return sorted(range(count), key=keys.__getitem__)
    # Put into ranges of about equal size first, by a sample.
    sample = sorted(keys[:: max(count // 1024, 1)])
    bounds = sample[:: max(len(sample) * _PIECE // count // 2, 1)][1:]
    pieces: list[list[int]] = [[] for _ in range(len(bounds) + 1)]
    for place, key in enumerate(keys):
        pieces[bisect_right(bounds, key)].append(place)
    order: list[int] = []
    for piece in pieces:
        piece.sort(key=keys.__getitem__)
        order += piece
    return order


def by_subject(keys: ThreadKeys, order: Sequence[int]) -> Forest:
    """ORDEREDSUBJECT: a thread for each base subject; `order` is that of sent dates."""
    firsts: dict[int, int] = {}
    roots: list[int] = []
    children: dict[int, list[int]] = {}
    words, starts = keys.words, keys.starts
    for place in order:
        subject = words[starts[place] + 1]
        first = firsts.get(subject)
        if first is None:
            firsts[subject] = place
            roots.append(place)
        elif first in children:
            children[first].append(place)
        else:
            children[first] = [place]
    return Forest(len(keys), roots, children)


def by_references(keys: ThreadKeys, order: Sequence[int]) -> Forest:
    """REFERENCES; `order` is that of sent dates."""
    parents = _prune(len(keys), _link(keys))
    forest = _grow(len(keys), parents, order)
    _merge_subjects(keys, parents, forest)
    return _grow(len(keys), parents, order)


def by_references_only(
    keys: ThreadKeys, order: Sequence[int], arrival: Sequence[int]
) -> Forest:
    """REFS (draft-ietf-morg-inthread): no regard to subjects, latest threads last.

    `order` is that of sent dates, for messages in a thread. `arrival` is the order of arrival:
    a thread stands where its latest message does.
    """
    count = len(keys)
    parents = _prune(count, _link(keys))
    forest = _grow(count, parents, order)
    tops: dict[int, int] = {}
    for root in forest.roots:
        for place in _below(forest, root):
            tops[place] = root
    seen: dict[int, None] = {}
    for place in reversed(arrival):
        seen.setdefault(tops[place])
    return Forest(count, list(seen)[::-1], forest.children)


def _below(forest: Forest, root: int) -> Iterator[int]:
    """The messages of a thread."""
    stack = [root]
    children = forest.children
    while stack:
        node = stack.pop()
        if node < forest.size:
            yield node
        stack += children.get(node, ())


def _link(keys: ThreadKeys) -> list[int]:
    """Step 1: the parent of each message and each dummy, -1 for none."""
    count = len(keys)
    parents = [-1] * count
    nodes: dict[int, int] = {}
    words, starts = keys.words, keys.starts
    for place in range(count):
        own = words[starts[place]]
        # Of messages with the same id the first has it.
        if own:
            nodes.setdefault(own, place)
    # Who may have children: what has none closes no circle.
    links = [False] * count
    steps = _STEPS * count + 1000

    def closes_circle(upper: int, lower: int) -> bool:
        nonlocal steps
        if upper == lower:
            return True
        if not links[lower]:
            return False
        while upper >= 0:
            steps -= 1
            if upper == lower or steps < 0:
                return True
            upper = parents[upper]
        return False

    for place in range(count):
        upper = -1
        for index in range(starts[place] + 3, starts[place + 1]):
            reference = words[index]
            node = nodes.get(reference)
            if node is None:
                node = nodes[reference] = len(parents)
                parents.append(-1)
                links.append(False)
            if upper >= 0 and parents[node] < 0 and not closes_circle(upper, node):
                parents[node] = upper
                links[upper] = True
            upper = node
        # What the message itself says counts more than what others say about it; without
        # references it has no parent.
        if parents[place] != upper:
            parents[place] = -1
            if upper >= 0 and not closes_circle(upper, place):
                parents[place] = upper
                links[upper] = True
    return parents


def _prune(count: int, parents: list[int]) -> list[int]:
    """Steps 2 and 3: the parent of each message, without dummies but for roots.

    A dummy gives its children to what is above it, except at the top, where it stays if it
    has more than one child.
    """
    above: dict[int, int] = {}
    result: list[int] = []
    families: dict[int, int] = {}
    for place in range(count):
        node = parents[place]
        path = []
        while node >= count:
            known = above.get(node)
            if known is not None:
                node = known
                break
            path.append(node)
            upper = parents[node]
            if upper < 0:
                break
            node = upper
        for dummy in path:
            above[dummy] = node
        result.append(node)
        if node >= count:
            families[node] = families.get(node, 0) + 1
    return [
        -1 if node >= count and families[node] == 1 else node for node in result
    ]


def _grow(count: int, parents: Sequence[int], order: Sequence[int]) -> Forest:
    """Steps 4 and 6: all siblings in order; a dummy counts as its first child."""
    roots: list[int] = []
    children: dict[int, list[int]] = {}
    for place in order:
        node = parents[place]
        if node < 0:
            roots.append(place)
            continue
        siblings = children.get(node)
        if siblings is not None:
            siblings.append(place)
            continue
        children[node] = [place]
        if node >= count:
            roots.append(node)
    return Forest(count, roots, children)


def _merge_subjects(keys: ThreadKeys, parents: list[int], forest: Forest) -> None:
    """Step 5: threads of the same base subject become one; changes `parents`."""
    count = forest.size
    children = forest.children
    table: dict[int, int] = {}

    words, starts = keys.words, keys.starts

    def subject(root: int) -> int:
        return words[starts[root if root < count else children[root][0]] + 1]

    def is_response(place: int) -> int:
        return words[starts[place] + 2]

    for root in forest.roots:
        key = subject(root)
        if not key:
            continue
        other = table.get(key)
        if other is None or (
            other < count
            and (root >= count or (is_response(other) and not is_response(root)))
        ):
            table[key] = root
    # Dummies whose children go to another one.
    moved: dict[int, int] = {}
    dummies = max(max(parents, default=-1) + 1, count)
    for root in forest.roots:
        other = table.get(subject(root), root)
        if other == root or (root < count and parents[root] >= 0):
            continue
        if root >= count:
            moved[root] = other
        elif other >= count or (is_response(root) and not is_response(other)):
            parents[root] = other
        else:
            parents[root] = parents[other] = dummies
            table[subject(root)] = dummies
            dummies += 1
    if moved:
        for place in range(count):
            node = parents[place]
            if node >= count:
                parents[place] = moved.get(node, node)


def wire(forest: Forest, numbers: Sequence[int]) -> bytes:
    """The threads as in a THREAD response (RFC 5256 section 5, thread-list); "" for none."""
    count, roots, children = forest
    out: list[bytes] = []
    for root in roots:
        # Messages to be written with what hangs on them, and text.
        stack: list[int | bytes] = [root]
        out.append(b"(")
        while stack:
            node = stack.pop()
            if isinstance(node, bytes):
                out.append(node)
                continue
            while True:
                if node < count:
                    out.append(b"%d" % numbers[node])
                below = children.get(node)
                if below is None:
                    out.append(b")")
                    break
                if node < count:
                    out.append(b" ")
                if len(below) == 1:
                    node = below[0]
                    continue
                stack.append(b")")
                for child in reversed(below):
                    stack += (child, b"(")
                break
    return b"".join(out)
