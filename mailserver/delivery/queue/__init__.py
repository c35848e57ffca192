"""Mail on its way to other servers: spool (files and schedule), scheduler, relay, and reports to the sender."""
