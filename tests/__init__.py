"""The tests, and the sites and programs that they start."""

import logging

# In development mode, asyncio warns of each step that takes more than a tenth of a second. On a
# busy machine any step does, and a test reads the log for what is wrong: none judges a time.
_SLOW = "Executing %s took %.3f seconds"

logging.getLogger("asyncio").addFilter(lambda record: record.msg != _SLOW)
