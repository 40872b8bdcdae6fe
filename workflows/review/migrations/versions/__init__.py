"""One step a file, in the order of their revisions. A step is never changed after a release."""
