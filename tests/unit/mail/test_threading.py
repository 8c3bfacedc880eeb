"""Threads against a naive reading of RFC 5256, and what comes from hostile references."""

from __future__ import annotations

import random
import struct
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import sortkeys, threading
from moxtw.mail.sortkeys import ThreadKeys
from moxtw.mail.threading import Forest


class Mail(NamedTuple):
    """What a message is threaded by."""

    id: int
    subject: int
    is_response: int
    references: list[int]


def packed(mails: list[Mail]) -> ThreadKeys:
    keys = ThreadKeys()
    for mail in mails:
        words = [mail.id, mail.subject, mail.is_response, *mail.references]
        keys.append(struct.pack(f"<{len(words)}q", *words))
    return keys


@dataclass(eq=False)
class Node:
    """A container of the naive reference."""

    place: int | None = None
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)


def is_below(node: Node | None, top: Node) -> bool:
    while node is not None:
        if node is top:
            return True
        node = node.parent
    return False


def unlink(node: Node) -> None:
    if node.parent is not None:
        node.parent.children.remove(node)
        node.parent = None


def link(parent: Node, child: Node) -> None:
    if not is_below(parent, child):
        unlink(child)
        child.parent = parent
        parent.children.append(child)


def naive_tree(keys: list[Mail], dates: list[int], subjects: bool) -> list[Node]:
    """Steps 1 to 6, as they are written, with recursion and without regard to time."""
    nodes = [Node(place) for place in range(len(keys))]
    ids: dict[int, Node] = {}
    for place, message in enumerate(keys):
        if message.id and message.id not in ids:
            ids[message.id] = nodes[place]
    everything = list(nodes)
    for place, message in enumerate(keys):
        chain = []
        for reference in message.references:
            if reference not in ids:
                ids[reference] = Node()
                everything.append(ids[reference])
            chain.append(ids[reference])
        for upper, lower in zip(chain, chain[1:], strict=False):
            if lower.parent is None:
                link(upper, lower)
        unlink(nodes[place])
        if chain:
            link(chain[-1], nodes[place])
    root = Node()
    for node in everything:
        if node.parent is None:
            node.parent = root
            root.children.append(node)

    def prune(node: Node, at_root: bool) -> None:
        index = 0
        while index < len(node.children):
            child = node.children[index]
            prune(child, at_root=False)
            if child.place is None and (
                not child.children or not at_root or len(child.children) == 1
            ):
                for grandchild in child.children:
                    grandchild.parent = node
                node.children[index : index + 1] = child.children
                index += len(child.children)
            else:
                index += 1

    # Children first, so that what is left below a dummy are messages.
    prune(root, at_root=True)

    def date(node: Node) -> tuple[int, int]:
        if node.place is None:
            return min(date(child) for child in node.children)
        return dates[node.place], node.place

    def sort(node: Node) -> None:
        for child in node.children:
            sort(child)
        node.children.sort(key=date)

    sort(root)
    if not subjects:
        return root.children

    def subject(node: Node) -> int:
        place = node.place if node.place is not None else node.children[0].place
        assert place is not None
        return keys[place].subject

    def response(node: Node) -> bool:
        return node.place is not None and bool(keys[node.place].is_response)

    table: dict[int, Node] = {}
    for node in root.children:
        if not subject(node):
            continue
        known = table.get(subject(node))
        if known is None or (
            known.place is not None
            and (node.place is None or (response(known) and not response(node)))
        ):
            table[subject(node)] = node
    for node in list(root.children):
        if node.parent is not root or not subject(node):
            continue
        known = table[subject(node)]
        if known is node:
            continue
        if known.place is None and node.place is None:
            for child in list(node.children):
                link(known, child)
            unlink(node)
        elif known.place is None or (response(node) and not response(known)):
            link(known, node)
        else:
            dummy = Node(None, root)
            root.children.append(dummy)
            link(dummy, node)
            link(dummy, known)
            dummy.children.sort(key=date)
            table[subject(node)] = dummy
    sort(root)
    return root.children


def text_of(nodes: list[Node]) -> str:
    def one(node: Node) -> str:
        parts = [] if node.place is None else [str(node.place + 1)]
        if len(node.children) == 1:
            parts.append(one(node.children[0]))
        elif node.children:
            parts.append("".join(f"({one(child)})" for child in node.children))
        return " ".join(parts)

    return "".join(f"({one(node)})" for node in nodes)


def wire(forest: Forest) -> str:
    return threading.wire(forest, range(1, forest.size + 1)).decode()


MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 8),  # id
        st.integers(0, 3),  # subject
        st.integers(0, 1),  # is a response
        st.lists(st.integers(1, 11), max_size=4),  # references
        st.integers(0, 6),  # date
    ),
    max_size=12,
)


def split(messages: list[tuple[int, int, int, list[int], int]]) -> tuple[
    list[Mail], list[int]
]:
    keys = [Mail(*message[:4]) for message in messages]
    return keys, [message[4] for message in messages]


