"""SMTP: grammar, data, table, session, replies, commands, errors."""
