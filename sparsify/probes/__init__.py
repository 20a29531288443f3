"""Probes of a ticket: one a file, and one line in the dict `PROBES` (`sparsify.probes.registry`)."""
