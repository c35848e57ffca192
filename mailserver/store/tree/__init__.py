"""The mailboxes of an account by name: where each lies, how names become places, what is subscribed."""
