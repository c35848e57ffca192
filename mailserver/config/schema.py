"""The settings: every name, its default, its range, and one sentence that says what it does.

`conf/mailserver.toml` and the error messages are made from this file. A limit stands here with its reason and nowhere
else. Times are in seconds, sizes in octets, unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def setting(
    default: Any, text: str, *, low: int | None = None, high: int | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """Declare a setting: its default, one sentence, the range of numbers or the choices of words."""
    metadata = {"text": text, "low": low, "high": high, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=metadata | {"default": default})
    return field(default=default, metadata=metadata | {"default": default})


def library(default: Any, text: str) -> Any:
    """Declare what only a program that embeds a server sets; it is not a name in the file."""
    return field(default=default, metadata={"text": text, "library": True})


def _port(default: int, what: str) -> Any:
    """Declare a port."""
    return setting(default, f"{what}; 0 takes any free port, -1 does not listen.", low=-1, high=65535)


_HOST = 'Address to listen on; "" is all of IPv4 and IPv6.'
_PORT = "Port for clients that begin in clear (and may ask for TLS)"
_SSL_PORT = "Port for clients that begin with TLS"
_ENABLE = "Offer TLS, at once on ssl_port and by command on port; needs a certificate in [tls]."
_CONNECTIONS = "Connections at the same time; each is a thread and some 30 kB."
_SIZE = "Largest message."
_EXTENSIONS = (
    *("8BITMIME", "AUTH", "BINARYMIME", "CHUNKING", "DELIVERBY", "DSN", "ENHANCEDSTATUSCODES", "EXPN"),
    *("FUTURERELEASE", "HELP", "LIMITS", "MT-PRIORITY", "PIPELINING", "REQUIRETLS", "SIZE", "SMTPUTF8"),
    *("STARTTLS", "VRFY"),
)
_MB50 = 50 * 1024 * 1024


def _extensions() -> Any:
    """Declare which extensions of SMTP a server does without."""
    text = "Extensions neither to announce nor to understand, for peers that misuse them; also VRFY, EXPN and HELP."
    return setting([], text, choices=_EXTENSIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What all servers share. Embedding programs may give where mail lies, ``users`` and the certificate here."""

    host: str = setting("0.0.0.0", _HOST)
    port: int = _port(0, _PORT)
    ssl_port: int = _port(-1, _SSL_PORT)
    enable_ssl: bool = setting(True, _ENABLE)
    max_connections: int = setting(100, _CONNECTIONS, low=1, high=1_000_000)
    connection_timeout_seconds: int = setting(300, "A client that is silent so long is let go.", low=1, high=86400)
    mailbox_path: str = library("", "As in [storage].")
    mailbox_format: str = library("maildir", "As format in [storage].")
    mailbox_layout: str = library("maildir++", "As layout in [storage].")
    users: Mapping[str, str] | None = library(None, "Names and passwords, in place of a users file.")
    certificate: str = library("", "As in [tls].")
    private_key: str = library("", "As in [tls].")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImapConfig(Listener):
    """IMAP."""

    port: int = _port(143, _PORT)
    ssl_port: int = _port(993, _SSL_PORT)
    connection_timeout_seconds: int = setting(
        300,
        "Before login, and in the middle of a command: a client that is silent so long is let go.",
        low=1,
        high=86400,
    )
    idle_timeout_seconds: int = setting(
        1800, "After login, between commands and in IDLE (RFC 9051 section 5.4 asks for 1800).", low=1, high=604800
    )
    idle_notify_seconds: int = setting(
        120, 'In IDLE, say "* OK Still here" so often: routers forget silent connections. 0 = never.', low=0, high=86400
    )
    max_message_size: int = setting(_MB50, _SIZE, low=1024, high=2**40)
    disabled_capabilities: tuple[str, ...] = setting([], "Capabilities not to announce, for clients that misuse them.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pop3Config(Listener):
    """POP3."""

    port: int = _port(110, _PORT)
    ssl_port: int = _port(995, _SSL_PORT)
    max_connections: int = setting(50, _CONNECTIONS, low=1, high=1_000_000)
    connection_timeout_seconds: int = setting(
        600, "A client that is silent so long is let go (RFC 1939 section 3 asks for 600).", low=1, high=86400
    )
    max_message_size: int = setting(_MB50, "Larger messages are listed but not sent.", low=1024, high=2**40)
    delete_on_quit: bool = setting(True, "Remove at QUIT what was deleted; false keeps all mail on the server.")
    pop3_delete_type: str = setting(
        "expunge",
        '"expunge": QUIT removes what was deleted. "flag": it gets \\Deleted, and POP3 does not show it any more.',
        choices=("expunge", "flag"),
    )
    uidl_format: str = setting(
        "dovecot",
        "Form of new unique-ids, those of other servers are kept; another one makes clients download all mail again.",
        choices=("dovecot", "cyrus", "courier", "uidvalidity-uid", "filename"),
    )
    reuse_xuidl: bool = setting(
        False, "An X-UIDL in a message's header, by qpopper or ipopd, is its unique-id; senders can forge it."
    )
    login_delay_seconds: int = setting(
        0,
        "A user may log in again so long after the last login (RFC 2449 section 6.5); 0 = at once.",
        low=0,
        high=86400,
    )
    expire_days: int = setting(
        0, "Mail is removed from every INBOX when it has been there so long; EXPIRE announces it. 0 = never.", low=0
    )
    utf8_headers: str = setting(
        "as-is",
        'Mail with UTF-8 in its header, for clients that did not say UTF8: as it is; "surrogate": its header in ASCII,'
        ' for which every header is read once; "refuse".',
        choices=("as-is", "surrogate", "refuse"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpConfig(Listener):
    """SMTP: mail from other servers, for the domains of this one."""

    port: int = _port(25, _PORT)
    max_message_size: int = setting(_MB50, _SIZE, low=1024, high=2**40)
    trusted_networks: tuple[str, ...] = setting([], 'Who may send anywhere without login: ["192.0.2.0/24"].')
    bare_newline: str = setting(
        "accept",
        '"accept": a line may end with LF alone (the end of a message never does). "refuse": such mail is refused.',
        choices=("accept", "refuse"),
    )
    disabled_extensions: tuple[str, ...] = _extensions()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionConfig(Listener):
    """Submission: mail from users of this server, after login, to anywhere."""

    port: int = _port(587, _PORT)
    ssl_port: int = _port(465, _SSL_PORT)
    max_message_size: int = setting(_MB50, _SIZE, low=1024, high=2**40)
    check_sender: bool = setting(True, "Users who logged in may send only from their own addresses; on port 25 too.")
    check_from: bool = setting(True, "The addresses in From: must be the user's own as well; on port 25 too.")
    messages_per_hour: int = setting(
        1000, "Messages of one user; a stolen password shall not send a million. 0 = no bound.", low=0
    )
    recipients_per_hour: int = setting(5000, "Recipients of all messages of one user. 0 = no bound.", low=0)
    max_hold_seconds: int = setting(
        2592000, "So long may users have a message held before it is sent (FUTURERELEASE); 0 = not at all.", low=0
    )
    disabled_extensions: tuple[str, ...] = _extensions()


@dataclass(frozen=True, slots=True, kw_only=True)
class LmtpConfig(Listener):
    """LMTP: mail from a mail server beside this one. Whoever reaches the port can deliver."""

    host: str = setting("127.0.0.1", 'Address to listen on, or the path of a Unix socket ("/run/mailserver/lmtp").')
    port: int = _port(24, "Port")
    enable_ssl: bool = setting(False, _ENABLE)
    max_message_size: int = setting(_MB50, _SIZE, low=1024, high=2**40)
    disabled_extensions: tuple[str, ...] = _extensions()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig(Listener):
    """HTTP: /metrics for Prometheus and /healthz. No login: keep it away from the world."""

    host: str = setting("127.0.0.1", _HOST)
    port: int = _port(9090, "Port")
    enable_ssl: bool = setting(False, _ENABLE)
    max_connections: int = setting(20, _CONNECTIONS, low=1, high=10_000)
    connection_timeout_seconds: int = setting(10, "A client that is silent so long is let go.", low=1, high=3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """Where the mail lies."""

    mailbox_path: str = setting(
        "/var/spool/mail",
        "<mailbox_path>/<user>/ is the user's Maildir, or directory of mboxes; it may hold {user}, {local}, {domain}.",
    )
    format: str = setting(
        "maildir",
        "How new mailboxes keep their mail; those that are there stay what they are, and an account may have both.",
        choices=("maildir", "mbox"),
    )
    mbox_inbox: str = setting(
        "",
        "Where INBOX is when it is an mbox, e.g. /var/mail/{user}; empty: in the user's directory.",
    )
    layout: str = setting(
        "maildir++",
        'How folders lie in the user\'s directory: "maildir++" (.A.B), or "fs" (A/B), as in Dovecot\'s LAYOUT.',
        choices=("maildir++", "fs"),
    )
    shared_prefix: str = setting(
        "Other Users/",
        "Below this name users find the mailboxes of others that those share by access lists (dovecot-acl); empty: no "
        "access lists and no ACL.",
    )
    index_path: str = setting("", "Where the index (a cache) lies; empty: inside the user's directory.")
    quota_octets: int = setting(
        0, "What a user may keep, in octets; 0 is no limit. userdb_quota_rule in the users file goes first.", low=0
    )
    quota_messages: int = setting(0, "How many messages a user may keep; 0 is no limit.", low=0)
    durability: str = setting(
        "strict",
        '"strict": OK means it is on the disk. "relaxed" leaves out fsync, for tests.',
        choices=("strict", "relaxed"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """Who may log in."""

    users_file: str = setting("users", "user:{SCHEME}hash::::: a line, as in a Dovecot passwd-file.")
    allow_cleartext: bool = setting(False, "Accept passwords without TLS; from loopback they always are.")
    allow_weak_schemes: bool = setting(False, "Accept stored passwords in MD5, DES and plain digests of them.")
    username_lowercase: bool = setting(True, "Alice and alice are the same user.")
    default_domain: str = setting("", "Put behind names without one: alice logs in as alice@default_domain.")
    delay_failures: bool = setting(True, "Slow down addresses that try many wrong passwords; nobody is locked out.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """The certificate. Read again at SIGHUP."""

    certificate: str = setting("", "PEM file: the server's certificate and those above it; empty: no TLS.")
    private_key: str = setting("", "PEM file: its key.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Processes, logging and stopping."""

    workers: int | str = setting(
        1, 'Processes that share the work; "auto" = one per core.', low=1, high=256, choices=("auto",)
    )
    nameservers: tuple[str, ...] = setting(
        [],
        'Name servers to ask: ["127.0.0.1:53"]; none: the system\'s. On DNSSEC only those on loopback are believed.',
    )
    user: str = setting("", "Give up root for this user when the ports are open; empty: stay who we are.")
    grace_seconds: int = setting(10, "At a stop, sessions have so long to say goodbye.", low=0, high=3600)
    log_level: str = setting(
        "info", "Lowest level that is logged.", choices=("debug", "info", "warning", "error", "none")
    )
    log_format: str = setting("logfmt", "Form of the log's lines.", choices=("logfmt", "json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryConfig:
    """Whose mail is whose."""

    recipient_delimiter: str = setting("+", "alice+anything is alice's; empty: no such addresses.")
    postmaster: str = setting("", "User or address for mail to postmaster and abuse; empty: the first user.")
    aliases_file: str = setting("", '"name: target, target" a line; @domain is whatever else comes to a domain.')
    spam_folder: str = setting(
        "Junk", "Folder for mail that a filter before us has marked; made when it is missing; empty: the INBOX."
    )
    spam_header: str = setting("X-Spam-Flag: YES", "The header field with which the filter marks it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """Mail on its way to other servers."""

    path: str = setting("/var/spool/mailserver", "Where waiting mail lies.")
    relay_host: str = setting("", "Send everything through this server (host or host:port); empty: by MX.")
    relay_user: str = setting("", "Log in there with this name; TLS and a right certificate are then demanded.")
    relay_password_file: str = setting("", "File with the password for relay_user.")
    relay_tls: str = setting(
        "auto",
        '"auto": by STARTTLS where it is offered. "required": so or not at all. "implicit": from the beginning (port'
        ' 465). "never".',
        choices=("auto", "required", "implicit", "never"),
    )
    port: int = setting(25, "Where the mail servers of other domains listen.", low=1, high=65535)
    tls: str = setting(
        "opportunistic",
        '"opportunistic": where other servers offer it. "required": nothing goes out in clear. "verified": nor to a'
        " server without a right certificate; much mail then waits in vain.",
        choices=("opportunistic", "required", "verified"),
    )
    workers: int = setting(50, "Deliveries at the same time; threads, made when needed.", low=1, high=1000)
    connections_per_destination: int = setting(3, "Of them, to one domain.", low=1, high=1000)
    retry_first_seconds: int = setting(300, "First pause after a temporary failure; it doubles.", low=1, high=86400)
    retry_longest_seconds: int = setting(14400, "Longest pause between attempts.", low=1, high=604800)
    delay_warning_seconds: int = setting(14400, "Then the sender is told that it is late; 0 = never.", low=0)
    lifetime_seconds: int = setting(
        432000, "Then it goes back to its sender (RFC 5321 section 4.5.4.1: 4-5 days).", low=60
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """A program on the web that is told of each message received: JSON with from, recipients, size, time, address."""

    url: str = setting("", "Where to POST, http or https; empty: nobody is told. A notice: it is not tried again.")
    timeout_seconds: int = setting(10, "For each step of a call.", low=1, high=300)
    max_waiting: int = setting(1000, "Receipts of one worker that wait; more are dropped, mail is not.", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefenceConfig:
    """Against unwanted mail on port 25; all of it is off. Logins, trusted networks, postmaster and abuse pass."""

    connections_per_minute: int = setting(
        0, "Of one address (IPv6: one /64); 0 = no bound, for big senders open many.", low=0
    )
    messages_per_minute: int = setting(0, "Of one address; 0 = no bound, for a list may send many at once.", low=0)
    greeting_delay_seconds: int = setting(
        0,
        "Greet after this pause, and refuse who talks before: programs that only send junk do. It slows all.",
        low=0,
        high=30,
    )
    helo: str = setting(
        "off",
        '"forged": refuse who greets with a name of ours. "strict": also with what is no full host name, as some'
        " printers and old programs do.",
        choices=("off", "forged", "strict"),
    )
    dnsbl: tuple[str, ...] = setting(
        [], 'Refuse whom one of these lists names: ["zen.example.org"]. Whom they list is their decision, not yours.'
    )
    greylist_seconds: int = setting(
        0,
        "Ask unknown senders to come again after so long; it delays the first mail of each network.",
        low=0,
        high=86400,
    )
    tarpit_seconds: int = setting(
        0,
        "After three refusals each further one waits so long; each waiting client holds a connection.",
        low=0,
        high=60,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Bounds against clients that mean harm or are broken. 0 is no bound where it is allowed."""

    login_timeout_seconds: int = setting(180, "Time to log in, all commands together.", low=1, high=86400)
    handshake_timeout_seconds: int = setting(30, "Time for a TLS handshake.", low=1, high=3600)
    max_connections_per_address: int = setting(
        50,
        "Connections from one address (IPv6: one /64). Mail clients open five each, and an office is one address.",
        low=0,
    )
    max_unauthenticated: int = setting(200, "Connections not logged in; over it the oldest of them is let go.", low=0)
    max_bad_commands: int = setting(20, "Commands in a row that made no sense, then the connection ends.", low=1)
    max_junk_commands: int = setting(
        100, "SMTP commands that move no mail (NOOP, RSET, VRFY, unknown recipients), then the connection ends.", low=1
    )
    max_transfer_seconds: int = setting(
        3600, "All octets of one SMTP message, however slowly they drip; 0 = as long as they come.", low=0
    )
    max_line: int = setting(
        65536, "One line of a command: RFC 7162 section 4 wants 8192, sets of UIDs are longer.", low=1000
    )
    max_command: int = setting(1048576, "One IMAP command, its literals in memory included.", low=65536)
    max_literals: int = setting(1000, "Literals of one command.", low=1)
    max_nesting: int = setting(50, "Parentheses in one another, MIME parts in one another.", low=10, high=200)
    max_recipients: int = setting(
        1000, "Recipients of one message (RFC 5321 section 4.5.3.1.8: at least 100).", low=100
    )
    max_hops: int = setting(100, "Received: fields of a message, beyond it loops (RFC 5321 section 6.3).", low=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of them."""

    hostname: str = setting("", "The name of this server in greetings and certificates; empty: the machine's own.")
    domains: tuple[str, ...] = setting([], 'Domains whose mail is kept here: ["example.com"].')
    storage: StorageConfig = field(default_factory=StorageConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    imap: ImapConfig = field(default_factory=ImapConfig)
    pop3: Pop3Config = field(default_factory=Pop3Config)
    smtp: SmtpConfig = field(default_factory=SmtpConfig)
    submission: SubmissionConfig = field(default_factory=SubmissionConfig)
    lmtp: LmtpConfig = field(default_factory=LmtpConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    delivery: DeliveryConfig = field(default_factory=DeliveryConfig)
    queue: QueueConfig = field(default_factory=QueueConfig)
    defence: DefenceConfig = field(default_factory=DefenceConfig)
    webhook: WebhookConfig = field(default_factory=WebhookConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
