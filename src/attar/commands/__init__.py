"""One file per verb of the command line. Only the file of the given verb is imported."""
