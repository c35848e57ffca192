"""THREAD: messages as trees.

RFC 5256 section 3 has ORDEREDSUBJECT and REFERENCES. REFS is REFERENCES without the step that joins threads of one
subject, and with threads in the order of their newest message.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailserver.mail import text
from mailserver.store.search.keys import Keys


class Node:
    """A message, or the place of one that is not there (``index`` is -1), with what answers it."""

    __slots__ = ("children", "date", "index", "parent", "reply", "subject")

    def __init__(self, index: int = -1) -> None:
        self.index = index
        self.parent: Node | None = None
        self.children: list[Node] = []
        self.date = 0.0
        self.subject = ""
        self.reply = False

    def adopt(self, child: Node) -> None:
        """Make ``child`` a child of this node, and of no other."""
        if child.parent is not None:
            child.parent.children.remove(child)
        child.parent = self
        self.children.append(child)

    def is_below(self, other: Node) -> bool:
        """Whether ``other`` is this node or stands above it."""
        node: Node | None = self
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False


def thread(algorithm: str, indexes: Sequence[int], keys: Sequence[Keys]) -> list[Node]:
    """The threads, in their order. ``algorithm`` is one of ORDEREDSUBJECT, REFERENCES, REFS."""
    nodes = [_node(i, k) for i, k in zip(indexes, keys, strict=True)]
    if algorithm == "ORDEREDSUBJECT":
        return _by_subject(nodes)
    roots = _by_references(nodes, keys)
    if algorithm == "REFERENCES":
        roots = _join_subjects(_sorted(roots))
        return _sorted(roots)
    return sorted(_sorted(roots), key=_newest)


def _node(index: int, keys: Keys) -> Node:
    node = Node(index)
    node.date = keys.sent()
    subject, node.reply = keys.base_subject()
    node.subject = text.fold(subject)
    return node


# RFC 5256 section 3: ORDEREDSUBJECT: sorted by base subject, then by sent date; the first is the others' parent
def _by_subject(nodes: Sequence[Node]) -> list[Node]:
    ordered = sorted(nodes, key=lambda n: (n.subject, n.date, n.index))
    roots: list[Node] = []
    for node in ordered:
        if roots and roots[-1].subject == node.subject:
            roots[-1].adopt(node)
        else:
            roots.append(node)
    return sorted(roots, key=lambda n: (n.date, n.index))


# RFC 5256 section 3: REFERENCES, steps 1 to 3
def _by_references(nodes: Sequence[Node], keys: Sequence[Keys]) -> list[Node]:
    by_id: dict[bytes, Node] = {}
    used: list[Node] = []
    for node, k in zip(nodes, keys, strict=True):
        own = k.message_id()
        place = by_id.get(own) if own else None
        if place is not None and place.index < 0:
            place.index, place.date, place.subject, place.reply = node.index, node.date, node.subject, node.reply
            current = place
        else:  # no id, or one that another message has: a message of its own
            current = node
            if own and place is None:
                by_id[own] = node
        used.append(current)
        _link(by_id, current, k.references())
    return _pruned(list(dict.fromkeys([*used, *by_id.values()])))


def _link(by_id: dict[bytes, Node], node: Node, references: Sequence[bytes]) -> None:
    previous: Node | None = None
    for reference in references:
        place = by_id.get(reference)
        if place is None:
            place = by_id[reference] = Node()
        if previous is not None and place.parent is None and not previous.is_below(place):
            previous.adopt(place)
        previous = place
    if previous is not None and not previous.is_below(node):
        previous.adopt(node)
    elif previous is None and node.parent is not None:
        node.parent.children.remove(node)
        node.parent = None


def _pruned(nodes: Sequence[Node]) -> list[Node]:
    """Step 3: places without a message and without children go; at the top one with a single child gives way to it."""
    roots = [n for n in nodes if n.parent is None]
    return [kept for root in roots for kept in _prune(root, top=True)]


def _prune(root: Node, *, top: bool) -> list[Node]:
    order = [root]
    for node in order:
        order.extend(node.children)
    for node in reversed(order):
        children: list[Node] = []
        for child in node.children:
            if child.index >= 0:
                children.append(child)
            else:
                children.extend(child.children)
        node.children = children
        for child in children:
            child.parent = node
    if root.index >= 0:
        return [root]
    if len(root.children) == 1:
        root.children[0].parent = None
        return root.children
    return [root] if root.children else []


def _sorted(roots: Sequence[Node]) -> list[Node]:
    """Steps 4 and 6: siblings by their sent date; a place without a message has that of its first child."""
    pending = list(roots)
    order: list[Node] = []
    while pending:
        node = pending.pop()
        order.append(node)
        pending.extend(node.children)
    for node in reversed(order):
        node.children.sort(key=_age)
        if node.index < 0 and node.children:
            node.date = node.children[0].date
    return sorted(roots, key=_age)


def _age(node: Node) -> tuple[float, int]:
    first = node
    while first.index < 0 and first.children:
        first = first.children[0]
    return node.date, first.index


# RFC 5256 section 3: REFERENCES, step 5: threads whose first messages have one base subject are joined
def _join_subjects(roots: Sequence[Node]) -> list[Node]:
    table: dict[str, Node] = {}
    for root in roots:
        subject = _subject(root)
        if not subject:
            continue
        known = table.get(subject)
        if known is None or (known.index >= 0 and root.index < 0) or (_reply(known) and not _reply(root)):
            table[subject] = root
    kept: list[Node] = []
    replaced: dict[int, Node] = {}
    for root in roots:
        found = table.get(_subject(root)) if _subject(root) else None
        found = replaced.get(id(found), found) if found is not None else None
        if found is None or found is root or replaced.get(id(root)) is not None:
            kept.append(replaced.get(id(root), root))
        elif found.index < 0 and root.index < 0:
            for child in list(root.children):
                found.adopt(child)
        elif found.index < 0 or (_reply(root) and not _reply(found)):
            found.adopt(root)
        else:
            dummy = Node()
            dummy.date, dummy.subject = min(found.date, root.date), found.subject
            if found in kept:
                kept[kept.index(found)] = dummy
            replaced[id(found)] = dummy
            dummy.adopt(found)
            dummy.adopt(root)
    return list(dict.fromkeys(kept))


def _subject(node: Node) -> str:
    return node.subject if node.index >= 0 else (node.children[0].subject if node.children else "")


def _reply(node: Node) -> bool:
    return node.reply if node.index >= 0 else False


def _newest(root: Node) -> tuple[float, int]:
    newest, pending = (root.date, root.index), [root]
    while pending:
        node = pending.pop()
        newest = max(newest, (node.date, node.index))
        pending.extend(node.children)
    return newest
