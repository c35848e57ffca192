"""The cache of decoded texts: bounded, least recently used first out."""

from __future__ import annotations

from mailserver.store.search.texts import TextCache, Texts, texts_of


def key(uid: int) -> tuple[str, int, int, int, int]:
    return ("/mail/u/.A", 1, uid, 10, 0)


def test_texts_are_folded_and_header_and_body_kept_apart() -> None:
    texts = texts_of(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nHello\r\n")
    assert "SUBJECT: GRU\N{COMBINING DIAERESIS}\N{LATIN SMALL LETTER SHARP S}E" in texts.headers
    assert texts.body == "HELLO\r\n"


def test_the_oldest_go_when_there_is_no_room() -> None:
    one = Texts("", "x" * 1000)
    cache = TextCache(capacity=3 * one.size)
    for uid in (1, 2, 3):
        cache.put(key(uid), one)
    assert cache.get(key(1)) is one  # asked for: now the youngest
    cache.put(key(4), one)
    assert cache.get(key(2)) is None
    assert [cache.get(key(uid)) for uid in (1, 3, 4)] == [one] * 3


def test_a_text_twice_counts_once() -> None:
    one = Texts("", "x" * 1000)
    cache = TextCache(capacity=2 * one.size)
    for _ in range(5):
        cache.put(key(1), one)
    cache.put(key(2), one)
    assert cache.get(key(1)) is one


def test_what_is_too_large_is_not_kept() -> None:
    cache = TextCache()
    cache.put(key(1), Texts("", "x" * (8 << 20)))
    assert cache.get(key(1)) is None
