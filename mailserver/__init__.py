"""A mail server: SMTP in, Maildir in the middle, IMAP and POP3 out.

The names below are the library; everything else is reached by its full path.
"""

__version__ = "0.1.0"
