"""Who may do what to a mailbox: access lists, and the record of who shares with whom."""
