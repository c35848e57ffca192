"""IMAP: framer, grammar, table, session, view, commands, responses."""
