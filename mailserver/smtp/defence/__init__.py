"""What keeps unwanted mail out: rates, blocklists, greylisting, HELO checks, early talkers, the tar pit."""
