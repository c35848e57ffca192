"""POP3: table, session, commands, errors."""
