"""The store: mail on disk, and what is known about it.

Rooms
-----
`Mailbox` is what protocols use: one method is one transaction. It decides; `Keeper` keeps snapshot, index and files in
step; a format (``formats.contract``) knows where octets, flags and UIDs lie in the files and changes them. `Account` is
the same for the mailboxes of a user: `tree` knows where each lies and what it is called, `sharing` who else may use it.
`search` answers SEARCH, SORT and THREAD, `index` is the cache. What follows is Maildir's; ``formats.mbox`` has an essay
of its own.

On disk
-------
``<mailbox_path>/<user>/`` is a Maildir: the INBOX. A folder ``A/B`` is the Maildir ``.A.B`` beside ``cur``, ``new`` and
``tmp`` (Maildir++); with the layout ``fs`` it is the directory ``A/B``. A plain file in such a place is an mbox, and
INBOX may be one (``.INBOX``). With that layout and mboxes from the beginning the directory is shared with Dovecot,
c-client and mutt: every file is a mailbox, directories hold them and are none, INBOX is ``inbox`` or in a spool,
subscriptions are in ``.subscriptions``, the last UIDVALIDITY in ``.imap``, and all that is ours in ``.mailserver.lock``
(``tree.layout``). Beside each Maildir's directories lie ``dovecot-uidlist`` and ``dovecot-keywords``, in
the account's directory ``subscriptions`` and ``dovecot-uidvalidity``: what Dovecot writes and reads there, so do we.
Our own are the lock files ``mailserver.lock`` (a folder), ``mailserver-account.lock`` (the tree) and
``mailserver-pop3.lock`` (a POP3 session, and when the last one began), ``mailserver-special-use``, and the index
``mailserver.sqlite`` with SQLite's companions.

Which fact lives where
----------------------
==============================  ===========================================  =======================================
fact                            owner                                        if it disagrees
==============================  ===========================================  =======================================
octets                          the message file                             a size in the name that is not the
                                                                             file's is ignored
existence, system flags         the file's name                              the name wins (``examine``)
UID, UIDVALIDITY, POP3 UIDL     ``dovecot-uidlist``                          the list wins over the index; when the
and order                                                                    list is gone the index restores its UIDs;
                                                                             ``courierpop3dsizelist`` is taken into
                                                                             it when it is new, ``courierimapuiddb``
                                                             when there is no list yet
keywords                        letters a-z in the name, with                the file wins; the 27th keyword of a
                                ``dovecot-keywords``                         mailbox and later ones have no letter
                                                                             and live in the index only
INTERNALDATE                    the file's mtime
subscriptions, special use      files of those names
rights of others                ``dovecot-acl`` in the mailbox               the list wins over
                                                                             ``mailserver-shared.json``, which says
                                                                             whose lists to look at (`sharing`)
MODSEQ, expunged UIDs           the index                                    a lost index is rebuilt with MODSEQs
                                                                             above all that were ever told
ENVELOPE, BODYSTRUCTURE, ...    the index, as facts                          made again when wanted
==============================  ===========================================  =======================================

In memory
---------
A `Keeper` holds one immutable `Snapshot` of its folder. Every change replaces the snapshot; unchanged messages stay the
same objects, so whoever holds an older snapshot finds what is new by comparing identities. Sessions hold snapshots and
nothing else. Whether anything changed is read from a counter in shared memory (`counters`), which every writer of every
process advances after its commit, under the folder's lock; the other processes then take the rows with a higher
revision from the index. Changes by other programs are found by the times of ``cur``, ``new``, ``dovecot-uidlist`` and
``dovecot-keywords`` (`state.may_hide_changes` has the care that times need), at once where inotify watches (`watch`).
Our own changes move those times too, and one of somebody else may hide behind them: after things came to rest, one look
at the directories makes sure.

Mailboxes that nobody has open stay in memory for the next one who comes, within bounds for all accounts of the process
together (`kept`); so do values made from messages, and folded texts (``search.texts``). The index remembers the last
10,000 expunged UIDs of a folder: whoever missed more is told what is left.

What could not be written to the index is remembered as such: the next change writes everything, and until then every
other process finds it in the files.

Locks
-----
In this order: the account's (rank 0), then folders' in the order of their paths (rank 1), then the one that guards new
UIDVALIDITYs (rank 2), then that of the record of what is shared (rank 3); `locks` asserts it. Of two accounts only
folders' locks are ever held together. Each is a lock of the process and then ``flock``. Inside them the lane
(`lane`), left whenever something else is waited for. Reading needs no lock: a file that is renamed or unlinked while it
is open still reads. DELETE and RENAME hold the account's lock and the folder's. Whoever still has the mailbox open is
told by ``gone``, in another process by the inode of ``cur``: a folder made anew under the name is another mailbox.
Among nested directories RENAME is one ``rename`` of the directory with whatever is in it, under the locks of all
mailboxes below.

A message's way in
------------------
`Incoming` writes it to ``tmp/`` and syncs it; under the lock it is renamed (or linked) into ``new/`` or ``cur/`` and
its UID is appended to ``dovecot-uidlist``; the index follows; the change is published; then, the lock given back,
directory and list are synced, shared with whoever else waits for the same. Only then does the caller say OK. A crash
between two of these steps leaves a file in ``tmp/`` that nobody sees, or a message that gets its UID at the next look.
What has lain in ``tmp/`` for 36 hours is swept away when the account is opened. Every directory that is made is synced
in the one that holds its name. When the sync at the end fails, the message is taken away again, for its sender was told
NO.
"""
