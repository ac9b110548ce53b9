"""Pages that live: the playground and the growing report, served to this machine's browser."""
