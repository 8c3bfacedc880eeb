"""Messages put into threads (RFC 5256 section 3): ORDEREDSUBJECT, REFERENCES, and REFS.

Messages are known by their place in the mailbox, from 0. Dummies, which stand for messages
that others refer to and that are not there, have the numbers behind. Nothing here is
recursive, and the time is linear, also for references that go in circles: they come from
outside.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from moxtw.mail.sortkeys import ThreadKeys

# Items that are sorted in one go; sorting does not let other threads work meanwhile.
_PIECE: Final = 8192
# Steps for each message that are taken to find out whether a link would close a circle. Usual
# mail needs next to none.
_STEPS: Final = 10


class Forest(NamedTuple):
    """Threads: the roots in order, the first child of each node, and the sibling behind it.

    -1 stands for none. Only a root may be a dummy, and then has two children or more. In
    arrays, as many small objects would keep the collector of garbage busy.
    """

    size: int
    roots: list[int]
    first: array[int]
    following: array[int]


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
    words, starts = keys.words, keys.starts
    parents = array("q", [-1]) * len(keys)
    for place in order:
        first = firsts.setdefault(words[starts[place] + 1], place)
        if first != place:
            parents[place] = first
    return _grow(len(keys), parents, order)


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
    tops = array("q", [-1]) * count
    first, following = forest.first, forest.following
    for root in forest.roots:
        stack = [root]
        while stack:
            node = stack.pop()
            if node < count:
                tops[node] = root
            node = first[node]
            while node >= 0:
                stack.append(node)
                node = following[node]
    seen: dict[int, None] = {}
    for place in reversed(arrival):
        seen.setdefault(tops[place])
    return Forest(count, list(seen)[::-1], first, following)


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
    total = max(max(parents, default=-1) + 1, count)
    first = array("q", [-1]) * total
    last = array("q", [-1]) * total
    following = array("q", [-1]) * total
    roots: list[int] = []
    for place in order:
        node = parents[place]
        if node < 0:
            roots.append(place)
            continue
        before = last[node]
        if before >= 0:
            following[before] = place
        else:
            first[node] = place
            if node >= count:
                roots.append(node)
        last[node] = place
    return Forest(count, roots, first, following)


def _merge_subjects(keys: ThreadKeys, parents: list[int], forest: Forest) -> None:
    """Step 5: threads of the same base subject become one; changes `parents`."""
    count = forest.size
    first = forest.first
    table: dict[int, int] = {}
    words, starts = keys.words, keys.starts

    def subject(root: int) -> int:
        return words[starts[root if root < count else first[root]] + 1]

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
    count, roots, first, following = forest
    parts: list[bytes] = []
    out: list[bytes] = []
    # Siblings that are still to be written, those of the innermost parentheses last; -1: none.
    left: list[int] = []
    for root in roots:
        node = root
        out.append(b"(")
        while True:
            while True:
                child = first[node]
                if node < count:
                    out.append(b"%d" % numbers[node] if child < 0 else b"%d " % numbers[node])
                if child < 0:
                    break
                if following[child] >= 0:
                    left.append(following[child])
                    out.append(b"(")
                node = child
            out.append(b")")
            while left and left[-1] < 0:
                left.pop()
                out.append(b")")
            if not left:
                break
            node = left[-1]
            left[-1] = following[node]
            out.append(b"(")
        if len(out) > _PIECE:
            parts.append(b"".join(out))
            out.clear()
    return b"".join([*parts, *out])
