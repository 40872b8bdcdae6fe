"""The steps by which a database of the desk comes up to date, run by `workflows.review.migrate`."""
