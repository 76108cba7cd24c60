"""Whether the memory of a process stayed flat."""

from benchmarks import memory
from benchmarks.memory import Sample

EARLY = [Sample(50, 10), Sample(100, 100)]


def test_memory_may_grow_a_little_after_a_tenth_of_the_operations():
    assert memory.fault([*EARLY, Sample(1_000, 105)]) is None


def test_memory_that_grows_more_is_a_fault():
    fault = memory.fault([*EARLY, Sample(1_000, 106)])

    assert fault.startswith("The memory grew to 1.06 times what it was after 100 loads and saves.")


def test_a_sample_is_a_line():
    assert memory.describe(Sample(20_000, 50 * 2**20)) == "   20,000 loads and saves:   50.0 MiB"
