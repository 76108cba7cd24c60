"""How fast the engine is, beside its peers; never shipped. `make bench` runs all of it."""
