"""What a command does: one file per family, same names as in grammar."""
