"""mbox: all messages of a folder in one file, as c-client and Dovecot keep it.

On disk
-------
The file: for each message a From_ line (`fromline`), the header, an empty line, the body, a line end that belongs to
nobody. Beside it, for moments only, ``<file>.lock`` (the dot lock), ``.<file>.mailserver-journal`` and the same with
``.tmp``; for good, when a person must look, ``.<file>.mailserver-journal.aside-<time>``.

Who does what: `parser` finds the messages, `headers` reads and writes the fields in which the books are kept, `quoting`
turns octets of the file into those of the client and back: these three touch nothing outside (`parser` reads through
a function). `addition` makes the octets of a new message, `changes` says what a change is in octets. `scan` reads a
file as far as needed, `journal` changes it, `locking` locks it, `message` serves from it, and `folder` is what others
use. `entry` has the values, `place` turns them into text, for an index.

Which fact lives where
----------------------
==============================  ===========================================================================
fact                            owner
==============================  ===========================================================================
octets                          the file, with LF (or CRLF, when its first line has it); clients get CRLF
INTERNALDATE                    the From_ line, in local time, as other programs write and read it
UIDVALIDITY, next UID           ``X-IMAPbase`` of the first message, or ``X-IMAP`` of the pseudo message
UID                             ``X-UID``; believed when it ascends and was given, or is the very next
system flags, recent            ``Status`` and ``X-Status``
keywords                        ``X-Keywords`` of the message, all known ones in ``X-IMAPbase``
POP3's unique-id, if            ``X-UIDL`` directly behind ``X-UID`` (`pop`)
another server gave one
==============================  ===========================================================================

These fields, and Content-Length, are no part of the message: clients do not see them, and a message that comes with
some loses them. They stand at the top of the header and end with spaces, so that most changes of flags are made in
place. A file of other programs has them wherever these put them; they stay there.

When the last message is expunged, a pseudo message stays that only holds UIDVALIDITY, the next UID and the keywords
(``FOLDER INTERNAL DATA``); c-client and Dovecot do so too. It is never shown. It stays when messages come again.

Line starts
-----------
A line of a message that begins with ``From ``, or with that behind any number of ``>``, gets one more ``>`` in the
file, and loses it on the way out (mboxrd). It is so in header and body. But a message with a Content-Length that proves
right was counted by its writer and not quoted (Dovecot's own are so), and is served as it stands; unless ``Lines:``
stands right behind it: that is mutt, which counts what others quoted, and then only a line that begins with ``From ``
proves that nobody did.

Octets go in and out unchanged, with two exceptions: the fields named above, and a message that begins with a space and
whose header ends in the middle of a line, which gets its line end.

Locks
-----
fcntl and the dot lock, as Debian's Dovecot writes with; others can be chosen. We never hold one while we wait for the
other (`locking`). Reading takes fcntl alone, shared. A message is copied while it is locked, for the file is rewritten
in place, by us and by others.

What did not change is not read
-------------------------------
`MboxFolder.load` compares device, inode, size and both times with what it knew; that is one system call, and when they
are the same, what it knew is the answer. A file that grew is read from its old end on. The same size and another time:
somebody may have changed flags in place, all headers are read, no bodies. Whatever else: the whole file. A file's time
is set back by a few hundred microseconds when it was young, so that no later change leaves it the same.

Changes
-------
Fields that fit into the old ones' space are written in place if all that differs lies in one sector of 512 octets,
which a disk writes whole. Everything else goes through a journal (`journal`): a rewrite survives the death of the
process at any step and a loss of power, and what another program appends to a file that is half rewritten is kept.
Appending needs none: what a crash leaves is a torn message at the end, behind which the next one begins on a line of
its own.

A Content-Length that is wrong is removed when we number a message: were it left, it could become right by chance when
the file grows, and hide the messages in between.

Differences from Dovecot
------------------------
Messages that we append are quoted and not counted, for programs that do not count (procmail, formail, Python) must find
the same messages; Dovecot, which does not unquote, shows such lines with ``>``. Octets before the first From_ line are
left alone, where Dovecot refuses the file. The pseudo message must have its subject, so that no mail hides itself by a
forged ``X-IMAP``. ``+hhmm`` before the year counts, and so do the minutes of one behind it. UIDs stay below 2**31. A
message without a line end at its end gets none: no empty line stands before the next From_ line then, which is enough
for Dovecot, mutt and Python, while ``formail`` wants ``-e``. A process that is killed while it appends leaves what it
had written, at worst a torn message, and the whole one comes again when its sender tries again.

A same-length change within one second is not seen by Dovecot, which looks at whole seconds; ours sets the time to the
next second then. What mutt does to the file at such a moment Dovecot cannot see, and we can.

procmail and mutt can block each other, for each holds one lock while it waits for the other; that ends when one gives
up. Neither of them is blocked by us for longer than a change takes.
"""
