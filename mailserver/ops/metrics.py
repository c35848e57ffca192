"""Metrics: counters, gauges and histograms that count over all worker processes.

Each worker has a region of shared memory, made before the fork, in which it notes its series one behind the other: the
name with its labels, then the numbers. Whoever is asked for the metrics reads all regions and adds up. An increment is
a dictionary look-up and an addition, no system call. When a worker dies its counters stay (they only rise) and its
gauges return to 0.

Names and labels are declared here once, for all parts of the program.
"""

from __future__ import annotations

import json
import mmap
import struct
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

REGION = 512 * 1024  # octets per worker; only touched pages exist
_HEAD = struct.Struct("=HHI")  # length of the name, count of numbers, 1 = gauge


class Regions:
    """The shared memory: one region per worker, series appended behind each other, each number aligned to 8 octets."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.row = 0
        self._memory = mmap.mmap(-1, workers * REGION)
        self.numbers = memoryview(self._memory).cast("d")
        self._end = 0
        self._known: dict[bytes, int] = {}

    def adopt(self, row: int) -> None:
        """Write to region ``row`` from now on, behind what an earlier worker left there."""
        self.row = row
        self._known = {name: cell for name, cell, _, _ in self._read(row)}
        self._end = self._end_of(row)

    def place(self, name: bytes, count: int, gauge: bool) -> int:
        """Return the first cell of a series of ``count`` numbers, new or known; -1 when the region is full."""
        known = self._known.get(name)
        if known is not None:
            return known
        padded = (len(name) + 7) // 8 * 8
        start = self.row * REGION + self._end
        if self._end + 16 + padded + count * 8 > REGION:
            return -1
        self._memory[start + 8 : start + 8 + len(name)] = name
        self._memory[start : start + 8] = _HEAD.pack(len(name), count, gauge)  # last: a reader stops where this is 0
        self._end += 8 + padded + count * 8
        cell = (start + 8 + padded) // 8
        self._known[name] = cell
        return cell

    def zero_gauges(self, row: int) -> None:
        """Return the gauges of a dead worker to 0."""
        for _, cell, count, gauge in self._read(row):
            if gauge:
                for number in range(count):
                    self.numbers[cell + number] = 0.0

    def totals(self) -> dict[bytes, list[float]]:
        """Return every series with its numbers, added up over the workers."""
        found: dict[bytes, list[float]] = {}
        for row in range(self.workers):
            for name, cell, count, _ in self._read(row):
                values: list[float] = [*map(float, self.numbers[cell : cell + count])]
                known = found.get(name)
                found[name] = [a + b for a, b in zip(known, values, strict=True)] if known else values
        return found

    def _read(self, row: int) -> Iterator[tuple[bytes, int, int, bool]]:
        at = row * REGION
        end = at + REGION
        while at + 16 <= end:
            length, count, gauge = _HEAD.unpack_from(self._memory, at)
            if not length:
                return
            cell = (at + 8 + (length + 7) // 8 * 8) // 8
            yield self._memory[at + 8 : at + 8 + length], cell, count, bool(gauge)
            at = (cell + count) * 8

    def _end_of(self, row: int) -> int:
        at = row * REGION
        for _, cell, count, _ in self._read(row):
            at = (cell + count) * 8
        return at - row * REGION


class Registry:
    """All metrics of the program and the memory under them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.regions = Regions(1)
        self.metrics: list[Metric] = []

    def share(self, workers: int) -> None:
        """Make room for so many workers. Call it once, before the fork; what was counted before is dropped."""
        self.regions = Regions(workers)
        self._place_again()

    def adopt(self, row: int) -> None:
        """Say which worker this process is; called just after the fork."""
        self.lock = threading.Lock()
        self.regions.adopt(row)
        self._place_again()

    def _place_again(self) -> None:
        """Move the series that somebody holds already to this worker's region."""
        for metric in self.metrics:
            for key, series in metric.series.items():
                series.cell = metric.place(key)

    def collect(self) -> Iterator[Family]:
        """Yield the families for prometheus_client's exposition."""
        totals = self.regions.totals()
        for metric in self.metrics:
            values: dict[tuple[str, ...], list[float]] = {}
            for key, numbers in totals.items():
                name, *labels = json.loads(key)
                if name == metric.name:
                    values[tuple(labels)] = numbers
            yield metric.family(values)


REGISTRY = Registry()


class Series:
    """One metric with its labels filled in: keep it where something is counted often (0.2 us an increment, not 1)."""

    __slots__ = ("_bounds", "_registry", "cell")

    def __init__(self, registry: Registry, cell: int, bounds: Sequence[float] = ()) -> None:
        self._registry = registry
        self.cell = cell
        self._bounds = bounds

    def inc(self, amount: float = 1) -> None:
        """Add ``amount``."""
        if self.cell >= 0:
            with self._registry.lock:
                self._registry.regions.numbers[self.cell] += amount

    def dec(self, amount: float = 1) -> None:
        """Take ``amount`` away."""
        self.inc(-amount)

    def observe(self, value: float) -> None:
        """Note one value of a histogram."""
        if self.cell >= 0:
            bucket = self.cell + bisect_left(self._bounds, value)
            with self._registry.lock:
                numbers = self._registry.regions.numbers
                numbers[bucket] += 1
                numbers[self.cell + len(self._bounds) + 1] += value


