"""What breaks, broken on purpose, and counted: `make chaos`."""
