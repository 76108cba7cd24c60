"""The site of the contender that the environment names, for uvicorn."""

from __future__ import annotations

import json
import os

from django.core.asgi import get_asgi_application

from benchmarks.contenders import BY_NAME
from benchmarks.servers import Addresses
from benchmarks.site import set_up

set_up(
    BY_NAME[os.environ["BENCHMARKS_CONTENDER"]],
    Addresses(*json.loads(os.environ["BENCHMARKS_ADDRESSES"])),
)
application = get_asgi_application()
