"""Pages that are written by the code itself: docs/configuration.md from the schema, docs/schemes.md from the catalogue."""
