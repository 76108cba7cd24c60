"""An engine that cannot be imported, and not for want of a module."""

raise RuntimeError("no key")
