"""How a mailbox lies on disk: the truth."""