class Metric:
    """What counters, gauges and histograms share."""

    kind = "counter"

    def __init__(self, name: str, text: str, *labels: str, buckets: Sequence[float] = ()) -> None:
        self.name = name
        self.text = text
        self.label_names = labels
        self.buckets = tuple(buckets)
        self.series: dict[tuple[str, ...], Series] = {}
        REGISTRY.metrics.append(self)

    def labels(self, **labels: str) -> Series:
        """Return the series with these labels. All labels of the metric must be given."""
        try:
            key = tuple([labels[name] for name in self.label_names])
        except KeyError as error:
            raise ValueError(f"{self.name} needs the labels {self.label_names}") from error
        found = self.series.get(key)
        return found if found is not None else self._new(key)

    def _new(self, key: tuple[str, ...]) -> Series:
        with REGISTRY.lock:
            return self.series.setdefault(key, Series(REGISTRY, self.place(key), self.buckets))

    def place(self, key: tuple[str, ...]) -> int:
        """Find or make the cells of a series in this worker's region; called under the registry's lock."""
        name = json.dumps([self.name, *key]).encode()
        count = len(self.buckets) + 2 if self.kind == "histogram" else 1
        return REGISTRY.regions.place(name, count, self.kind == "gauge")

    def value(self, **labels: str) -> float:
        """Return the number over all workers (of a histogram: how many values)."""
        key = json.dumps([self.name, *(labels[name] for name in self.label_names)]).encode()
        numbers = REGISTRY.regions.totals().get(key, [0.0])
        return sum(numbers[:-1]) if self.kind == "histogram" else numbers[0]

    def family(self, values: dict[tuple[str, ...], list[float]]) -> Family:
        """Return the metric as prometheus_client writes it out."""
        from prometheus_client import metrics_core  # 50 ms to import, and only /metrics needs it

        if self.kind == "histogram":
            family = metrics_core.HistogramMetricFamily(self.name, self.text, labels=self.label_names)
            for key, numbers in values.items():
                family.add_metric(key, self._cumulated(numbers), numbers[-1])
            return family
        kind = metrics_core.GaugeMetricFamily if self.kind == "gauge" else metrics_core.CounterMetricFamily
        plain = kind(self.name, self.text, labels=self.label_names)
        for key, numbers in values.items():
            plain.add_metric(key, numbers[0])
        return plain

    def _cumulated(self, numbers: list[float]) -> list[tuple[str, float]]:
        total, out = 0.0, []
        for bound, number in zip((*map(str, self.buckets), "+Inf"), numbers, strict=False):
            total += number
            out.append((bound, total))
        return out


class Counter(Metric):
    """A number that only rises."""

    def inc(self, amount: float = 1, **labels: str) -> None:
        """Add ``amount`` to the series with these labels."""
        series = self.series.get(tuple(labels.values())) if tuple(labels) == self.label_names else None
        (series if series is not None else self.labels(**labels)).inc(amount)


class Gauge(Counter):
    """A number that rises and falls: each worker notes its share."""

    kind = "gauge"

    def dec(self, amount: float = 1, **labels: str) -> None:
        """Take ``amount`` away."""
        self.labels(**labels).inc(-amount)


class Histogram(Metric):
    """How often values fell into each bucket."""

    kind = "histogram"

    def observe(self, value: float, **labels: str) -> None:
        """Note one value."""
        self.labels(**labels).observe(value)


_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
_MESSAGES = (0, 10, 100, 1_000, 10_000, 100_000, 1_000_000)

BUILD = Gauge("mailserver_build_info", "1, with the version as label", "version")
STARTED = Gauge("mailserver_process_start_time_seconds", "When the program started, seconds since 1970")
CONNECTIONS = Counter("mailserver_connections_total", "Connections accepted", "protocol")
ACTIVE = Gauge("mailserver_connections", "Connections now", "protocol")
REFUSED = Counter("mailserver_connections_refused_total", "Connections refused by a cap", "protocol", "reason")
FAULTS = Counter("mailserver_faults_total", "Faults of the program itself; each is in the log", "protocol")
COMMANDS = Counter("mailserver_commands_total", "Commands answered", "protocol", "command", "result")
LOGINS = Counter("mailserver_logins_total", "Logins that succeeded", "protocol", "mechanism")
AUTH_FAILURES = Counter("mailserver_auth_failures_total", "Logins that failed", "protocol")
AUTH_SECONDS = Histogram("mailserver_auth_seconds", "Time to check a password", buckets=_SECONDS)
IMAP_MESSAGES = Histogram(
    "mailserver_imap_mailbox_messages", "Messages of a mailbox when it is selected", buckets=_MESSAGES
)
IMAP_SEARCH = Histogram("mailserver_imap_search_seconds", "Time to answer a SEARCH", buckets=_SECONDS)
IMAP_IDLE = Gauge("mailserver_imap_idle_connections", "Sessions in IDLE now")
POP3_RETRIEVED = Counter("mailserver_pop3_messages_retrieved_total", "Messages downloaded by RETR")
POP3_DELETED = Counter("mailserver_pop3_messages_deleted_total", "Messages deleted at QUIT")
POP3_EXPIRED = Counter("mailserver_pop3_messages_expired_total", "Messages removed because they were too old")
SMTP_ACCEPTED = Counter("mailserver_smtp_messages_accepted_total", "Messages accepted", "protocol")
SMTP_OCTETS = Counter("mailserver_smtp_octets_total", "Octets of accepted messages", "protocol")
SMTP_REFUSED = Counter("mailserver_smtp_recipients_refused_total", "Recipients refused", "protocol", "reason")
DELIVERED = Counter("mailserver_deliveries_total", "Deliveries into mailboxes", "result")
QUEUE_MESSAGES = Gauge("mailserver_queue_messages", "Messages waiting for delivery to other servers")
RELAYED = Counter("mailserver_relayed_recipients_total", "Recipients tried at other servers", "result")
WEBHOOKS = Counter("mailserver_webhooks_total", "Receipts of messages told to the webhook", "result")
LOCK_SECONDS = Histogram("mailserver_lock_wait_seconds", "Time waited for a mailbox lock", buckets=_SECONDS)