class ReferenceTests(SynchronousTestCase):
    @given(MESSAGES)
    @settings(max_examples=200, deadline=None)
    def test_references(self, messages: list[tuple[int, int, int, list[int], int]]) -> None:
        keys, dates = split(messages)
        order = threading.order_by(dates)
        self.assertEqual(
            wire(threading.by_references(packed(keys), order)),
            text_of(naive_tree(keys, dates, subjects=True)),
        )

    @given(MESSAGES, st.randoms())
    @settings(max_examples=200, deadline=None)
    def test_references_only(
        self, messages: list[tuple[int, int, int, list[int], int]], rng: random.Random
    ) -> None:
        keys, dates = split(messages)
        arrivals = [rng.randrange(9) for _ in messages]

        def latest(node: Node) -> tuple[int, int]:
            own = (-1, -1) if node.place is None else (arrivals[node.place], node.place)
            return max([own, *map(latest, node.children)])

        expected = sorted(naive_tree(keys, dates, subjects=False), key=latest)
        found = threading.by_references_only(
            packed(keys), threading.order_by(dates), threading.order_by(arrivals)
        )
        self.assertEqual(wire(found), text_of(expected))

    @given(MESSAGES)
    @settings(max_examples=100, deadline=None)
    def test_ordered_subject(self, messages: list[tuple[int, int, int, list[int], int]]) -> None:
        keys, dates = split(messages)
        threads: dict[int, list[tuple[int, int]]] = {}
        for place, message in enumerate(keys):
            threads.setdefault(message.subject, []).append((dates[place], place))
        expected = []
        for thread in sorted(sorted(each) for each in threads.values()):
            first = Node(thread[0][1])
            first.children = [Node(place) for _, place in thread[1:]]
            expected.append(first)
        forest = threading.by_subject(packed(keys), threading.order_by(dates))
        self.assertEqual(wire(forest), text_of(expected))

    def test_order_of_many(self) -> None:
        rng = random.Random(1)
        for keys in (
            [rng.randrange(1000) for _ in range(30_000)],
            [rng.randrange(1 << 60) for _ in range(30_000)],
            [7] * 30_000,
            list(range(30_000, 0, -1)),
        ):
            expected = sorted(range(len(keys)), key=keys.__getitem__)
            self.assertEqual(threading.order_by(keys), expected)


class HostileTests(SynchronousTestCase):
    def check(self, keys: list[Mail]) -> None:
        """All messages come out, once each, in little time."""
        started = time.process_time()
        order = list(range(len(keys)))
        for forest in (
            threading.by_references(packed(keys), order),
            threading.by_references_only(packed(keys), order, order[::-1]),
        ):
            text = wire(forest)
            numbers = text.replace("(", " ").replace(")", " ").split()
            self.assertEqual(sorted(map(int, numbers)), list(range(1, len(keys) + 1)))
        self.assertLess(time.process_time() - started, 10)

    def test_deep(self) -> None:
        count = 20_000
        keys = [Mail(n + 1, 0, 0, [n] if n else []) for n in range(count)]
        self.check(keys)
        self.check(keys[::-1])
        random.Random(2).shuffle(keys)
        self.check(keys)

    def test_circle(self) -> None:
        count = 20_000
        self.check([Mail(n + 1, 0, 0, [(n + 1) % count + 1]) for n in range(count)])
        self.check([Mail(1, 0, 0, [1, 2, 1]) for _ in range(100)])

    def test_much_to_look_for(self) -> None:
        # Each of the later ones has a child and is put below the deepest.
        depth = 20_000
        keys = [Mail(n + 1, 0, 0, [n] if n else []) for n in range(depth)]
        for n in range(depth):
            keys.append(Mail(0, 0, 0, [1_000_000 + n]))
            keys.append(Mail(1_000_000 + n, 0, 0, [depth]))
        self.check(keys)

    def test_dummies_only(self) -> None:
        chain = list(range(1000, 1100))
        self.check([Mail(0, 0, 0, chain[n % 50 :]) for n in range(5000)])

    def test_too_many_references(self) -> None:
        self.patch(sortkeys, "MORE_LINKS", 10)
        mails = [Mail(n, 0, 0, list(range(100, 100 + n))) for n in range(1, 12)]
        keys = packed(mails)
        kept = []
        for start, end in zip(keys.starts, keys.starts[1:], strict=False):
            kept.append(keys.words[start + 3 : end].tolist())
            self.assertEqual(keys.words[start], len(kept))
        # Ten of them beyond the first four of each.
        self.assertEqual([len(each) for each in kept], [1, 2, 3, 4, 5, 6, 7, 8, 4, 4, 4])
        self.assertEqual([each[-1] for each in kept], [99 + n for n in range(1, 12)])
        self.check(mails)

    def test_one_subject(self) -> None:
        self.check([Mail(n + 1, 1, n % 2, []) for n in range(20_000)])
