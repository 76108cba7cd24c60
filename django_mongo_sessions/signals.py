"""What happens to sessions beside requests. Sign-ins and sign-outs have Django's own signals.

Each signal is sent after MongoDB has acknowledged the change. A receiver that raises is logged, and
breaks nothing. A receiver may be a coroutine function.
"""

from __future__ import annotations

from django.dispatch import Signal

#: A session was ended by someone other than its own sign-out. The sender is `UserSession`.
#: Arguments: `session`, the `UserSession` that has ended; `reason`, one of "user", "others", "all",
#: "limit", "account" and "admin"; and `request`, or None if there is none.
session_revoked = Signal()

#: A session is used by another browser, or from another address, than before. The sender is the
#: class of the store. Arguments: `request`, or None if there is none; `before` and `after`, dicts
#: with `user_agent` and `address`. Only what USER_AGENT and ADDRESS record is compared.
session_client_changed = Signal()

#: A session of the engine that PREDECESSOR names was adopted. The sender is the class of the store.
#: Arguments: `request`, or None if there is none; and `user_id`, the id of the user who is signed
#: in, as text, or None if nobody is.
session_adopted = Signal()
