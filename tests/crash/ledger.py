"""What the server promised all clients of a test, over all restarts; and demanding it."""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections import Counter
from dataclasses import dataclass, field

from tests.concurrency.model import Model

NAMES = ("Here", "There")  # of the mailbox that is renamed again and again
RENAMED = "renamed"  # and of what is promised of it, whatever it is called
_serial = itertools.count(1)


def new_token(kind: str) -> str:
    """The subject of a message that can be told from all others."""
    return f"{kind}{next(_serial)}-{random.randrange(1 << 32):x}"


@dataclass
class Promise:
    """A message whose OK was read: token, octets, flags. What was asked and not answered may be or not be."""

    token: str
    octets: bytes
    flags: set[str] = field(default_factory=set)
    unsure_flags: set[str] = field(default_factory=set)


@dataclass
class Ledger:
    """What all clients were promised, over all restarts."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    messages: dict[tuple[str, int], Promise] = field(default_factory=dict)  # (mailbox, UID)
    unsure: set[tuple[str, int]] = field(default_factory=set)  # may have been removed or moved
    used: dict[tuple[str, int], str] = field(default_factory=dict)  # every UID ever seen -> token
    validity: dict[str, int] = field(default_factory=dict)
    moving: set[str] = field(default_factory=set)  # tokens: in one mailbox or the other, not nowhere
    present: set[str] = field(default_factory=set)
    delivered: dict[tuple[str, str], bytes] = field(default_factory=dict)  # (user, token) -> what was sent
    queued: set[str] = field(default_factory=set)  # tokens of mail that was accepted for elsewhere
    done: Counter[str] = field(default_factory=Counter)  # promises, by what was asked for
    stop: threading.Event = field(default_factory=threading.Event)

    def opened(self, box: str, validity: int) -> None:
        """A mailbox was selected."""
        assert self.validity.setdefault(box, validity) == validity, f"UIDVALIDITY of {box} changed"

    def saw(self, box: str, uid: int, token: str) -> None:
        """A message was seen."""
        with self.lock:
            known = self.used.setdefault((box, uid), token)
        assert known == token, f"UID {uid} of {box} was {known}, now it is {token}"

    def promised(self, box: str, uid: int, promise: Promise, what: str) -> None:
        """A message was stored."""
        self.saw(box, uid, promise.token)
        with self.lock:
            self.messages[box, uid] = promise
        self.did(what)

    def did(self, what: str) -> None:
        """Something was acknowledged."""
        with self.lock:
            self.done[what] += 1

    @property
    def going(self) -> bool:
        """Whether the clients shall go on."""
        return not self.stop.is_set()


def where(model: Model, names: tuple[str, ...]) -> str:
    """The one of these mailboxes that exists; the first is made when there is none."""
    found = [name for name in names if model.command(f"STATUS {name} (UIDNEXT)").ok]
    assert len(found) < 2, f"all of {found} exist"
    if not found:
        model.require(f"CREATE {names[0]}")
    return found[0] if found else names[0]


Found = dict[int, tuple[bytes, set[str]]]


def contents(model: Model) -> Found:
    """UID -> octets and flags of the selected mailbox."""
    found: Found = {}
    if model.slots:
        for values in model.require("FETCH 1:* (UID FLAGS BODY.PEEK[])").untagged:
            if values[1:2] == ["FETCH"]:
                items = dict(zip(values[2][::2], values[2][1::2], strict=True))
                found[int(items["UID"])] = items["BODY[]"], {f.lower() for f in items["FLAGS"]} - {"\\recent"}
    return found


def demand(port: int, ledger: Ledger, user: str, box: str) -> None:
    """Everything that was promised of a mailbox is there: octets, once, UID, flags; what was removed is gone."""
    name = box if user == "alice" else user
    with Model(port, user=user) as model:
        model.require(f"SELECT {where(model, NAMES) if box == RENAMED else box}")
        ledger.opened(name, model.uidvalidity)
        found = contents(model)
        assert model.uidnext > max([0, *(uid for other, uid in ledger.used if other == name)]), "UIDNEXT went back"
    if user in ("carol", "dave"):
        _demand_delivered(ledger, user, found)
        return
    for uid, (octets, flags) in found.items():
        token = _token(octets)
        known = ledger.used.get((name, uid))
        ledger.saw(name, uid, token)
        ledger.present.add(token)
        promise = ledger.messages.get((name, uid))
        if promise is None:
            assert known is None, f"{name} {uid} ({known}) was removed and is there"
            ledger.messages[name, uid] = Promise(token, octets, flags)  # done, and the OK was not read
            continue
        assert octets == promise.octets, f"{name} {uid} has other octets"
        if (name, uid) not in ledger.unsure:
            assert flags ^ promise.flags <= promise.unsure_flags, f"{name} {uid}: {flags}, promised {promise.flags}"
        promise.flags, promise.unsure_flags = flags, set()
    for (other, uid), promise in list(ledger.messages.items()):
        if other == name and uid not in found:
            assert (other, uid) in ledger.unsure, f"{name} {uid} ({promise.token}) is lost"
            del ledger.messages[other, uid]


def _token(octets: bytes) -> str:
    found = re.search(rb"^Subject: (\S+)", octets, re.M)
    assert found is not None, octets[:300]
    return found[1].decode()


def _demand_delivered(ledger: Ledger, user: str, found: Found) -> None:
    """What came in by SMTP and LMTP: behind the trace fields stands what was sent; nobody sent anything twice."""
    tokens: dict[str, bytes] = {}
    for uid, (octets, _) in found.items():
        token = _token(octets)
        ledger.saw(user, uid, token)
        assert token not in tokens, f"{token} is there twice"
        tokens[token] = octets
    for (whose, token), sent in ledger.delivered.items():
        if whose == user:
            assert token in tokens, f"{token} of {user} is lost"
            assert tokens[token].endswith(b"\r\n" + sent), f"{token} of {user} has other octets"
    gone = {token for (whose, _), token in ledger.used.items() if whose == user} - tokens.keys()
    assert not gone, f"{gone} of {user} are lost"
