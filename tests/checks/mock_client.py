"""A client for tests, as a site writes it."""

import mongomock

client = mongomock.MongoClient
