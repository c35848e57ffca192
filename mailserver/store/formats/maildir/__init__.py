"""Maildir++ as Dovecot keeps it: file names, dovecot-uidlist, dovecot-keywords, the folder itself."""
