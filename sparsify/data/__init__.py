"""The data: `catalogue` is plain data, `load` brings a source into memory, one file a source."""
