"""What wrk prints, and what is read from it."""

import pytest

from benchmarks import serving
from benchmarks.servers import ServerError

OUTPUT = """
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   662.72ms  234.95ms   1.21s    72.41%
  Latency Distribution
     50%  653.72ms
     75%  756.38ms
     90%    1.06s 
     99%    1.21s 
  174 requests in 2.03s, 35.48KB read
Requests/sec:     85.71
"""  # noqa: W291


def test_the_figures_are_requests_per_second_and_microseconds():
    assert serving.parse(OUTPUT) == {
        "requests": 174,
        "per_second": 85.71,
        "median": pytest.approx(653_720),
        "p99": pytest.approx(1_210_000),
    }


@pytest.mark.parametrize("line", ["Non-2xx or 3xx responses: 1", "Socket errors: timeout 1"])
def test_a_request_that_failed_is_an_error(line):
    with pytest.raises(ServerError, match="failed"):
        serving.parse(OUTPUT + line)


def test_a_site_that_serves_no_request_is_an_error():
    with pytest.raises(ServerError, match="none was served"):
        serving.parse(OUTPUT.replace("174 requests", "0 requests"))
