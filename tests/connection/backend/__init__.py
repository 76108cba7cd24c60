"""As much of django-mongodb-backend as the engine uses, for Djangos that it has no release for.

tests/packaging/test_mongodb_backend.py runs a site with the real one.
"""
