"""Hostile input: cookies, stored documents and payloads of any bytes.

`python -m tests.fuzz` lets a fuzzer that is guided by coverage make them up, and
`tests/fuzz/test_corpus.py` runs what it kept, without it.
"""
