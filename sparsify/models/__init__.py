"""The model zoo: `catalogue` is plain data, `build` makes a network, one file a family."""
