"""Postfix between two of our servers: our queue gives to it, it gives to our LMTP and SMTP."""

from __future__ import annotations

import dataclasses
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailserver.config.schema import QueueConfig, SubmissionConfig
from mailserver.delivery.queue.relay import RelayHost
from mailserver.services import Services
from mailserver.smtp.server import SubmissionServer
from tests.interop.postfix import Postfix, available
from tests.messages import corpus
from tests.unit.delivery.peers import Sink
from tests.unit.delivery.test_queue import relaying, report, submit
from tests.unit.smtp.serving import USERS, messages, serving, settings

pytestmark = pytest.mark.skipif(not available(), reason="Postfix is not installed, or the test does not run as root")


def wait(check: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("kind", ["lmtp", "smtp"])
def test_there_and_back(tmp_path: Path, kind: str) -> None:
    texts = [text for text in corpus() if text.startswith(b"From:") and text.isascii() and b"\0" not in text][:8]
    assert len(texts) == 8
    with serving(tmp_path / "far", kind) as far:
        transport = f"{kind}:inet:127.0.0.1:{far.port}" if kind == "lmtp" else f"smtp:[127.0.0.1]:{far.port}"
        with Postfix(transport) as postfix:
            own = settings(tmp_path / "near", domains=("near.example",))
            queue = QueueConfig(path=str(tmp_path / "queue"), relay_host=f"127.0.0.1:{postfix.port}")
            services = Services(dataclasses.replace(own, queue=queue), users=USERS)
            try:
                services.start_queue()
                config = SubmissionConfig(host="127.0.0.1", port=0, ssl_port=-1, check_from=False)
                with SubmissionServer(config, services) as near:
                    _send(near.port, texts)
                    wait(lambda: services.spool is not None and services.spool.count() == 0)
                    wait(lambda: len(messages(far)) == len(texts))
                    found = messages(far)
                    wait(lambda: "status=bounced" in postfix.log)
                    bounced = next(line for line in postfix.log.splitlines() if "to=<nobody@example.com>" in line)
            finally:
                services.close()
    assert "dsn=5.1.1" in bounced
    bodies = sorted(
        text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").partition(b"\r\n\r\n")[2].rstrip() for text in texts
    )
    assert sorted(message.partition(b"\r\n\r\n")[2].rstrip() for message in found) == bodies
    assert all(b"with ESMTP" in message and b"postfix.example" in message for message in found)


def _send(port: int, texts: list[bytes]) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.login("alice", "secret")
        for text in texts:
            client.sendmail("alice@near.example", ["alice@example.com", "bob@other.example"], text)
        client.sendmail("alice@near.example", ["nobody@example.com"], b"Subject: x\r\n\r\nhi\r\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("kind", ["lmtp", "smtp"])
def test_reports_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """We ask Postfix for reports (RFC 3461), it asks far for none, and its reports come back to our user."""
    near_port = _free_port()
    with serving(tmp_path / "far", kind, domains=("far.example",)) as far:
        extra = f"transport_maps = inline:{{example.com=smtp:[127.0.0.1]:{near_port}}}"
        place = f"inet:127.0.0.1:{far.port}" if kind == "lmtp" else f"[127.0.0.1]:{far.port}"
        with Postfix(f"{kind}:{place}", extra) as p:
            relay = {"relay_host": RelayHost("127.0.0.1", p.port)}
            own = {"port": near_port}
            with Sink() as unused, relaying(tmp_path / "near", unused, monkeypatch, relay=relay, own=own) as near:
                submit(
                    near,
                    "<bob@far.example> NOTIFY=SUCCESS ORCPT=rfc822;first+40name.example",
                    "<nobody@far.example> NOTIFY=FAILURE",
                    "<none@far.example> NOTIFY=NEVER",
                    sender="<alice@example.com> RET=HDRS ENVID=my+2Bid",
                )
                octets = wait(lambda: messages(near)[1:] and messages(near))
                wait(lambda: "status=bounced" in p.log)
            arrived = messages(far, "bob")
    found = {fields["action"]: (message, fields) for message, fields in map(report, octets)}
    assert set(found) == {"failed", "relayed" if kind == "smtp" else "delivered"} or set(found) == {"failed", "relayed"}
    good = next(pair for action, pair in found.items() if action != "failed")
    assert good[1]["final-recipient"] == "rfc822; bob@far.example"
    assert good[1]["original-recipient"].replace(" ", "") == "rfc822;first@name.example"
    assert found["failed"][1]["status"] == "5.1.1"
    assert found["failed"][1]["final-recipient"] == "rfc822; nobody@far.example"
    assert all(b"Original-Envelope-Id: my+id" in one for one in octets)
    assert len(arrived) == 1


def test_requiretls_is_not_given_to_postfix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> None:
    """Debian's Postfix does not know REQUIRETLS: the message comes back (RFC 8689 section 4.2.1), others pass."""
    extra = "\n".join(["smtpd_tls_security_level = may", *_certificate_of_postfix(certificate)])
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with serving(tmp_path / "far", domains=("far.example",)) as far:
        with Postfix(f"smtp:[127.0.0.1]:{far.port}", extra) as postfix:
            relay = {"relay_host": RelayHost("localhost", postfix.port), "context": context}
            options: dict[str, Any] = {"certificate": certificate, "relay": relay}
            with Sink() as unused, relaying(tmp_path / "near", unused, monkeypatch, **options) as near:
                send_secretly(near.port, certificate, "bob@far.example", [])
                wait(lambda: messages(far, "bob"))
                send_secretly(near.port, certificate, "bob@far.example", ["REQUIRETLS"])
                (octets,) = wait(lambda: messages(near))
                assert report(octets)[1]["status"] == "5.7.30"
                assert b"secret" not in octets
        assert len(messages(far, "bob")) == 1


def test_requiretls_between_two_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with serving(tmp_path / "far", certificate=certificate, domains=("far.example",)) as far:
        relay = {"relay_host": RelayHost("localhost", far.port), "context": context}
        options: dict[str, Any] = {"certificate": certificate, "relay": relay}
        with Sink() as unused, relaying(tmp_path / "near", unused, monkeypatch, **options) as near:
            send_secretly(near.port, certificate, "bob@far.example", ["REQUIRETLS"])
            (octets,) = wait(lambda: messages(far, "bob"))
    assert octets.count(b"with ESMTPS") == 2


def _certificate_of_postfix(certificate: tuple[Path, Path]) -> list[str]:
    return [f"smtpd_tls_cert_file = {certificate[0]}", f"smtpd_tls_key_file = {certificate[1]}"]


def send_secretly(port: int, certificate: tuple[Path, Path], recipient: str, options: list[str]) -> None:
    with smtplib.SMTP("localhost", port) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(certificate[0])))
        client.sendmail("alice@example.com", [recipient], b"Subject: x\r\n\r\nsecret\r\n", options)
