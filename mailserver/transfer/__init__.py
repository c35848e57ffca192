"""Mail on its way to this server from another one, and back: import and export.

`sources` says what another place has: folders, and in each of them messages with flags, dates and, where the place has
them, UIDs. `engine` brings them here, several at a time, in order; `record` is what it remembers of that, so that an
import that was cut short goes on, and a second one changes nothing. `naming` has what folders are called there and
here, `model` the values that all of them pass around. `export` writes an account out again.

What identifies a message
-------------------------
Within a folder and its UIDVALIDITY the UID, for sources that have none what comes nearest: POP3's unique-id, the name
of a file. ``mailserver-imported`` in the account's directory has all that were taken, as what, and with which flags. A
line is written there when the messages are safe here; so after a crash some may be here and not be noted. Hence a
message that is not noted is compared with those here that are not noted either: the same size, date and Message-ID is
the same message, or, where the source has no dates, the same octets. That also holds for mail that came here by other
ways.

When files are about to become messages, that is noted before, with their UIDs: whoever dies between naming and
numbering them leaves files that somebody else would number otherwise. The next import does it (``Mailbox.enlist``).

UIDs
----
A folder that comes into an empty mailbox brings UIDVALIDITY, UIDs and UIDNEXT along: clients that knew the old server
download nothing. Should mail be delivered here meanwhile, it may take a UID that the old server has for another
message. Then the mailbox gets a UIDVALIDITY of its own, for to show two messages under one UID would be wrong; clients
download that folder again.
"""
