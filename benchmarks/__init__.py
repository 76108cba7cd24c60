"""Benchmarks of the engine and its peers. They are never installed. `make bench` runs all of them.

`contenders` lists what is compared, `cases` what each contender does, and `payloads` what the
sessions hold. `suite` is one full run: it starts the `servers`, gives each contender a process
(`worker`) with a site (`site`), and takes `measurements`. `machine` describes where it ran.
`serving` loads sites with wrk, and `network` counts round trips. `targets` judges the results, and
`report`, `plots` and `picture` show them. `counts` compares the commands and the bytes that the
engine sends with expected.json. `compression` has the figures behind `COMPRESS`, `encryption` those
of docs/encryption.md, and `memory` watches a process for long.
"""
