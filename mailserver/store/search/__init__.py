"""SEARCH, SORT and THREAD over a mailbox: what is asked becomes functions of messages, cheapest first."""
