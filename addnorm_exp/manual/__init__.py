"""Pages that the code generates: docs/configuration.md from the schema, docs/schemes.md from the catalogue,
docs/pre-ln.md from the plan of one scheme."""
