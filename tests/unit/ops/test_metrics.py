"""Metrics: counted over workers, written out for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mailserver.ops import metrics
from mailserver.ops.shared import SharedRows


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    metrics.REGISTRY.share(3)
    yield
    metrics.REGISTRY.share(1)


def exposed() -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(metrics.REGISTRY)
    text = generate_latest(registry).decode()
    return {
        sample.name + "".join(f",{k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counts_over_workers_and_a_dead_one() -> None:
    for row in (0, 1, 2):
        metrics.REGISTRY.adopt(row)
        metrics.CONNECTIONS.inc(protocol="imap")
        metrics.ACTIVE.inc(2, protocol="imap")
        metrics.ACTIVE.dec(protocol="imap")
        metrics.COMMANDS.inc(5, protocol="imap", command=f"C{row}", result="ok")
    assert metrics.CONNECTIONS.value(protocol="imap") == 3
    assert metrics.ACTIVE.value(protocol="imap") == 3
    metrics.REGISTRY.regions.zero_gauges(1)
    metrics.REGISTRY.adopt(1)  # the worker that follows goes on where the dead one ended
    metrics.CONNECTIONS.inc(protocol="imap")
    metrics.CONNECTIONS.inc(protocol="pop3")
    values = exposed()
    assert values["mailserver_connections_total,protocol=imap"] == 4
    assert values["mailserver_connections_total,protocol=pop3"] == 1
    assert values["mailserver_connections,protocol=imap"] == 2
    assert values["mailserver_commands_total,command=C2,protocol=imap,result=ok"] == 5


def test_histogram() -> None:
    for value in (0, 10, 11, 5_000_000):
        metrics.IMAP_MESSAGES.observe(value)
    values = exposed()
    assert values["mailserver_imap_mailbox_messages_bucket,le=10"] == 2
    assert values["mailserver_imap_mailbox_messages_bucket,le=100"] == 3
    assert values["mailserver_imap_mailbox_messages_bucket,le=+Inf"] == 4
    assert values["mailserver_imap_mailbox_messages_sum"] == 5_000_021
    assert metrics.IMAP_MESSAGES.value() == 4


def test_a_full_region_drops_new_series_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.COMMANDS, "series", {})
    metrics.CONNECTIONS.inc(protocol="known")
    for number in range(20_000):
        metrics.COMMANDS.inc(protocol="imap", command=f"c{number}" + "x" * 100, result="ok")
    metrics.CONNECTIONS.inc(protocol="known")
    assert metrics.CONNECTIONS.value(protocol="known") == 2


def test_missing_label() -> None:
    with pytest.raises(ValueError, match="needs the labels"):
        metrics.CONNECTIONS.inc()


def test_shared_rows() -> None:
    rows = SharedRows(3, 10_000)
    for row in range(3):
        rows.cells[row * 10_000 + 9_999] = row + 1
    assert rows.sum(9_999) == 6
    rows.clear_row(1)
    assert rows.sum(9_999) == 4


def test_a_series_kept_from_before_the_fork_counts_for_its_worker() -> None:
    series = metrics.COMMANDS.labels(protocol="imap", command="NOOP", result="ok")
    metrics.REGISTRY.adopt(2)
    series.inc()
    metrics.REGISTRY.adopt(0)
    assert metrics.COMMANDS.value(protocol="imap", command="NOOP", result="ok") == 1
    series.inc()
    assert metrics.COMMANDS.value(protocol="imap", command="NOOP", result="ok") == 2
