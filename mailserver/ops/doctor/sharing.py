"""What an account shares with others: lists that nobody understands, and whether it is known who may look."""

from __future__ import annotations

from collections.abc import Iterator

from mailserver.ops.doctor.finding import Finding
from mailserver.store.sharing.access import lists_of, not_understood, unreadable
from mailserver.store.sharing.shares import Shares
from mailserver.store.tree.tree import Tree


def check(user: str, tree: Tree, shares: Shares | None, prefix: str) -> Iterator[Finding]:
    """All of it; nothing where sharing is switched off (``shares`` None). OSError."""
    if shares is None:
        return
    for name, line in not_understood(tree):
        text = f"{name}: its access list has a line that means nothing, so nobody but the owner has rights: {line[:80]}"
        yield Finding(user, "acl", text)
    for name, cause in unreadable(tree):
        yield Finding(
            user, "acl", f"{name}: its access list cannot be read, so nobody reaches it but its owner: {cause}"
        )
    lists = lists_of(tree)
    if not shares.is_as(user, lists):
        text = "another program wrote access lists: LIST does not show all mailboxes to those who may see them"
        yield Finding(user, "shared", text, serious=False, cure=lambda: shares.replace(user, lists))
    below = sum(name.startswith(prefix) for name in tree.names())
    if below:
        text = f"{below} mailboxes have names that begin with {prefix!r}: they hide those of others with the same names"
        yield Finding(user, "name", text, serious=False)
