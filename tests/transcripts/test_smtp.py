"""Every transcript of SMTP, submission and LMTP, against a real server on a real socket with a real store.

Settings of a transcript: ``server`` smtp, submission or lmtp; ``tls``; ``set name value`` of the server's section;
``limit name value``; ``stored user count``: so many messages lie there at the end.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from mailserver.config.schema import LimitsConfig
from tests.transcripts.runner import Player, load
from tests.unit.smtp.serving import messages, serving

FOLDER = Path(__file__).parent / "smtp"


def value(word: str) -> Any:
    return int(word) if word.isdigit() else word == "true" if word in ("true", "false") else word


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    transcript = load(path)
    words = transcript.settings
    kind = words.get("server", ["smtp"])[0]
    changes: dict[str, Any] = {"set": {}, "limit": {}}
    for name in changes:
        given = words.get(name, [])
        changes[name] = dict(zip(given[::2], map(value, given[1::2]), strict=True))
    own: dict[str, Any] = changes["set"]
    if "trusted_networks" in own:
        own["trusted_networks"] = (own["trusted_networks"],)
    sections = {"limits": LimitsConfig(**changes["limit"])} if changes["limit"] else {}
    client = ssl.create_default_context(cafile=str(certificate[0]))
    with serving(tmp_path, kind, certificate if "tls" in words else None, **own, **sections) as server:
        Player(("127.0.0.1", server.port), kind, tls=client).play(transcript)
        server.stop()
        stored = words.get("stored", [])
        for user, count in zip(stored[::2], stored[1::2], strict=True):
            assert len(messages(server, user)) == int(count), user
