"""What an SMTP command does: one file per family."""
