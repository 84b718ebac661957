"""One base algorithm per file; the folder is the registry."""
