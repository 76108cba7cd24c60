"""Break MongoDB, its connections and its clients on purpose: `make chaos`."""
