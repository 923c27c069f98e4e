"""Where bytes come from (with checksums) and how batches are made."""
